"""Streams and followers through faults: web processes that die, a Redis that forgets, a database that is away."""
from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.utils import timezone

from agents import versions
from opspawn_site.fleet.client import Client
from opspawn_site.fleet.follow import follow_task
from opspawn_site.fleet.transcript import Transcript
from opspawn_site.tests.servers import Cable, served_by_process, web_process
from opspawn_site.tests.streams import Reading, note, shown, stored, told
from tasks import lifecycle
from tasks.models import Task
from tasks.submission import Submission
from tasks.tests.clients import Consumer
from tasks.tests.factories import TaskFactory
from tasks.tests.workers import Worker, database_url, running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(180)]

TURNS = 8
ADDING = [{"tool_calls": [{"name": "add_numbers", "arguments": {"a": n, "b": 1}}], "delay_seconds": 0.3}
          for n in range(TURNS)]  # fmt: skip
TYPES = ["task.created", "task.started", *["step.started", "step.completed"] * (2 * TURNS + 1), "task.completed"]


@pytest.fixture(scope="module")
def worker(django_db_setup: Any, django_db_blocker: Any) -> Iterator[Worker]:
    with django_db_blocker.unblock(), running_worker() as running:
        yield running


@pytest.fixture
def consumer(worker: Worker) -> Consumer:
    config = {
        "model": "scripted/list", "tools": ["add_numbers"],
        "provider_options": {"script": [*ADDING, {"text": "done", "delay_seconds": 0.3}]},
    }  # fmt: skip
    versions.create("adder", config, by="test")
    return Consumer()


def submit(consumer: Consumer) -> Task:
    return lifecycle.submit(Submission(agent="adder", input_data={"prompt": "add"}, api_key=consumer.key))[0]


def empty_redis() -> None:
    with contextlib.closing(redis.Redis.from_url(settings.REDIS_URL)) as broker:
        broker.flushdb()


def test_the_whole_run_of_a_real_worker_is_told_once_and_in_order(consumer: Consumer) -> None:
    with served_by_process(DATABASE_URL=database_url()) as site:
        task = submit(consumer)
        reading = Reading(site, consumer.token, task.id)
        until(lambda: reading.ended, 40)
        assert told(reading) == shown(site, consumer.token, task.id)
    assert [(event.seq, event.type) for event in reading.events] == list(enumerate(TYPES, start=1))


def test_a_stream_goes_on_at_another_web_process_after_its_own_was_killed_and_redis_emptied(
    consumer: Consumer,
) -> None:
    web = {"DATABASE_URL": database_url()}
    with web_process(**web) as (process, first), web_process(**web) as (_, second):
        task = submit(consumer)
        before = Reading(first, consumer.token, task.id)
        until(lambda: len(before.events) >= 6)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: before.ended)
        empty_redis()
        after = Reading(second, consumer.token, task.id, before.seqs[-1])
        until(lambda: after.ended, 60)
    assert after.ended == "closed"
    assert [*before.seqs, *after.seqs] == list(range(1, len(TYPES) + 1))
    assert [event.type for event in (*before.events, *after.events)] == TYPES


def test_an_open_stream_does_not_notice_that_redis_was_emptied(consumer: Consumer) -> None:
    without_redis = {"DATABASE_URL": database_url(), "REDIS_URL": "redis://127.0.0.1:1/0"}  # nor that it is away
    with served_by_process(**without_redis) as site:
        task = submit(consumer)
        reading = Reading(site, consumer.token, task.id)
        until(lambda: len(reading.events) >= 4)
        empty_redis()
        until(lambda: reading.ended, 60)
    assert [event.type for event in reading.events] == TYPES


def test_a_server_that_is_told_to_stop_ends_its_streams_at_once() -> None:
    consumer = Consumer()
    task: Task = TaskFactory(api_key=consumer.key, scheduled_at=timezone.now() + timedelta(hours=1))
    note(task.id, 3)
    with web_process(DATABASE_URL=database_url()) as (process, site):
        readings = [Reading(site, consumer.token, task.id) for _ in range(20)]
        until(lambda: all(reading.events for reading in readings))
        stopped = time.monotonic()
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert time.monotonic() - stopped < 3
    assert {reading.ended for reading in readings} == {"closed"}


def test_a_stream_stays_open_while_postgresql_is_away_and_goes_on_after() -> None:
    consumer, at = Consumer(), settings.DATABASES["default"]
    task: Task = TaskFactory(api_key=consumer.key, scheduled_at=timezone.now() + timedelta(hours=1))
    note(task.id, 3)
    cable = Cable(at["HOST"], int(at["PORT"]))
    url = database_url().replace(f":{at['PORT']}/", f":{cable.port}/")
    with served_by_process(DATABASE_URL=url) as site:
        reading = Reading(site, consumer.token, task.id)
        until(lambda: reading.events)
        cable.pull()
        note(task.id, 4)
        until(lambda: reading.comments, 15)  # it lives
        assert (reading.ended, reading.seqs) == (None, [1, 2, 3])
        cable.plug_in()
        until(lambda: len(reading.events) == 7, 10)
        lifecycle.cancel(task.id, by="test")
        until(lambda: reading.ended)
        cable.pull()
    assert (reading.ended, [(event.seq, event.type) for event in reading.events]) == ("closed", stored(task.id))


class Recorder(Transcript):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self.steps: list[int] = []
        self.ends: list[str] = []

    def text(self, delta: dict[str, Any]) -> None:
        pass

    def event(self, event: dict[str, Any]) -> None:
        self.events.append(event["seq"])

    def step(self, step: dict[str, Any]) -> None:
        self.steps.append(step["seq"])

    def ended(self, task: dict[str, Any], seconds: float, simulated: bool) -> None:
        self.ends.append(task["status"])


def test_a_follower_shows_every_step_once_while_the_web_process_dies_twice_and_redis_forgets(
    consumer: Consumer,
) -> None:
    recorder, web = Recorder(), {"DATABASE_URL": database_url()}
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        with web_process(listener, **web) as (process, site):
            client = Client({"api": f"{site}/api/v1", "api_key": consumer.token})
            task = client.submit({"agent": "adder", "input_data": {"prompt": "add"}})
            following = pool.submit(follow_task, client, task, recorder, time.sleep)
            until(lambda: len(recorder.steps) >= 2)
            process.kill()
        with web_process(listener, **web) as (process, _):
            seen = len(recorder.steps)
            empty_redis()
            until(lambda: len(recorder.steps) > seen, 40)
            process.terminate()
            process.wait(10)
        with web_process(listener, **web):
            assert following.result(60)["status"] == "completed"
    assert recorder.steps == list(range(1, 2 * TURNS + 2))
    assert recorder.events == list(range(1, len(TYPES) + 1))
    assert recorder.ends == ["completed"]
