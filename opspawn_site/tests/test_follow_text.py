"""A follower on a terminal sees what the model says while it says it; programs and pipes see steps alone."""
from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from agents import versions
from opspawn_site.fleet.client import Client
from opspawn_site.fleet.follow import follow_task
from opspawn_site.fleet.transcript import JsonTranscript, Transcript
from opspawn_site.tests.servers import serving
from tasks.tests.clients import Consumer
from tasks.tests.workers import running_worker, until

STEP: dict[str, Any] = {
    "seq": 1, "kind": "llm", "name": "m", "model": "m", "status": "done", "summary": "Hello", "error": None,
    "usage": {"input_tokens": 1, "output_tokens": 1, "cost_usd": "0"}, "simulated": True, "seconds": 1,
}  # fmt: skip


def on(screen: io.StringIO, *, terminal: bool) -> Transcript:
    made = Transcript()
    made._console = Console(file=screen, force_terminal=terminal, width=40, highlight=False)
    return made


def delta(text: str, offset: int = 0) -> dict[str, Any]:
    return {"step": 1, "offset": offset, "text": text}


def test_the_text_is_shown_on_a_line_that_gives_way_to_the_step() -> None:
    screen = io.StringIO()
    shown = on(screen, terminal=True)

    shown.text(delta("Hello \x1b[31m"))
    shown.text(delta("wor\nld, " * 10, offset=11))
    assert "\x1b[31mwor" not in screen.getvalue()  # what a model writes moves no cursor and paints nothing
    until(lambda: "wor ld," in screen.getvalue())
    shown.step(STEP)

    assert shown._ticker is None
    assert screen.getvalue().rstrip().endswith("simulated\x1b[0m")


def test_a_pipe_and_a_program_are_not_shown_it() -> None:
    screen = io.StringIO()
    on(screen, terminal=False).text(delta("Hello"))
    JsonTranscript().text(delta("Hello"))

    assert screen.getvalue() == ""


class Recorder(Transcript):
    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def text(self, delta: dict[str, Any]) -> None:
        self.said.append(delta)

    def event(self, event: dict[str, Any]) -> None: ...

    def step(self, step: dict[str, Any]) -> None: ...

    def ended(self, task: dict[str, Any], seconds: float, simulated: bool) -> None: ...


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_follower_is_told_what_the_model_says(transactional_db: None) -> None:
    script = {"script": [{"text": "one two three four", "delay_seconds": 2}]}
    versions.create("teller", {"model": "scripted/list", "provider_options": script}, by="test")
    recorder = Recorder()
    with running_worker(), serving() as site:
        client = Client({"api": f"{site}/api/v1", "api_key": Consumer().token})
        task = client.submit({"agent": "teller", "input_data": {"prompt": "tell"}})
        ended = follow_task(client, task, recorder, time.sleep)

    assert ended["status"] == "completed"
    assert "".join(said["text"] for said in recorder.said).startswith("one two three")
