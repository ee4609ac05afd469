"""Which pending tasks are rung next: as many as there are slots for, the most urgent first, each consumer in turn."""
from __future__ import annotations

from typing import Any

from django.conf import settings

from tasks import prepared

LEVELS = 200  # pairs of priority and API key that one round looks at
HEARTBEATS = 3  # a worker that missed so many is not counted on

# Most rounds find nothing: each end of a task asks for one.
ANY = """
SELECT 1 FROM tasks_task WHERE queue = %s AND status = 'pending' AND rung_at IS NULL AND NOT blocked LIMIT 1
"""

# The index `task_unrung` is (queue, priority desc, API key, id): `levels` hops from one pair of priority and key to
# the next, and each pair gives its oldest tasks, so that a backlog of any size costs the same.
NEXT = """
WITH RECURSIVE fleet AS (
    SELECT coalesce(sum(slots), 0) AS slots FROM tasks_worker
    WHERE %(queue)s = ANY(queues) AND NOT draining
        AND heartbeat_at > clock_timestamp() - make_interval(secs => %(silence)s::float)
), running AS MATERIALIZED (
    SELECT queue, agent_id, api_key_id FROM tasks_task WHERE status = 'running'
), bells AS MATERIALIZED (
    SELECT agent_id FROM tasks_task WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NOT NULL
), allowed AS (
    SELECT greatest(0, CASE
        WHEN fleet.slots = 0 THEN %(slots)s::int
        ELSE 2 * greatest(0, fleet.slots - (SELECT count(*) FROM running WHERE running.queue = %(queue)s))
    END - (SELECT count(*) FROM bells)) AS bells FROM fleet
), busy_agents AS MATERIALIZED (
    SELECT agent_id, count(*) AS tasks FROM (
        SELECT agent_id FROM running UNION ALL SELECT agent_id FROM bells
    ) AS busy GROUP BY agent_id
), busy_keys AS MATERIALIZED (
    SELECT coalesce(api_key_id, 0) AS api_key, count(*) AS tasks FROM running GROUP BY 1
), levels AS (
    (SELECT priority, coalesce(api_key_id, 0) AS api_key, 1 AS place FROM tasks_task
     WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked
     ORDER BY priority DESC, coalesce(api_key_id, 0) LIMIT 1)
    UNION ALL
    SELECT hop.priority, hop.api_key, levels.place + 1 FROM levels, LATERAL (
        (SELECT priority, coalesce(api_key_id, 0) AS api_key FROM tasks_task
         WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked
            AND priority = levels.priority AND coalesce(api_key_id, 0) > levels.api_key
         ORDER BY coalesce(api_key_id, 0) LIMIT 1)
        UNION ALL
        (SELECT priority, coalesce(api_key_id, 0) FROM tasks_task
         WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked
            AND priority < levels.priority
         ORDER BY priority DESC, coalesce(api_key_id, 0) LIMIT 1)
        LIMIT 1
    ) AS hop WHERE levels.place < %(levels)s::int
), candidates AS (
    SELECT task.*, levels.api_key,
        row_number() OVER (PARTITION BY levels.api_key ORDER BY levels.priority DESC, task.id)
            + coalesce((SELECT tasks FROM busy_keys WHERE busy_keys.api_key = levels.api_key), 0) AS turn,
        row_number() OVER (PARTITION BY task.agent_id ORDER BY levels.priority DESC, task.id)
            + coalesce((SELECT tasks FROM busy_agents WHERE busy_agents.agent_id = task.agent_id), 0) AS agents_nth
    FROM levels, LATERAL (
        SELECT id, priority, agent_id, max_concurrency FROM tasks_task
        WHERE queue = %(queue)s AND status = 'pending' AND rung_at IS NULL AND NOT blocked
            AND priority = levels.priority AND coalesce(api_key_id, 0) = levels.api_key
            AND (scheduled_at IS NULL OR scheduled_at <= clock_timestamp())
            AND (max_concurrency IS NULL OR max_concurrency > coalesce(
                (SELECT tasks FROM busy_agents WHERE busy_agents.agent_id = tasks_task.agent_id), 0))
        ORDER BY id LIMIT (SELECT bells FROM allowed)
    ) AS task
), best AS (
    SELECT id FROM candidates WHERE max_concurrency IS NULL OR agents_nth <= max_concurrency
    ORDER BY priority DESC, turn, id LIMIT (SELECT bells FROM allowed)
), mine AS (
    SELECT id FROM tasks_task WHERE id IN (SELECT id FROM best) AND status = 'pending' AND rung_at IS NULL
    ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE tasks_task AS task SET rung_at = clock_timestamp()
FROM mine JOIN candidates USING (id),
    agents_agentversion AS version JOIN agents_agent AS agent ON agent.id = version.agent_id
WHERE task.id = mine.id AND version.id = task.version_id
RETURNING task.id, task.name, agent.slug, version.version, -candidates.priority, candidates.turn
"""


def take_next(queue: str) -> list[tuple[Any, ...]]:
    """Mark the next tasks of the queue as rung and return (id, name, slug, version) in the order to ring them.

    Two statements at most. At most twice the free slots of the live workers are outstanding (rung and not claimed);
    while no worker is known, WORKER_CONCURRENCY. Never one that is blocked, whose time has not come, or whose agent
    is at its `max_concurrency`.
    """
    if prepared.row(ANY, [queue]) is None:
        return []
    values = {
        "queue": queue,
        "slots": str(settings.WORKER_CONCURRENCY),
        "silence": str(HEARTBEATS * settings.TASK_HEARTBEAT_SECONDS),
        "levels": str(LEVELS),
    }
    rows = prepared.rows(NEXT, values)
    return [row[:4] for row in sorted(rows, key=lambda row: (row[4], row[5], row[0]))]
