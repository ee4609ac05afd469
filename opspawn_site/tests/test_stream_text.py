"""The text of a model call in its task's stream: live, without an id, from the beginning, and never in events' way."""
from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.conf import settings

from agents import versions
from llm.messages import Delta
from opspawn_site.tests.servers import Cable, served_by_process, serving
from opspawn_site.tests.streams import Reading, note, stored, told
from tasks import lifecycle
from tasks.hearing import HEARING, Ear, Heard
from tasks.live import PREFIX, VOICE, Speech
from tasks.models import Event, Step, Task
from tasks.submission import Submission
from tasks.tests.clients import Consumer
from tasks.tests.factories import TaskFactory
from tasks.tests.workers import database_url, running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def consumer(transactional_db: None) -> Consumer:
    return Consumer()


@pytest.fixture
def speech(consumer: Consumer) -> Iterator[Speech]:
    """A model call of a task of this consumer, its second step."""
    task: Task = TaskFactory(api_key=consumer.key)
    note(task.id)
    made = VOICE.begin(task.id, 2)
    yield made
    made.end()


def task_of(speech: Speech) -> str:
    return speech.channel.removeprefix(PREFIX)


def deltas(reading: Reading) -> list[dict[str, Any]]:
    """The data of each delta that came, in order."""
    blocks = [block for block in reading.text.split("\n\n") if block.startswith("event: llm.delta\n")]
    found = [json.loads(re.fullmatch(r"event: llm\.delta\ndata: (.*)", block)[1]) for block in blocks]  # type: ignore[index]
    assert all(set(event) == {"task_id", "type", "data"} and event["type"] == "llm.delta" for event in found)
    return [event["data"] for event in found]


def text_of(reading: Reading) -> str:
    text = ""
    for delta in deltas(reading):
        assert delta["offset"] in (0, len(text))
        text = text[: delta["offset"]] + delta["text"]
    return text


def test_text_comes_as_it_is_said_and_is_no_event(consumer: Consumer, speech: Speech) -> None:
    task_id = task_of(speech)
    with serving() as site:
        reading = Reading(site, consumer.token, task_id)
        until(lambda: reading.events)
        for word in ("It ", "is\n", "\u2028 8 \U0001f600."):
            speech.say(Delta(word))
            until(lambda: text_of(reading).endswith(word))  # noqa: B023
        lifecycle.cancel(task_id, by="test")
        until(lambda: reading.ended)

    assert text_of(reading) == "It is\n\u2028 8 \U0001f600."
    assert {delta["step"] for delta in deltas(reading)} == {2}
    assert [(event.seq, event.type) for event in reading.events] == stored(task_id)
    assert not Event.objects.filter(type="llm.delta").exists()
    assert reading.ended == "closed"


def test_who_joins_in_the_middle_gets_the_text_so_far_as_one_delta(consumer: Consumer, speech: Speech) -> None:
    speech.say(Delta("said before anybody came, "))
    with serving() as site:
        first = Reading(site, consumer.token, task_of(speech))
        until(lambda: text_of(first))
        speech.say(Delta("then this"))
        until(lambda: text_of(first).endswith("this"))
        second = Reading(site, consumer.token, task_of(speech))
        until(lambda: text_of(second))

    assert deltas(second) == [{"step": 2, "offset": 0, "text": "said before anybody came, then this"}]


def test_another_attempt_begins_at_0_again(consumer: Consumer, speech: Speech) -> None:
    with serving() as site:
        reading = Reading(site, consumer.token, task_of(speech))
        speech.say(Delta("broken off"))
        until(lambda: text_of(reading))
        speech.again()
        speech.say(Delta("whole"))
        until(lambda: text_of(reading) == "whole")

    assert deltas(reading)[-1] == {"step": 2, "offset": 0, "text": "whole"}


def test_fifty_readers_are_one_connection_and_all_hear_the_same(consumer: Consumer, speech: Speech) -> None:
    with contextlib.closing(redis.Redis.from_url(settings.CELERY_BROKER_URL)) as client, serving() as site:
        readings = [Reading(site, consumer.token, task_of(speech)) for _ in range(50)]
        until(lambda: all(reading.events for reading in readings))
        until(lambda: client.pubsub_numsub(speech.channel)[0][1])
        speech.say(Delta("to all of you"))
        until(lambda: all(text_of(reading) == "to all of you" for reading in readings))
        assert client.pubsub_numsub(speech.channel)[0][1] == 1
        for reading in readings:
            reading.leave()
        until(lambda: client.pubsub_numsub(speech.channel)[0][1] == 0)
    assert HEARING._heard == {}


def test_redis_away_leaves_the_events_alone_and_back_brings_the_text(consumer: Consumer) -> None:
    task: Task = TaskFactory(api_key=consumer.key)
    note(task.id)
    broker = redis.connection.parse_url(settings.CELERY_BROKER_URL)
    cable = Cable(broker["host"], broker["port"])
    address = settings.CELERY_BROKER_URL.replace(f":{broker['port']}", f":{cable.port}")
    with served_by_process(DATABASE_URL=database_url(), REDIS_URL=address) as site:
        reading = Reading(site, consumer.token, task.id)
        until(lambda: reading.events)
        cable.pull()
        note(task.id, 5)
        until(lambda: reading.seqs == [1, 2, 3, 4, 5, 6], 5)
        assert reading.ended is None
        cable.plug_in()
        speech = VOICE.begin(task.id, 1)
        speech.say(Delta("heard again"))
        until(lambda: text_of(reading) == "heard again", 30)
        speech.end()
        lifecycle.cancel(task.id, by="test")
        until(lambda: reading.ended)
    assert reading.ended == "closed"
    assert [event["seq"] for event in told(reading)] == list(range(1, 8))


def test_a_redis_that_was_never_there_costs_a_stream_nothing_but_the_text(consumer: Consumer) -> None:
    task: Task = TaskFactory(api_key=consumer.key)
    note(task.id)
    with served_by_process(DATABASE_URL=database_url(), REDIS_URL="redis://127.0.0.1:1/0") as site:
        reading = Reading(site, consumer.token, task.id)
        until(lambda: reading.seqs == [1])
        note(task.id)
        until(lambda: reading.seqs == [1, 2])
        lifecycle.cancel(task.id, by="test")
        until(lambda: reading.ended == "closed")


@pytest.mark.slow
def test_the_answer_of_a_worker_is_seen_before_its_step_ends(consumer: Consumer) -> None:
    script = {"script": [{"text": "one two three four five six seven eight", "delay_seconds": 3}]}
    versions.create("teller", {"model": "scripted/list", "provider_options": script}, by="test")
    with running_worker(), serving() as site:
        given = Submission(agent="teller", input_data={"prompt": "tell"}, api_key=consumer.key)
        task, _ = lifecycle.submit(given)
        reading = Reading(site, consumer.token, task.id)
        until(lambda: text_of(reading).startswith("one two"))
        assert Step.objects.get(task=task).status == "started"
        until(lambda: reading.ended, 40)

    assert "one two three four five six seven eight".startswith(text_of(reading))  # its end may come after the task's
    assert 3 <= len(deltas(reading)) <= 10
    assert [(event.seq, event.type) for event in reading.events] == stored(task.id)


# What is heard and passed on, without a wire.


def told_of(text: str, offset: int = 0, step: int = 1, end: bool = False) -> dict[str, Any]:
    return {"step": step, "offset": offset, "text": text, "end": end}


def test_a_piece_whose_beginning_was_not_heard_is_left_out() -> None:
    heard = Heard()
    assert not heard.take(told_of("middle", offset=7))
    assert heard.take(told_of("the be"))
    assert not heard.take(told_of("ginning", offset=8))
    assert not heard.take(told_of("ginning", offset=6, step=2))
    assert heard.take(told_of("ginning", offset=6))

    assert heard.text == "the beginning"


def test_a_slow_reader_is_told_in_one_piece_what_came_meanwhile() -> None:
    heard, ear = Heard(), Ear("task_1")
    heard.take(told_of("a"))
    assert b'"offset":0,"text":"a"' in ear.frame(heard)
    assert ear.frame(heard) == b""
    for offset, letter in enumerate("bcd", start=1):
        heard.take(told_of(letter, offset))
    assert b'"offset":1,"text":"bcd"' in ear.frame(heard)


def test_what_is_over_is_finished_for_who_heard_its_beginning_and_not_begun_for_others() -> None:
    heard, ear = Heard(), Ear("task_1")
    heard.take(told_of("the be"))
    ear.frame(heard)
    heard.take(told_of("ginning", 6, end=True))

    assert b'"offset":6,"text":"ginning"' in ear.frame(heard)
    assert Ear("task_1").frame(heard) == b""


def test_nonsense_on_the_channel_is_nothing(consumer: Consumer, speech: Speech) -> None:
    with contextlib.closing(redis.Redis.from_url(settings.CELERY_BROKER_URL)) as client, serving() as site:
        reading = Reading(site, consumer.token, task_of(speech))
        until(lambda: client.pubsub_numsub(speech.channel)[0][1])
        for nonsense in ("{", "[]", '{"step": "x"}', b"\xff", "1"):
            client.publish(speech.channel, nonsense)
        threading.Thread(target=speech.say, args=(Delta("sense"),)).start()
        until(lambda: text_of(reading) == "sense")
        reading.leave()
