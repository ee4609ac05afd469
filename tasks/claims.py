"""Claiming: `pending → running` in one UPDATE, and what else a claim may have to heed."""
from __future__ import annotations

import json
from functools import cache
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from psycopg import sql

from agents.models import Agent, AgentVersion
from tasks import bell, moves, prepared
from tasks.models import Task
from tasks.moves import Change, Note
from tasks.states import EventType, Status

SUSPECT_AFTER = 2  # deaths without progress; then the task is tried in a process of its own
LOCK_SPACE = 0x0A6E  # of the advisory locks on agents

FREE = sql.SQL("NOT blocked AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())")
UNLIMITED = sql.SQL("max_concurrency IS NULL")
INNOCENT = sql.SQL("takeovers < {}").format(sql.Literal(SUSPECT_AFTER))
BELOW_LIMIT = sql.SQL(
    "(max_concurrency IS NULL OR max_concurrency > (SELECT count(*) FROM tasks_task AS other "
    "WHERE other.agent_id = tasks_task.agent_id AND other.status = 'running'))"
)


# What a worker needs beside the task's own row, of a row called `moved` or `task`.
OF_VERSION = (
    "(SELECT config FROM agents_agentversion WHERE id = {row}.version_id)",
    "(SELECT version FROM agents_agentversion WHERE id = {row}.version_id)",
    "(SELECT slug FROM agents_agent WHERE id = {row}.agent_id)",
)


def claim(task_id: str, worker: str, *, alone: bool = False) -> Task | None:
    """Claim the task: the attempt goes up, the lease starts. Commits. None: not to be had, or a suspect.

    A suspect is only claimed `alone`. A task that its agent's `max_concurrency` holds back loses its bell, and is
    rung again when a task of that agent ends.
    """
    trusted = () if alone else (INNOCENT,)
    row = moves.apply(task_id, _change(worker, (FREE, UNLIMITED, *trusted)), _wanted("moved"))
    row = row or _claim_limited(task_id, worker, trusted)
    return _made(tuple(row.values())) if row else None


def claimed(task_id: str) -> Task | None:
    """The task's row with its version and agent, as a worker needs them. One query."""
    row = prepared.row(f"SELECT {', '.join(_wanted('task'))} FROM tasks_task AS task WHERE id = %s", [task_id])  # noqa: S608
    return _made(row) if row else None


def _made(row: tuple[Any, ...]) -> Task:
    task = prepared.made(Task, prepared.fields_of(Task), row[: -len(OF_VERSION)])
    config, number, slug = row[-len(OF_VERSION) :]
    task.version = AgentVersion(id=task.version_id, agent_id=task.agent_id, version=number, config=json.loads(config))
    task.version.agent = task.agent = Agent(id=task.agent_id, slug=slug)
    return task


@cache
def _wanted(row: str) -> tuple[str, ...]:
    columns = (str(field.column) for field in prepared.fields_of(Task))
    return (*columns, *(expression.format(row=row) for expression in OF_VERSION))


def is_suspect(task_id: str) -> bool:
    """Whether the task may be run, but only alone: workers died of it, or beside it."""
    return Task.objects.filter(id=task_id, status=Status.PENDING, takeovers__gte=SUSPECT_AFTER).exists()


def _claim_limited(
    task_id: str, worker: str, trusted: tuple[sql.Composable, ...]
) -> dict[str, Any] | None:
    """Claim under the lock of the agent, so that two claims at once cannot both be the last one allowed."""
    with transaction.atomic():
        limited = Task.objects.filter(id=task_id, status=Status.PENDING, max_concurrency__isnull=False)
        agent_id = limited.values_list("agent_id", flat=True).first()
        if agent_id is None:
            return None
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_SPACE << 40 | agent_id])
        row = moves.apply(task_id, _change(worker, (FREE, BELOW_LIMIT, *trusted)), _wanted("moved"))
    if row is None:
        bell.unmark([task_id])
    return row


def _change(worker: str, conditions: tuple[sql.Composable, ...]) -> Change:
    lease = sql.SQL("clock_timestamp() + make_interval(secs => {})").format(sql.Literal(settings.TASK_LEASE_SECONDS))
    now = sql.SQL("clock_timestamp()")
    return Change(
        to=Status.RUNNING,
        sources=frozenset({Status.PENDING}),
        only_if=conditions,
        assign={
            "attempt": sql.SQL("attempt + 1"), "worker": worker[:200], "claimed_at": now, "lease_until": lease,
            "started_at": sql.SQL("coalesce(started_at, clock_timestamp())"), "rung_at": None,
        },
        notes=(Note(EventType.TASK_STARTED, {"worker": worker[:200]}),),
    )  # fmt: skip
