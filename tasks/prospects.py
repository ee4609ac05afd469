"""What the fleet looks like from one task: live workers and free slots of its queue, who is ahead of it."""
from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from tasks.models import Task
from tasks.order import HEARTBEATS

# Each subquery reads the few worker rows, or the partial index of the running tasks.
FACTS = """
WITH worker AS (
    SELECT *, heartbeat_at > clock_timestamp() - make_interval(secs => %(silence)s) AS live
    FROM tasks_worker WHERE %(queue)s = ANY(queues)
), newest AS (SELECT name, heartbeat_at FROM worker ORDER BY heartbeat_at DESC LIMIT 1)
SELECT clock_timestamp(),
    (SELECT count(*) FROM worker WHERE live AND NOT draining),
    (SELECT count(*) FROM worker WHERE live AND draining),
    (SELECT coalesce(sum(slots), 0) FROM worker WHERE live AND NOT draining),
    (SELECT count(*) FROM tasks_task WHERE status = 'running' AND queue = %(queue)s),
    (SELECT count(*) FROM tasks_task WHERE status = 'running' AND agent_id = %(agent)s),
    (SELECT name FROM newest),
    (SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float FROM newest),
    (SELECT extract(epoch FROM clock_timestamp() - rung_at)::float FROM tasks_task WHERE id = %(id)s)
"""

# Three ranges of the indexes task_unrung and task_rung, each read up to the cap. The middle one asks for each API key
# in turn, so that a long backlog behind the task is not read to find the few rows before it. Those that their agent's
# `max_concurrency` holds back hold nobody else back.
AHEAD = """
WITH busy AS MATERIALIZED (
    SELECT agent_id, count(*) AS tasks FROM tasks_task WHERE status = 'running' GROUP BY agent_id
), ahead AS (
    (SELECT priority, api_key_id, agent_id, max_concurrency FROM tasks_task
     WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked AND priority > %(priority)s
        AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())
     LIMIT %(cap)s)
    UNION ALL
    (SELECT older.* FROM (SELECT id FROM tasks_apikey UNION ALL SELECT 0) AS key, LATERAL (
        SELECT priority, api_key_id, agent_id, max_concurrency FROM tasks_task
        WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked
            AND priority = %(priority)s AND coalesce(api_key_id, 0) = key.id AND id < %(id)s
            AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())
        LIMIT %(cap)s) AS older
     LIMIT %(cap)s)
    UNION ALL
    (SELECT priority, api_key_id, agent_id, max_concurrency FROM tasks_task
     WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NOT NULL
        AND (priority > %(priority)s OR (priority = %(priority)s AND id < %(id)s))
     LIMIT %(cap)s)
)
SELECT count(*) FILTER (WHERE priority > %(priority)s), count(*) FILTER (WHERE priority = %(priority)s),
    count(*) FILTER (WHERE priority = %(priority)s AND coalesce(api_key_id, 0) = %(api_key)s)
FROM ahead WHERE max_concurrency IS NULL
    OR max_concurrency > coalesce((SELECT tasks FROM busy WHERE busy.agent_id = ahead.agent_id), 0)
"""

LAST_SEEN = """
SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float FROM tasks_worker
WHERE name = %s AND pid::text = %s
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """`at` is PostgreSQL's clock; the counts are of the task's queue, `of_agent` of its agent's running tasks."""

    at: datetime.datetime
    workers: int  # live and not draining
    draining: int
    slots: int
    running: int
    of_agent: int
    seen_name: str | None  # the worker of the queue that was heard of last
    seen_seconds: float | None
    rung_seconds: float | None

    @property
    def free(self) -> int:
        return max(0, self.slots - self.running)


def facts(task: Task) -> Facts:
    """One query."""
    values: dict[str, Any] = {
        "queue": task.queue,
        "agent": task.agent_id,
        "id": task.id,
        "silence": HEARTBEATS * settings.TASK_HEARTBEAT_SECONDS,
    }
    with connection.cursor() as cursor:
        cursor.execute(FACTS, values)
        return Facts(*cursor.fetchone())


def ahead(task: Task, cap: int) -> tuple[int, int, int]:
    """Pending tasks of the queue with a higher priority; older ones of the same; of these, the same API key's.

    Counted up to `cap` each. One query.
    """
    values: dict[str, Any] = {
        "queue": task.queue, "priority": task.priority, "id": task.id, "api_key": task.api_key_id or 0, "cap": cap,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(AHEAD, values)
        higher, older, own = cursor.fetchone()
    return min(cap, higher), min(cap, older), min(cap, own)


def last_seen(worker: str) -> float | None:
    """Seconds since the worker of a task (`name:pid`) was heard of; None when nothing is known of it. One query."""
    name, _, pid = worker.rpartition(":")
    with connection.cursor() as cursor:
        cursor.execute(LAST_SEEN, [name, pid])
        row = cursor.fetchone()
    return row[0] if row else None
