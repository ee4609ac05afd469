"""Who waits for a budget is found, however many wait for another one."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from llm.models import Budget
from tasks import budget_waits
from tasks.models import Event, Task
from tasks.states import EventType
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)


def crowd(count: int, scope: str, scope_id: str, first: str) -> list[Task]:
    """That many tasks that wait for that budget a month, whose ids begin so."""
    like = TaskFactory()
    tasks = [
        Task(id=f"task_{first}{number:031d}", agent=like.agent, version=like.version, input_data={}, status="waiting",
             waiting_on="budget", last_seq=1) for number in range(count)
    ]  # fmt: skip
    Task.objects.bulk_create(tasks)
    about = {"waiting_on": "budget", "scope": scope, "scope_id": scope_id, "period": "month", "needed_usd": "0.1",
             "wanted_usd": "0.1"}  # fmt: skip
    Event.objects.bulk_create(
        Event(task=task, seq=1, type=EventType.TASK_WAITING, at=timezone.now(), data=about) for task in tasks
    )
    like.delete()
    return tasks


def test_a_long_queue_for_one_budget_does_not_hide_who_waits_for_another() -> None:
    Budget.objects.create(scope="agent", scope_id="spent", period="month", limit_usd=0)
    Budget.objects.create(scope="agent", scope_id="raised", period="month", limit_usd=1)
    crowd(budget_waits.LOOKED_AT + 100, "agent", "spent", "0")
    (last,) = crowd(1, "agent", "raised", "1")

    for _ in range(2):
        budget_waits.sweep()

    last.refresh_from_db()
    assert last.status == "pending"
    assert Task.objects.filter(status="waiting").count() == budget_waits.LOOKED_AT + 100


def test_who_waited_too_long_behind_a_long_queue_is_given_up(settings: Any) -> None:
    Budget.objects.create(scope="agent", scope_id="spent", period="month", limit_usd=0)
    crowd(budget_waits.LOOKED_AT, "agent", "spent", "0")
    (last,) = crowd(1, "agent", "spent", "1")
    Event.objects.filter(task=last).update(at=timezone.now() - timedelta(days=99))

    for _ in range(2):
        budget_waits.sweep()

    last.refresh_from_db()
    assert last.error_code == "budget_exceeded"
    assert Task.objects.filter(status="failed").count() == 1
