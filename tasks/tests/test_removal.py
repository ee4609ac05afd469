"""Retention: what is removed, what stays, and that it works in batches and beside others."""
from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents import versions
from agents.models import Agent
from tasks import removal
from tasks.models import ApiKey, Dependency, Event, IdempotencyKey, Task
from tasks.tests.factories import ApiKeyFactory, TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent() -> Agent:
    return versions.create("short", {"model": "scripted/echo", "retention_days": 30}, by="test")


def id_at(moment: datetime, number: int = 0) -> str:
    return f"task_{int(moment.timestamp() * 1000):012x}{number:020x}"


def ended(agent: Agent, days: float, number: int = 0, **fields: Any) -> Task:
    """A task that was made and ended so many days ago."""
    at = timezone.now() - timedelta(days=days)
    given = {"id": id_at(at, number), "status": "completed", "result": {}, "completed_at": at}
    return TaskFactory(version=agent.versions.get(version=agent.version), **(given | fields))


def left() -> set[str]:
    return set(Task.objects.values_list("id", flat=True))


def test_what_ended_before_the_retention_goes_and_the_rest_stays(agent: Agent) -> None:
    keeper = versions.create("keeper", {"model": "scripted/echo"}, by="test")
    old = ended(agent, 31)
    Event.objects.create(task=old, seq=1, type="task.created", at=timezone.now())
    stays = [
        ended(agent, 29), ended(keeper, 400),
        ended(agent, 40, status="pending", result=None, completed_at=None),
        ended(agent, 50, completed_at=timezone.now()),
    ]  # fmt: skip

    said: list[str] = []
    assert removal.prune(said.append) == (1, 0)

    assert left() == {task.id for task in stays}
    assert not Event.objects.exists()
    assert said == ["short: 1 removed, older than 30 days"]


def test_the_agents_current_version_decides(agent: Agent) -> None:
    ended(agent, 31)
    versions.change("short", {"config": {"retention_days": 365}}, by="test")
    assert removal.prune(print) == (0, 0)
    versions.change("short", {"config": {"retention_days": None}}, by="test")
    assert removal.prune(print) == (0, 0)
    versions.change("short", {"config": {"retention_days": 1}}, by="test")
    assert removal.prune(print) == (1, 0)


def test_what_an_unfinished_task_depends_on_stays(agent: Agent) -> None:
    needed, used = ended(agent, 60), ended(agent, 61)
    Dependency.objects.create(task=TaskFactory(blocked=True), on=needed)
    Dependency.objects.create(task=ended(agent, 5), on=used)
    removal.prune(print)
    assert needed.id in left()
    assert used.id not in left()


def test_children_and_retries_of_what_goes_stay(agent: Agent) -> None:
    old = ended(agent, 60)
    child, again = ended(agent, 1, parent=old), ended(agent, 2, retry_of=old)
    removal.prune(print)
    assert left() == {child.id, again.id}
    assert Task.objects.get(id=child.id).parent_id is None
    assert Task.objects.get(id=again.id).retry_of_id is None


def test_it_goes_in_batches_oldest_first(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "BATCH", 2)
    tasks = [ended(agent, 60 - days) for days in range(5)]
    (retention,) = removal.retentions()
    assert removal.remove_outlived(retention, 2) == 2
    assert left() == {task.id for task in tasks[2:]}
    said: list[str] = []
    assert removal.prune(said.append) == (3, 0)
    assert len(said) == 2


def test_a_dry_run_counts_and_removes_nothing(agent: Agent) -> None:
    ended(agent, 60), ended(agent, 61)
    assert [(retention.slug, count) for retention, count in removal.would_go()] == [("short", 2)]
    assert len(left()) == 2


def test_idempotency_keys_go_after_a_week_and_their_tasks_stay() -> None:
    key: ApiKey = ApiKeyFactory()
    tasks = [TaskFactory(api_key=key) for _ in range(3)]
    for number, days in enumerate((20, 8, 6)):
        made = IdempotencyKey.objects.create(api_key=key, key=str(number), body_digest="d", task=tasks[number])
        IdempotencyKey.objects.filter(id=made.id).update(created_at=timezone.now() - timedelta(days=days))
    assert removal.prune(print) == (0, 2)
    assert IdempotencyKey.objects.get().key == "2"
    assert len(left()) == 3


def test_the_sweepers_share_is_bounded_and_passes_over_what_is_held(agent: Agent) -> None:
    tasks = [ended(agent, 60, number) for number in range(5)]
    assert removal.prune_some(2) == 2
    assert left() == {task.id for task in tasks[2:]}

    with transaction.atomic():
        Task.objects.select_for_update().get(id=tasks[2].id)
        prune_elsewhere()
    assert left() == {tasks[2].id}


def prune_elsewhere() -> None:
    """`prune_some` on a connection of its own, while this one holds a row."""

    def work() -> None:
        try:
            removal.prune_some()
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_finding_what_may_go_walks_the_agents_index(agent: Agent) -> None:
    version = agent.versions.get()
    now = timezone.now()
    Task.objects.bulk_create(
        Task(id=id_at(now, number), version=version, agent=agent, input_data={}, status="completed", result={},
             completed_at=now)
        for number in range(3000)
    )  # fmt: skip
    ended(agent, 60)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_task")
    with CaptureQueriesContext(connection) as captured:
        assert removal.prune_some() == 1
    (sql,) = [q["sql"] for q in captured if "SKIP LOCKED" in q["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan on tasks_task" not in plan, plan
