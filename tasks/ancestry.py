"""The tasks above a task: how many there may be, and the limits that they brought along."""
from __future__ import annotations

import json

from django.db import connection

from agents import overrides
from agents.contract import Limits

MOST_ANCESTORS = 100  # refused beyond when a task is submitted, so that no call misses the limit of its root
UP = """
WITH RECURSIVE up AS (
    SELECT %s::varchar AS id, 1 AS depth
    UNION ALL SELECT task.parent_id, depth + 1 FROM up JOIN tasks_task AS task USING (id)
    WHERE task.parent_id IS NOT NULL AND depth < %s
)
"""
LIMITS = UP + """
SELECT task.id, (version.config -> 'limits')::text, (task.overrides -> 'limits')::text, task.limits::text
FROM up JOIN tasks_task AS task USING (id) JOIN agents_agentversion AS version ON version.id = task.version_id
ORDER BY depth
"""
DEPTH = "".join((UP, "SELECT max(depth) FROM up"))


def limits_above(parent_id: str) -> dict[str, Limits]:
    """The tasks above, nearest first, each with its own tightest limits. One query."""
    with connection.cursor() as cursor:
        cursor.execute(LIMITS, [parent_id, MOST_ANCESTORS])
        rows = cursor.fetchall()
    return {task_id: overrides.tightest(*(json.loads(text or "{}") for text in given)) for task_id, *given in rows}


def is_too_deep(parent_id: str) -> bool:
    """Whether a child of that task would have more than MOST_ANCESTORS tasks above it. One query."""
    with connection.cursor() as cursor:
        cursor.execute(DEPTH, [parent_id, MOST_ANCESTORS + 1])
        depth: int = cursor.fetchone()[0]
    return depth > MOST_ANCESTORS
