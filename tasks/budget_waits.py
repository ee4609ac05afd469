"""Tasks that wait for a budget: sent on when it has room, given up after BUDGET_WAIT_DAYS. And what the dead hold.

All of it is done by the sweepers. Who waits stands in the task's row, for what in its last `task.waiting` event.
"""
from __future__ import annotations

from typing import Any

import structlog
from django.conf import settings
from django.db import connection
from psycopg import sql

from llm import accounts, settling
from llm.accounts import STARTS
from llm.budget import Line
from tasks import bell, dependents, moves
from tasks.models import Task
from tasks.moves import Change, Note
from tasks.states import EventType, Status

log = structlog.get_logger(__name__)

BATCH = 100
LOOKED_AT = 1000
FOR_BUDGET = sql.SQL("waiting_on = 'budget'")
AWAKE = {"waiting_on": None, "rung_at": None, "takeovers": sql.SQL("0")}

# An attempt whose calls nobody waits for any more: its task runs again, waits, has ended, or is gone.
DEAD = """
SELECT held.task_id, max(held.attempt)
FROM llm_reservation AS held LEFT JOIN tasks_task AS task ON task.id = held.task_id
WHERE task.id IS NULL OR task.status <> 'running' OR task.attempt <> held.attempt
GROUP BY held.task_id LIMIT %s
"""
# A stretch of those that wait, by id; each round looks at the next one, so that no queue for one budget hides who waits
# for another. Of those that wait for the same budget the first in line go on, as many as what they would like to have
# fits; the first of all as soon as its shortest answer does. One that nothing limits any more goes on, too.
READY = """
WITH waiting AS MATERIALIZED (
    SELECT task.id, task.queue, task.priority, event.at, event.data ->> 'scope' AS scope,
        event.data ->> 'scope_id' AS scope_id, event.data ->> 'period' AS period,
        (event.data ->> 'needed_usd')::numeric AS needed_usd, (event.data ->> 'wanted_usd')::numeric AS wanted_usd
    FROM tasks_task AS task CROSS JOIN LATERAL (
        SELECT at, data FROM tasks_event WHERE task_id = task.id AND type = 'task.waiting' ORDER BY seq DESC LIMIT 1
    ) AS event
    WHERE task.status = 'waiting' AND task.waiting_on = 'budget' AND task.id > %(after)s
    ORDER BY task.id LIMIT %(looked_at)s
), line AS (
    SELECT waiting.*, coalesce(sum(wanted_usd) OVER (
        PARTITION BY scope, scope_id, period ORDER BY priority DESC, id
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before_usd
    FROM waiting
), standing AS (
    SELECT line.*, least(budget.limit_usd, account.limit_usd) AS limit_usd,
        coalesce(account.spent_usd + account.reserved_usd, 0) AS taken_usd
    FROM line
    LEFT JOIN llm_budget AS budget ON budget.scope = line.scope AND budget.scope_id = line.scope_id
        AND budget.period = line.period AND budget.enabled
    LEFT JOIN llm_account AS account ON account.scope = line.scope AND account.scope_id = line.scope_id
        AND account.period = line.period AND account.starts_at = {starts}
), judged AS (
    SELECT id, queue, priority, limit_usd IS NULL OR before_usd + needed_usd <= limit_usd - taken_usd AS has_room,
        at < clock_timestamp() - make_interval(days => %(days)s) AS is_late
    FROM standing
), chosen AS (
    SELECT judged.*, row_number() OVER (PARTITION BY has_room ORDER BY priority DESC, id) AS place
    FROM judged WHERE has_room OR is_late
)
SELECT (SELECT CASE WHEN count(*) = %(looked_at)s THEN max(id) ELSE '' END FROM waiting),
    id, queue, has_room, is_late
FROM (SELECT 1) AS always LEFT JOIN chosen ON place <= %(batch)s
ORDER BY priority DESC, id
"""
_READY = READY.format(starts=STARTS.format(period="line.period", at="clock_timestamp()"))


def sweep() -> None:
    """One round: accounts are settled with the ledger, holds of dead attempts given back, and who waits for a budget
    that has room goes on.
    """
    settling.settle_due()
    release_dead()
    for task_id, queue, has_room, is_late in waiting():
        if has_room:
            send_on(task_id, queue)
        elif is_late:
            give_up(task_id)


def release_dead() -> int:
    """Give back what calls hold that no worker makes any more; returns how many. Commits task by task."""
    with connection.cursor() as cursor:
        cursor.execute(DEAD, [BATCH])
        rows = cursor.fetchall()
    return sum(accounts.release(task_id, attempt) for task_id, attempt in rows)


def waiting() -> list[tuple[str, str, bool, bool]]:
    """Waiting tasks and their queues: up to 100 that may go on, and up to 100 that waited too long. One query.

    Looks at the 1000 after those that this process looked at last, then again from the first: who waits behind n
    others is found within n / 1000 + 1 rounds. Which of them is the first in line is told within one stretch.
    """
    values: dict[str, int | str] = {
        "looked_at": LOOKED_AT, "days": settings.BUDGET_WAIT_DAYS, "batch": BATCH, "after": _POSITION.after,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_READY, values)
        rows = cursor.fetchall()
    _POSITION.after = rows[0][0]
    return [(task_id, queue, has_room, is_late) for _, task_id, queue, has_room, is_late in rows if task_id]


class _Position:
    """How far this process has looked."""

    after: str = ""  # a task's id


_POSITION = _Position()


def blocking(task: Task) -> Line | None:
    """The budget that a waiting task was refused by, as it stands now; None when it is gone. Two queries."""
    data = asked_for(task)
    budget = (str(data.get("scope", "")), str(data.get("scope_id", "")), str(data.get("period", "")))
    return accounts.standings([budget]).get(budget)


def asked_for(task: Task) -> dict[str, Any]:
    """What the task waits for, as its last `task.waiting` event says it. One query."""
    event = task.events.filter(type=EventType.TASK_WAITING).order_by("-seq").first()
    return event.data if event else {}


def send_on(task_id: str, queue: str) -> bool:
    """Let a task that waits for a budget try again. Commits."""
    note = Note(EventType.TASK_RESUMED, {"by": "sweeper", "reason": "The budget has room again."})
    change = Change(
        to=Status.PENDING, sources=frozenset({Status.WAITING}), only_if=(FOR_BUDGET,), assign=AWAKE, notes=(note,)
    )
    moved = moves.apply(task_id, change) is not None
    if moved:
        bell.nudge(queue)
    return moved


def give_up(task_id: str) -> bool:
    """Fail a task that has waited for its budget too long. Commits."""
    message = (
        f"It waited {settings.BUDGET_WAIT_DAYS} days for its budget (BUDGET_WAIT_DAYS), which was not raised. "
        "Raise it, then retry the task."
    )
    told = {"error_code": "budget_exceeded", "error_message": message}
    change = Change(
        to=Status.FAILED, sources=frozenset({Status.WAITING}), only_if=(FOR_BUDGET,),
        assign=told | {"waiting_on": None, "completed_at": sql.SQL("clock_timestamp()")},
        notes=(Note(EventType.TASK_FAILED, told),),
    )  # fmt: skip
    failed = moves.apply(task_id, change) is not None
    if failed:
        log.info("task_failed", task_id=task_id, error_code="budget_exceeded")
        dependents.settle(task_id)
    return failed
