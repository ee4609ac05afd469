"""The text of a call under way, over a real Redis: to who listens, from the beginning, and never in a task's way."""
from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from llm.messages import Delta
from tasks.live import MAX_CHARS, PREFIX, Speech, Voice
from tasks.tests.workers import until

TASK = "task_0123456789abcdef0123456789abcdef"


@pytest.fixture
def voice() -> Iterator[Voice]:
    made = Voice()
    yield made
    made._speeches.clear()


@contextlib.contextmanager
def listening(task_id: str = TASK) -> Iterator[list[dict[str, Any]]]:
    """What a web process is told from now on."""
    heard: list[dict[str, Any]] = []
    client = redis.Redis.from_url(settings.CELERY_BROKER_URL)
    channels = client.pubsub(ignore_subscribe_messages=True)
    channels.subscribe(**{PREFIX + task_id: lambda message: heard.append(json.loads(message["data"]))})
    thread = channels.run_in_thread(sleep_time=0.02, daemon=True)
    try:
        until(lambda: client.pubsub_numsub(PREFIX + task_id)[0][1])
        yield heard
    finally:
        thread.stop()
        thread.join(5)
        channels.close()
        client.close()


def text_of(heard: list[dict[str, Any]]) -> str:
    """As a reader puts it together."""
    text = ""
    for told in heard:
        assert told["offset"] in (0, len(text))
        text = text[: told["offset"]] + told["text"]
    return text


def test_what_is_said_is_heard_in_a_few_pieces_and_its_end_too(voice: Voice) -> None:
    with listening() as heard:
        speech = voice.begin(TASK, 3)
        for number in range(500):
            speech.say(Delta(f"{number} é "))
        until(lambda: heard)
        speech.say(Delta("the end"))
        speech.end()
        until(lambda: heard[-1]["end"])

    assert text_of(heard) == "".join(f"{number} é " for number in range(500)) + "the end"
    assert len(heard) <= 4
    assert {told["step"] for told in heard} == {3}


def test_who_listens_late_hears_the_text_so_far_first(voice: Voice) -> None:
    speech = voice.begin(TASK, 1)
    with listening() as first:
        speech.say(Delta("said before "))
        until(lambda: first)
        with listening() as second:
            until(lambda: second)
            speech.say(Delta("and after"))
            until(lambda: text_of(second).endswith("after"))

    assert second[0] == {"step": 1, "offset": 0, "text": "said before ", "end": False}
    assert text_of(first) == text_of(second) == "said before and after"


def test_nothing_is_published_while_nobody_listens(voice: Voice) -> None:
    with contextlib.closing(redis.Redis.from_url(settings.CELERY_BROKER_URL)) as client:
        before = client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)
        asked = client.info("commandstats").get("cmdstat_pubsub|numsub", {}).get("calls", 0)
        speech = voice.begin(TASK, 1)
        speech.say(Delta("to nobody"))
        until(lambda: client.info("commandstats")["cmdstat_pubsub|numsub"]["calls"] > asked + 2)
        assert client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0) == before
    speech.end()


def test_an_attempt_that_failed_is_forgotten_and_the_next_begins_at_0(voice: Voice) -> None:
    with listening() as heard:
        speech = voice.begin(TASK, 1)
        speech.say(Delta("broken off"))
        until(lambda: heard)
        speech.again()
        speech.say(Delta("whole"))
        until(lambda: len(heard) > 1)
        speech.end()

    assert heard[1] | {"end": False} == {"step": 1, "offset": 0, "text": "whole", "end": False}


def test_the_thread_rests_when_no_call_is_under_way(voice: Voice) -> None:
    voice.begin(TASK, 1).end()

    until(lambda: not voice._speeches)


def test_a_text_without_end_is_told_up_to_a_bound() -> None:
    speech = Speech(TASK, 1)
    for _ in range(3):
        speech.say(Delta("x" * (MAX_CHARS // 2)))
    assert len(json.loads(speech.news(1) or "")["text"]) == MAX_CHARS
    speech.say(Delta("more"))

    assert speech.news(1) is None


@pytest.mark.parametrize("hangs", [False, True], ids=["closed", "accepts and says nothing"])
def test_a_redis_that_is_away_holds_nobody_up(voice: Voice, settings: Any, hangs: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        if not hangs:
            listener.close()
        speech = voice.begin(TASK, 1)
        until(lambda: voice._in_trouble)
        started = time.monotonic()
        for _ in range(1000):
            speech.say(Delta("text"))
        speech.end()
        took = time.monotonic() - started

    assert took < 1
