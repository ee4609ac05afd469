"""A cancel that a running task was asked for and that no worker answers any more: it was released, parked or lost."""
from __future__ import annotations

from django.db import connection
from psycopg import sql

from tasks import dependents, moves
from tasks.moves import Change, Note
from tasks.states import EventType, Status

BATCH = 100
ASKED = sql.SQL("cancel_requested_at IS NOT NULL")
IDLE = frozenset({Status.PENDING, Status.WAITING})
UNHEEDED = """
SELECT id FROM tasks_task WHERE status IN ('pending', 'waiting') AND cancel_requested_at IS NOT NULL
ORDER BY id LIMIT %s
"""


def heed(task_id: str) -> bool:
    """Cancel the task when that was asked for and nobody runs it; True when this did. Commits."""
    assign = {"completed_at": sql.SQL("clock_timestamp()"), "waiting_on": None}
    note = Note(EventType.TASK_CANCELLED, {"while": "no worker had it"})
    change = Change(to=Status.CANCELLED, sources=IDLE, only_if=(ASKED,), assign=assign, notes=(note,))
    cancelled = moves.apply(task_id, change) is not None
    if cancelled:
        dependents.settle(task_id)
    return cancelled


def heed_all() -> int:
    """Cancel up to 100 tasks where a process died between the two, and return how many. Commits task by task."""
    with connection.cursor() as cursor:
        cursor.execute(UNHEEDED, [BATCH])
        rows = cursor.fetchall()
    return sum(heed(row[0]) for row in rows)
