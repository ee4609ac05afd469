"""Timers: tasks that wait for a time go back to pending when it has come. Every sweeper looks after them."""
from __future__ import annotations

from django.db import connection
from psycopg import sql

from tasks import moves
from tasks.moves import Change, Note
from tasks.states import EventType, Status

BATCH = 100

DUE = """
SELECT id FROM tasks_task WHERE status = 'waiting' AND wake_at <= clock_timestamp()
ORDER BY wake_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
NEXT = """
SELECT extract(epoch FROM wake_at - clock_timestamp())::float FROM tasks_task
WHERE status = 'waiting' AND wake_at IS NOT NULL ORDER BY wake_at LIMIT 1
"""
STILL_DUE = sql.SQL("wake_at <= clock_timestamp()")


def wake_due() -> int:
    """Wake up to 100 tasks whose time has come and return how many. Two sweepers at once share the work; commits."""
    with connection.cursor() as cursor:
        cursor.execute(DUE, [BATCH])
        rows = cursor.fetchall()
    return sum(_wake(row[0]) for row in rows)


def seconds_to_next() -> float:
    """Until the next timer is due, at least 0; endless without one. One query on a partial index."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT)
        row = cursor.fetchone()
    return max(0.0, row[0]) if row else float("inf")


def _wake(task_id: str) -> bool:
    change = Change(
        to=Status.PENDING, sources=frozenset({Status.WAITING}), only_if=(STILL_DUE,),
        assign={"waiting_on": None, "wake_at": None, "rung_at": None},
        notes=(Note(EventType.TASK_RESUMED, {"by": "timer"}),),
    )  # fmt: skip
    return moves.apply(task_id, change) is not None
