"""A cancel or a deadline in a call of a real worker whose heartbeat is slow: the hint reaches it, slots come free."""
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from kombu.exceptions import OperationalError

from agents import versions
from llm.tests.openai_server import OpenAIServer, drip, error, hang, text
from opspawn_site.celery import app
from tasks import bell, lifecycle
from tasks.models import Step
from tasks.tests.test_leases import events_of
from tasks.tests.walking import ended, submit
from tasks.tests.workers import Worker, running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SLOW = {"TASK_HEARTBEAT_SECONDS": "10", "TASK_LEASE_SECONDS": "40", "OPENAI_API_KEY": "sk-test-0123456789"}


@pytest.fixture(scope="module")
def worker(django_db_setup: Any, django_db_blocker: Any) -> Iterator[Worker]:
    """Its heartbeat would bring a cancel after 10 s. LiteLLM is loaded before the first test."""
    with django_db_blocker.unblock(), running_worker(**SLOW) as running:
        yield running


def stuck_at(server: OpenAIServer, **config: Any) -> str:
    given = {"model": "openai/gpt-4o-mini", "api_base": server.base_url} | config
    return versions.create("stuck", given, by="test").slug


def loaded() -> None:
    """The worker's first call imports for seconds; that is no part of what is timed here."""
    with OpenAIServer([text("warm")]) as server:
        versions.create("warm", {"model": "openai/gpt-4o-mini", "api_base": server.base_url}, by="test")
        assert ended(submit("warm")).status == "completed"


@pytest.mark.parametrize("answer", [hang(), drip(text("late"), start="headers")], ids=["hangs", "drips"])
def test_a_cancel_ends_the_call_of_another_process_within_seconds(worker: Worker, answer: Any) -> None:
    loaded()
    with OpenAIServer([answer]) as server:
        task = submit(stuck_at(server))
        until(lambda: server.requests)
        began = time.monotonic()
        lifecycle.cancel(task.id, by="test")
        task = ended(task)
        took = time.monotonic() - began
        until(lambda: server.connected == 0, 2)
    assert task.status == "cancelled"
    assert took < 3  # a heartbeat comes every 10 s
    assert Step.objects.get(task=task).status == "failed"
    assert events_of(task.id)[-3:] == ["task.cancelling", "step.failed", "task.cancelled"]


def test_thirty_hung_calls_that_are_cancelled_free_their_slots_connections_and_threads(worker: Worker) -> None:
    loaded()
    process = psutil.Process(worker.process.pid)
    with OpenAIServer([hang()]) as server:
        slug = stuck_at(server)
        first = submit(slug)
        until(lambda: server.requests)
        lifecycle.cancel(first.id, by="test")
        ended(first)
        before = threads_of(process)
        tasks = [submit(slug) for _ in range(30)]
        until(lambda: len(server.requests) == 31, 60)
        began = time.monotonic()
        for task in tasks:
            lifecycle.cancel(task.id, by="test")
        assert {ended(task).status for task in tasks} == {"cancelled"}
        assert time.monotonic() - began < 8
        until(lambda: server.connected == 0, 5)
    assert in_flight(worker) == 0
    # The pool's own threads stay for the next tasks, one for each slot that was ever used, and nothing else.
    assert threads_of(process) <= before + 30
    loaded_again = submit("warm", overrides={"llm_model": "scripted/echo"})
    assert ended(loaded_again).status == "completed"


def test_a_hung_model_server_cannot_hold_a_task_past_its_time(worker: Worker) -> None:
    loaded()
    with OpenAIServer([hang()]) as server:
        task = ended(submit(stuck_at(server), limits={"timeout_seconds": 2}))
    assert (task.status, task.error_code) == ("failed", "timeout")
    assert task.completed_at is not None
    assert task.started_at is not None
    assert 2 <= (task.completed_at - task.started_at).total_seconds() < 4
    assert Step.objects.get(task=task).status == "failed"


def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(worker: Worker) -> None:
    loaded()
    with OpenAIServer([error(429, retry_after="4")]) as server:
        task = ended(submit(stuck_at(server), limits={"timeout_seconds": 3}))
    assert (task.status, task.error_code) == ("failed", "rate_limited")
    assert len(server.requests) == 1


def test_a_hint_that_cannot_be_sent_is_given_up_and_the_bells_ring_on(settings: Any) -> None:
    """Given a broker that refuses every connection, the heartbeat brings the cancel."""
    settings.CELERY_APPLICATION = "tasks.tests.dead_broker.app"
    bell._celery.cache_clear()
    try:
        began = time.monotonic()
        with pytest.raises(OperationalError):
            bell.tell_workers(["task_1"])
        assert time.monotonic() - began < 20
    finally:
        bell._celery.cache_clear()


def in_flight(worker: Worker) -> int:
    active = app.control.inspect([worker.name], timeout=2).active() or {}
    return len(active.get(worker.name, []))


def threads_of(process: psutil.Process) -> int:
    children = process.children(recursive=True)
    return sum(one.num_threads() for one in [process, *children])
