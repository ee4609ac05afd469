"""Leases and the sweeper: who keeps a task, who loses it, who takes it back."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from tasks import bell, lifecycle, sweep
from tasks.execution import claim
from tasks.leases import Leases
from tasks.models import Event, Task
from tasks.states import Status
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)


def claimed(leases: Leases) -> Any:
    task = claim(TaskFactory().id, "worker-1")
    assert task is not None
    return leases.hold(task.id, task.attempt, time.monotonic())


def expire(task_id: str) -> None:
    Task.objects.filter(id=task_id).update(lease_until=timezone.now() - timedelta(seconds=1))


def events_of(task_id: str) -> list[str]:
    return list(Event.objects.filter(task_id=task_id).order_by("seq").values_list("type", flat=True))


def test_only_one_of_many_claims_gets_the_task() -> None:
    task = TaskFactory()
    got: list[Any] = []

    def try_to_claim() -> None:
        try:
            got.append(claim(task.id, "w"))
        finally:
            connection.close()

    threads = [threading.Thread(target=try_to_claim) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([winner for winner in got if winner is not None]) == 1
    assert Task.objects.get(id=task.id).attempt == 1
    assert events_of(task.id) == ["task.started"]


def test_a_task_whose_time_has_not_come_cannot_be_claimed() -> None:
    task = TaskFactory(scheduled_at=timezone.now() + timedelta(minutes=1))
    assert claim(task.id, "w") is None
    assert Task.objects.get(id=task.id).status == Status.PENDING


def test_a_heartbeat_renews_every_lease_in_one_statement(django_assert_num_queries: Any) -> None:
    leases = Leases()
    helds = [claimed(leases) for _ in range(3)]
    for held in helds:
        expire(held.task_id)

    with django_assert_num_queries(1):
        leases.renew()

    assert Task.objects.filter(lease_until__gt=timezone.now()).count() == 3
    assert not any(held.gone for held in helds)


def test_a_heartbeat_learns_that_a_cancel_was_requested() -> None:
    leases = Leases()
    held = claimed(leases)
    lifecycle.cancel(held.task_id, by="test")
    leases.renew()
    assert held.cancelled.is_set()
    assert not held.gone


def test_a_heartbeat_learns_that_another_worker_has_the_task() -> None:
    leases = Leases()
    held = claimed(leases)
    Task.objects.filter(id=held.task_id).update(attempt=2)
    leases.renew()
    assert held.gone


def test_a_row_that_is_locked_at_the_heartbeat_is_not_taken_for_lost() -> None:
    leases = Leases()
    held = claimed(leases)
    locked, done = threading.Event(), threading.Event()

    def hold_the_row() -> None:
        with transaction.atomic():
            Task.objects.select_for_update().get(id=held.task_id)
            locked.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=hold_the_row)
    thread.start()
    locked.wait(10)
    leases.renew()
    done.set()
    thread.join()
    assert not held.gone


def test_a_call_that_hangs_past_its_time_is_not_kept_alive() -> None:
    leases = Leases()
    held = claimed(leases)
    held.progress_by = time.monotonic() - 1
    expire(held.task_id)
    leases.renew()
    assert sweep.recover_expired() == 1


def test_an_expired_lease_goes_back_to_pending_and_says_so() -> None:
    held = claimed(Leases())
    expire(held.task_id)

    assert sweep.recover_expired() == 1

    task = Task.objects.get(id=held.task_id)
    assert (task.status, task.attempt, task.takeovers, task.worker, task.lease_until) == ("pending", 1, 1, "", None)
    assert events_of(task.id) == ["task.started", "task.recovered"]


def test_a_lease_that_was_renewed_meanwhile_is_left_alone() -> None:
    leases = Leases()
    held = claimed(leases)
    expire(held.task_id)
    leases.renew()
    assert not sweep.recover(held.task_id, held.attempt, 0, "worker-1")
    assert Task.objects.get(id=held.task_id).status == Status.RUNNING


def test_two_sweepers_at_once_take_a_task_back_once() -> None:
    held = claimed(Leases())
    expire(held.task_id)
    threads = [threading.Thread(target=lambda: (sweep.recover_expired(), connection.close())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events_of(held.task_id) == ["task.started", "task.recovered"]


@pytest.mark.parametrize(("deaths", "status"), [(1, "pending"), (2, "pending"), (3, "failed")])
def test_too_many_deaths_without_progress_end_the_task(deaths: int, status: str, settings: Any) -> None:
    settings.TASK_MAX_TAKEOVERS = 2
    task = TaskFactory()
    for _ in range(deaths):
        assert claim(task.id, "w", alone=True) is not None
        expire(task.id)
        sweep.recover_expired()
    task.refresh_from_db()
    assert task.status == status
    assert task.error_code == ("worker_lost" if status == "failed" else None)


def test_time_after_the_lease_ended_does_not_count_as_running() -> None:
    held = claimed(Leases())
    now = timezone.now()
    ran = {"claimed_at": now - timedelta(seconds=60), "lease_until": now - timedelta(seconds=50)}
    Task.objects.filter(id=held.task_id).update(**ran)
    sweep.recover_expired()
    assert Task.objects.get(id=held.task_id).running_seconds == pytest.approx(10, abs=0.5)


@pytest.fixture
def messages() -> Iterator[redis.Redis]:
    """The broker, with one message in a queue that no worker reads."""
    client = redis.Redis.from_url(settings.CELERY_BROKER_URL)
    client.lpush("unread", "{}")
    yield client
    client.delete("unread")
    client.close()


def rung(seconds_ago: float) -> Task:
    return TaskFactory(queue="unread", rung_at=timezone.now() - timedelta(seconds=seconds_ago))


def test_a_bell_that_nobody_answered_is_rung_anew(messages: redis.Redis) -> None:
    forgotten, fresh = rung(settings.TASK_REPUBLISH_SECONDS + 1), rung(settings.TASK_SWEEP_SECONDS + 1)
    sweep.unring_unanswered("unread")
    assert Task.objects.get(id=forgotten.id).rung_at is None
    assert Task.objects.get(id=fresh.id).rung_at is not None


def test_bells_that_an_emptied_broker_lost_are_rung_anew_at_once(messages: redis.Redis) -> None:
    lost, under_way = rung(settings.TASK_SWEEP_SECONDS + 1), rung(0)
    messages.delete("unread")
    sweep.unring_unanswered("unread")
    assert Task.objects.get(id=lost.id).rung_at is None
    assert Task.objects.get(id=under_way.id).rung_at is not None


def test_while_the_broker_is_away_bells_wait_their_time(monkeypatch: Any) -> None:
    monkeypatch.setattr(settings, "CELERY_APPLICATION", "tasks.tests.dead_broker.app")
    bell._celery.cache_clear()
    try:
        waiting = rung(settings.TASK_SWEEP_SECONDS + 1)
        sweep.unring_unanswered("unread")
    finally:
        bell._celery.cache_clear()
    assert Task.objects.get(id=waiting.id).rung_at is not None
