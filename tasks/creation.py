"""The one statement that makes a task: its row, its first event, what it depends on and its idempotency key."""
from __future__ import annotations

from functools import cache

from agents.models import Agent, AgentVersion
from tasks import prepared
from tasks.models import Task
from tasks.moves import storable_json
from tasks.states import EventType
from tasks.submission import Submission

FILLED_IN = ("created_at", "updated_at")  # by the database

CREATE = """
WITH task AS (
    INSERT INTO tasks_task ({columns}) VALUES ({values}) RETURNING id, created_at, updated_at
), created AS (
    INSERT INTO tasks_event (task_id, seq, type, at, data)
    SELECT id, 1, %s, created_at, %s::jsonb FROM task
)"""
AFTER = """, after AS (
    INSERT INTO tasks_dependency (task_id, on_id) SELECT task.id, d FROM task, unnest(%s::text[]) AS d
)"""
KEYED = """, keyed AS (
    INSERT INTO tasks_idempotencykey (api_key_id, key, body_digest, task_id)
    SELECT %s::bigint, %s, %s, id FROM task
)"""
MADE = " SELECT created_at, updated_at FROM task"

VERSION = """
SELECT version.id, agent.id, version.version, version.config, agent.id, agent.slug, agent.version, agent.archived
FROM agents_agent AS agent JOIN agents_agentversion AS version ON version.agent_id = agent.id
WHERE agent.slug = %s AND version.version = coalesce(%s::int, agent.version)
"""


def create(task: Task, submission: Submission) -> None:
    """Store a new task of that submission. One statement; commits outside a transaction.

    Raises IntegrityError when its idempotency key was used meanwhile.
    """
    keyed = bool(submission.idempotency_key and submission.api_key)
    fields = prepared.fields_of(Task, *FILLED_IN)
    first = storable_json({"agent": task.version.agent.slug, "version": task.version.version})
    values = [*prepared.stored(task, fields), EventType.TASK_CREATED.value, first]
    if submission.depends_on:
        values.append(list(submission.depends_on))
    if keyed:
        values += [str(task.api_key_id), submission.idempotency_key, submission.body_digest]
    times = prepared.row(_statement(bool(submission.depends_on), keyed), values)
    task.created_at, task.updated_at = times or (None, None)
    task._state.adding, task._state.db = False, "default"


def published(slug: str, number: int | None) -> AgentVersion | None:
    """That version of an agent, or its current one, with the agent. One query."""
    row = prepared.row(VERSION, [slug, None if number is None else str(number)])
    if row is None:
        return None
    version = prepared.made(AgentVersion, prepared.named(AgentVersion, "id", "agent", "version", "config"), row[:4])
    version.agent = prepared.made(Agent, prepared.named(Agent, "id", "slug", "version", "archived"), row[4:])
    return version


@cache
def _statement(after: bool, keyed: bool) -> str:
    fields = prepared.fields_of(Task, *FILLED_IN)
    columns = ", ".join(f'"{field.column}"' for field in fields)
    made = CREATE.format(columns=columns, values=", ".join(["%s"] * len(fields)))
    return made + (AFTER if after else "") + (KEYED if keyed else "") + MADE
