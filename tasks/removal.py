"""Removing what has ended: one task by an operator's word, or whatever its agent's `retention_days` has outlived."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils import timezone

from agents.models import AgentVersion
from tasks.errors import NotFinal, StillNeeded, UnknownTask
from tasks.models import Dependency, IdempotencyKey, Task
from tasks.states import FINAL

BATCH = 500
IDEMPOTENCY_DAYS = 7
NAMED = 5


@dataclass(frozen=True, slots=True)
class Retention:
    """An agent's tasks that ended before `before` may go."""

    agent_id: int
    slug: str
    days: int
    before: datetime


def remove(task_id: str) -> None:
    """Remove a final task with its steps, events and idempotency keys; children and retries stay without it. Commits.

    Raises UnknownTask, NotFinal, and StillNeeded when a task that has not ended depends on it.
    """
    with transaction.atomic():
        task = Task.objects.select_for_update().only("id", "status").filter(id=task_id).first()
        if task is None:
            raise UnknownTask(f"There is no task {task_id!r}.")
        if not task.is_final:
            raise NotFinal(f"The task is {task.status}. Cancel it first, or wait for its end.")
        needed_by = list(_unfinished_dependents().filter(on_id=task_id).values_list("task_id", flat=True)[:NAMED])
        if needed_by:
            raise StillNeeded(f"{', '.join(needed_by)} depends on it and has not ended; cancel that one first.")
        Task.objects.filter(id=task_id).delete()


def retentions() -> list[Retention]:
    """What the current versions of all agents say, archived ones too; agents that keep everything are not in it."""
    now = timezone.now()
    current = AgentVersion.objects.filter(version=F("agent__version"), config__has_key="retention_days")
    found = current.order_by("agent__slug").values_list("agent_id", "agent__slug", "config__retention_days")
    return [Retention(agent, slug, days, now - timedelta(days=days)) for agent, slug, days in found if days]


def outlived(retention: Retention) -> QuerySet[Task]:
    """The final tasks that may go. Ids sort by time, so the index of agent and id holds no younger row to look at."""
    newest = f"task_{int(retention.before.timestamp() * 1000):012x}"
    old = Task.objects.filter(
        agent_id=retention.agent_id, id__lt=newest, status__in=FINAL, completed_at__lt=retention.before
    )
    return old.exclude(Exists(_unfinished_dependents().filter(on_id=OuterRef("id"))))


def prune(say: Callable[[str], None]) -> tuple[int, int]:
    """Remove every outlived task and idempotency key, oldest first; returns how many. A batch is a transaction."""
    tasks = 0
    for retention in retentions():
        gone = 0
        for count in _in_batches(lambda retention=retention: remove_outlived(retention, BATCH)):  # type: ignore[misc]
            gone += count
            say(f"{retention.slug}: {gone:,} removed, older than {retention.days} days")
        tasks += gone
    keys = sum(_in_batches(lambda: forget_keys(BATCH)))
    return tasks, keys


def would_go() -> Iterator[tuple[Retention, int]]:
    """How many tasks of each agent `prune` would remove now."""
    for retention in retentions():
        yield retention, outlived(retention).aggregate(count=Count("id"))["count"]


def prune_some(most: int = 100) -> int:
    """A small share of `prune`, for the sweepers: at most that many tasks, rows that somebody holds passed over."""
    left = most
    for retention in retentions():
        if left <= 0:
            break
        left -= remove_outlived(retention, left)
    forget_keys(most)
    return most - left


def remove_outlived(retention: Retention, most: int) -> int:
    """Remove up to `most` of them, oldest first, in one transaction; returns how many. Two at once share the work."""
    with transaction.atomic():
        rows = outlived(retention).order_by("id").select_for_update(skip_locked=True, of=("self",))
        ids = list(rows.values_list("id", flat=True)[:most])
        if ids:
            Task.objects.filter(id__in=ids).delete()
    return len(ids)


def old_keys(most: int) -> QuerySet[IdempotencyKey]:
    """Of the `most` oldest idempotency keys, those that are past their time."""
    first = IdempotencyKey.objects.order_by("id").values("id")[:most]
    before = timezone.now() - timedelta(days=IDEMPOTENCY_DAYS)
    return IdempotencyKey.objects.filter(id__in=first, created_at__lt=before)


def keys_to_forget() -> int:
    """How many idempotency keys are past their time; reads the whole table."""
    before = timezone.now() - timedelta(days=IDEMPOTENCY_DAYS)
    return IdempotencyKey.objects.filter(created_at__lt=before).count()


def forget_keys(most: int) -> int:
    """Forget up to `most` idempotency keys that are past their time; their tasks stay. Commits."""
    return old_keys(most).delete()[0]


def _unfinished_dependents() -> QuerySet[Dependency]:
    return Dependency.objects.exclude(task__status__in=FINAL)


def _in_batches(once: Callable[[], int]) -> Iterator[int]:
    while count := once():
        yield count
