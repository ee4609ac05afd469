"""Workers as rows, and the worker that believes itself connected."""
from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks.leases import LEASES
from tasks.models import Worker
from tasks.tests.factories import TaskFactory
from tasks.workers import Presence, forget_the_silent

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def presence() -> Presence:
    made = Presence()
    made.begin("worker-1@host", ["default"])
    return made


def test_a_worker_is_one_row_however_often_it_beats(presence: Presence) -> None:
    presence.announce()
    first = Worker.objects.get()
    presence.announce()
    second = Worker.objects.get()
    assert (second.started_at, second.slots) == (first.started_at, first.slots)
    assert second.heartbeat_at > first.heartbeat_at


def test_a_worker_started_anew_under_the_same_name_takes_the_row_over(presence: Presence) -> None:
    presence.announce()
    Worker.objects.update(pid=1, started_at=timezone.now() - timedelta(days=1))
    presence.announce()
    row = Worker.objects.get()
    assert row.pid != 1
    assert row.started_at > timezone.now() - timedelta(minutes=1)


def test_a_worker_that_ends_in_an_orderly_way_leaves_no_row(presence: Presence) -> None:
    presence.announce()
    presence.leave()
    assert not Worker.objects.exists()


def test_a_worker_not_heard_of_for_a_day_is_forgotten(presence: Presence) -> None:
    presence.announce()
    forget_the_silent()
    assert Worker.objects.exists()
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(days=1, seconds=1))
    forget_the_silent()
    assert not Worker.objects.exists()


def deaf(presence: Presence, settings: Any, *, rung: float, heard: float) -> bool:
    TaskFactory(rung_at=timezone.now() - timedelta(seconds=rung))
    presence.heard = time.monotonic() - heard
    return presence.is_deaf()


def test_bells_unanswered_for_long_beside_free_slots_mean_a_dead_connection(presence: Presence, settings: Any) -> None:
    long = settings.TASK_REPUBLISH_SECONDS
    assert deaf(presence, settings, rung=long, heard=3 * long + 1)


def test_a_worker_that_was_rung_a_moment_ago_is_not_deaf(presence: Presence, settings: Any) -> None:
    assert not deaf(presence, settings, rung=settings.TASK_REPUBLISH_SECONDS, heard=1)


def test_silence_without_a_backlog_is_only_quiet(presence: Presence, settings: Any) -> None:
    presence.heard = time.monotonic() - 10 * settings.TASK_REPUBLISH_SECONDS
    assert not presence.is_deaf()


def test_a_draining_worker_is_not_deaf(presence: Presence, settings: Any) -> None:
    long = settings.TASK_REPUBLISH_SECONDS
    LEASES.draining.set()
    try:
        assert not deaf(presence, settings, rung=long, heard=3 * long + 1)
    finally:
        LEASES.draining.clear()
