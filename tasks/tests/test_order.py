"""Who is rung next: each consumer in turn, agents within their concurrency, nobody who has to wait."""
from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from agents.tests.factories import AgentVersionFactory
from tasks.claims import claim
from tasks.models import Task, Worker
from tasks.order import take_next
from tasks.tests.factories import ApiKeyFactory, TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)


def taken(queue: str = "default") -> list[str]:
    return [row[0] for row in take_next(queue)]


def live_worker(slots: int, **fields: Any) -> Worker:
    now = timezone.now()
    given = {"name": "w", "host": "h", "pid": 1, "version": "0", "queues": ["default"], "slots": slots,
             "started_at": now, "heartbeat_at": now}  # fmt: skip
    return Worker.objects.create(**given | fields)


def test_a_consumer_with_one_task_does_not_wait_behind_anothers_thousand() -> None:
    many, one = ApiKeyFactory(), ApiKeyFactory()
    backlog = [TaskFactory(api_key=many) for _ in range(10)]
    single = TaskFactory(api_key=one)
    live_worker(slots=1)
    assert taken() == [backlog[0].id, single.id]


def test_a_consumer_whose_tasks_run_already_comes_later() -> None:
    busy, idle = ApiKeyFactory(), ApiKeyFactory()
    assert claim(TaskFactory(api_key=busy).id, "w")
    first, second = TaskFactory(api_key=busy), TaskFactory(api_key=idle)
    assert taken() == [second.id, first.id]


def test_a_task_without_a_consumer_is_rung_too() -> None:
    task = TaskFactory(api_key=None)
    assert taken() == [task.id]


def test_priority_comes_before_fairness() -> None:
    key = ApiKeyFactory()
    low, high = TaskFactory(), [TaskFactory(api_key=key, priority=3) for _ in range(2)]
    assert taken() == [high[0].id, high[1].id, low.id]


@pytest.mark.parametrize(("slots", "running", "rung"), [(1, 0, 2), (2, 0, 4), (2, 1, 2), (2, 2, 0)])
def test_bells_are_twice_the_free_slots_of_live_workers(slots: int, running: int, rung: int) -> None:
    live_worker(slots=slots)
    for _ in range(running):
        assert claim(TaskFactory().id, "w")
    for _ in range(6):
        TaskFactory()
    assert len(taken()) == rung
    assert taken() == []


def test_draining_silent_and_other_queues_workers_do_not_count(settings: Any) -> None:
    settings.WORKER_CONCURRENCY = 3
    live_worker(slots=50, name="draining", draining=True)
    live_worker(slots=50, name="elsewhere", queues=["other"])
    live_worker(slots=50, name="silent", heartbeat_at=timezone.now() - timezone.timedelta(minutes=5))
    for _ in range(6):
        TaskFactory()
    assert len(taken()) == 3


def test_an_agent_at_its_concurrency_is_passed_over() -> None:
    version = AgentVersionFactory()
    tasks = [TaskFactory(version=version, max_concurrency=2) for _ in range(4)]
    other = TaskFactory()
    assert set(taken()) == {tasks[0].id, tasks[1].id, other.id}
    assert claim(tasks[0].id, "w")
    assert taken() == []


def test_two_claims_at_once_never_exceed_an_agents_concurrency() -> None:
    version = AgentVersionFactory()
    tasks = [TaskFactory(version=version, max_concurrency=2) for _ in range(8)]
    barrier = threading.Barrier(8)

    def try_to_claim(task_id: str) -> None:
        barrier.wait(10)
        claim(task_id, "w")
        connection.close()

    threads = [threading.Thread(target=try_to_claim, args=(task.id,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Task.objects.filter(status="running").count() == 2


def test_a_suspect_is_claimed_only_alone() -> None:
    task = TaskFactory(takeovers=2)
    assert claim(task.id, "w") is None
    assert claim(task.id, "w", alone=True) is not None


def test_a_blocked_task_is_neither_rung_nor_claimed() -> None:
    task = TaskFactory(blocked=True)
    assert taken() == []
    assert claim(task.id, "w") is None
