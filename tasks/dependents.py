"""Tasks that wait for others: `depends_on` frees or fails them, a cancelled parent takes its children along."""
from __future__ import annotations

from collections import deque

from django.db import connection
from psycopg import sql

from tasks import bell, moves
from tasks.models import Dependency, Task
from tasks.moves import Change, Note
from tasks.states import FINAL, EventType, Status

BATCH = 100
NOW = sql.SQL("clock_timestamp()")

# What a death between the end of a task and `settle` leaves behind.
LEFT_BLOCKED = """
SELECT task.id FROM tasks_task AS task
WHERE task.status = 'pending' AND task.blocked AND (
    EXISTS (SELECT 1 FROM tasks_dependency AS d JOIN tasks_task AS o ON o.id = d.on_id
            WHERE d.task_id = task.id AND o.status IN ('failed', 'cancelled'))
    OR NOT EXISTS (SELECT 1 FROM tasks_dependency AS d JOIN tasks_task AS o ON o.id = d.on_id
                   WHERE d.task_id = task.id AND o.status <> 'completed'))
ORDER BY task.id LIMIT %s
"""
LEFT_CHILDREN = """
SELECT child.id FROM tasks_task AS child JOIN tasks_task AS parent ON parent.id = child.parent_id
WHERE child.status IN ('pending', 'waiting', 'running') AND child.cancel_requested_at IS NULL
    AND parent.cancel_requested_at IS NOT NULL
ORDER BY child.id LIMIT %s
"""


def settle(task_id: str) -> None:
    """A task has ended: free or fail what depends on it, and what depends on that. Commits task by task.

    When the process dies on the way, the sweeper goes on from the rows.
    """
    ended = deque([task_id])
    while ended:
        after = Dependency.objects.filter(on_id=ended.popleft(), task__status=Status.PENDING)
        ended.extend(blocked for blocked in after.values_list("task_id", flat=True) if review(blocked))


def review(task_id: str) -> bool:
    """Free the task when all it depends on has completed, fail it when one ended otherwise; True when it failed."""
    on = dict(Dependency.objects.filter(task_id=task_id).values_list("on_id", "on__status"))
    if lost := sorted(other for other, status in on.items() if status in FINAL - {Status.COMPLETED}):
        return _fail(task_id, lost[0], on[lost[0]])
    if all(status == Status.COMPLETED for status in on.values()):
        freed = moves.apply(
            task_id,
            Change(sources=frozenset({Status.PENDING}), only_if=(sql.SQL("blocked"),), assign={"blocked": False}),
            returning=("queue",),
        )
        if freed:
            bell.nudge(freed["queue"])
    return False


def left_behind() -> tuple[list[str], list[str]]:
    """Ids of blocked tasks that can move on, and of children whose parent was cancelled; 100 of each at most."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT_BLOCKED, [BATCH])
        blocked = [row[0] for row in cursor.fetchall()]
        cursor.execute(LEFT_CHILDREN, [BATCH])
        return blocked, [row[0] for row in cursor.fetchall()]


def unfinished_children(task_id: str) -> list[str]:
    children = Task.objects.filter(parent_id=task_id).exclude(status__in=FINAL)
    return list(children.values_list("id", flat=True))


def _fail(task_id: str, on: str, status: str) -> bool:
    message = f"It depends on {on}, which is {status}. Retry that one, then submit this anew."
    assign = {"error_code": "dependency_failed", "error_message": message, "completed_at": NOW, "blocked": False}
    note = Note(EventType.TASK_FAILED, {"error_code": "dependency_failed", "error_message": message})
    change = Change(to=Status.FAILED, sources=frozenset({Status.PENDING}), assign=assign, notes=(note,))
    return moves.apply(task_id, change) is not None
