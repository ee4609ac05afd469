"""Submitting a task and following it to its end over REST: `submit`, and the heart of `demo`."""
from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from opspawn_site.fleet.client import Client, Unreachable
from opspawn_site.fleet.tail import AGAIN_SECONDS, FINAL, LIVE, PATIENCE_SECONDS, Tail
from opspawn_site.fleet.transcript import Transcript, transcript

SUBMIT_SECONDS = 10.0  # for a part of the fleet that is starting again
LOOK_SECONDS = 0.1  # for what has come
OPEN = "started"  # a step that has not ended yet

T = TypeVar("T")


def submit(line: dict[str, Any], agent: str, prompt: str, *, follow: bool) -> int:
    """`submit`: prints the task's id, or follows it: exit code 0 when it completed, 1 when not."""
    client = Client(line)
    body, once = {"agent": agent, "input_data": {"prompt": prompt}}, secrets.token_hex(16)
    task = _patiently(partial(client.submit, body, idempotency_key=once), time.sleep, SUBMIT_SECONDS)
    if not follow:
        print(task["task_id"])
        return 0
    shown = transcript(as_json=False)
    shown.submitted(task, prompt)
    try:
        return exit_code(follow_task(client, task, shown, time.sleep))
    except KeyboardInterrupt:
        shown.closing(f"{task['task_id']} goes on without you.")
        return 130


def follow_task(
    client: Client, task: dict[str, Any], shown: Transcript, pause: Callable[[float], None]
) -> dict[str, Any]:
    """Show each step as it ends and return the task when it has. `pause` may look after other things meanwhile."""
    task_id, started = task["task_id"], time.monotonic()
    tail = Tail(client, task_id)
    told: dict[int, dict[str, Any]] = {}
    while True:
        events = tail.fresh()
        for event in events:
            shown.text(event["data"]) if event["type"] == LIVE else shown.event(event)
        if any(event["type"].startswith("step.") for event in events):
            for step in _patiently(partial(client.steps, task_id), pause):
                if step["seq"] not in told and step["status"] != OPEN:
                    told[step["seq"]] = step
                    shown.step(step)
        if any(event["type"] in FINAL for event in events):
            last = _patiently(partial(client.task, task_id), pause)
            shown.ended(last, time.monotonic() - started, any(step["simulated"] for step in told.values()))
            return last
        pause(LOOK_SECONDS)


def _patiently(ask: Callable[[], T], pause: Callable[[float], None], seconds: float = PATIENCE_SECONDS) -> T:
    """What the API answers, asked again for so long while a part of the fleet is away."""
    asked = time.monotonic()
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() - asked > seconds:
                raise
        pause(AGAIN_SECONDS)


def exit_code(task: dict[str, Any]) -> int:
    return 0 if task["status"] == "completed" else 1
