"""The one statement that changes a task: its row, the steps that ended and started, and the events, or nothing.

The UPDATE of the task row comes first and draws the event numbers; everything else in the statement hangs on
the row that it returns. With `attempt` it is the fence: a worker that lost its task changes nothing.
"""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from django.db import connection
from psycopg import sql

from llm.storable import clean_json
from tasks.states import FINAL, MOVES, EventType, Status

LIVE = frozenset(Status) - FINAL

NOBODY_ENDED_IT = "Its worker was lost, and the task ended before it was made again."

MOVED = """
WITH moved AS (
    UPDATE tasks_task SET last_seq = last_seq + %(drawn)s, updated_at = clock_timestamp(){assignments}
    WHERE id = %(id)s AND status = ANY(%(sources)s){conditions}
    RETURNING {returning}
)"""
FOUND = " SELECT {} FROM moved"
# By constant task and numbers, so that no plan ever reads the other steps of a long task.
ENDED = """, ended AS (
    UPDATE tasks_step AS step SET
        status = e.status, summary = e.summary, output = e.output, error = e.error, model = e.model,
        input_tokens = e.input_tokens, output_tokens = e.output_tokens, cost_usd = e.cost_usd,
        attempts = e.attempts, simulated = e.simulated, seconds = e.seconds
    FROM moved, jsonb_to_recordset(%(ended)s::jsonb) AS e(
        seq int, status text, summary text, output jsonb, error text, model text, input_tokens bigint,
        output_tokens bigint, cost_usd numeric, attempts jsonb, simulated bool, seconds float)
    WHERE step.task_id = %(id)s AND step.seq = ANY(%(ended_seqs)s::int[]) AND step.seq = e.seq
)"""
ABANDONED = """, abandoned AS (
    UPDATE tasks_step AS step SET status = 'unknown', error = %(nobody)s FROM moved
    WHERE step.task_id = %(id)s AND step.status = 'started' AND step.seq <> ALL(%(ended_seqs)s::int[])
)"""
STARTED = """, started AS (
    INSERT INTO tasks_step (task_id, seq, kind, name, call_id, input, attempt, started_at, status, summary,
        input_tokens, output_tokens, cost_usd, attempts, simulated, repeat_allowed)
    SELECT moved.id, s.seq, s.kind, s.name, s.call_id, s.input, moved.attempt, moved.updated_at, 'started', '',
        0, 0, 0, '[]', false, false
    FROM moved, jsonb_to_recordset(%(started)s::jsonb) AS s(seq int, kind text, name text, call_id text, input jsonb)
    ON CONFLICT (task_id, seq) DO UPDATE SET status = excluded.status, attempt = excluded.attempt,
        started_at = excluded.started_at, error = NULL, repeat_allowed = false
)"""
NOTED = """, noted AS (
    INSERT INTO tasks_event (task_id, seq, type, at, data)
    SELECT moved.id, moved.last_seq - %(drawn)s + n.place, n.type, moved.updated_at,
        CASE n.type WHEN 'task.started' THEN n.data || jsonb_build_object('attempt', moved.attempt) ELSE n.data END
    FROM moved, unnest(%(types)s::text[], %(data)s::jsonb[]) WITH ORDINALITY AS n(type, data, place)
)"""


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be written with a change."""

    type: EventType
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that starts with a change."""

    seq: int
    kind: str
    name: str
    input: Any
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A step that ends with a change."""

    seq: int
    status: str
    summary: str = ""
    output: Any = None
    error: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str | None = "0"
    attempts: Sequence[Any] = ()
    simulated: bool = False
    seconds: float = 0.0


class Plus(NamedTuple):
    """To be added to what the column holds."""

    amount: int | Decimal


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to one task.

    `to` is the status it moves to (None: it stays). `assign` maps columns to values, to `Plus`, or to SQL expressions.
    `only_if` are further SQL conditions on the row, ANDed. `attempt` fences.
    """

    to: Status | None = None
    attempt: int | None = None
    assign: Mapping[str, Any] = field(default_factory=dict)
    only_if: Sequence[sql.Composable] = ()
    sources: frozenset[Status] | None = None
    notes: Sequence[Note] = ()
    begun: Sequence[Begun] = ()
    ended: Sequence[Ended] = ()


def sources_of(change: Change) -> list[str]:
    """The states the change may start from, in words of the table of moves."""
    if change.sources is not None:
        allowed = change.sources
    elif change.to is not None:
        allowed = frozenset(Status)
    else:
        allowed = frozenset({Status.RUNNING}) if change.attempt is not None else LIVE
    if change.to is not None:
        allowed = frozenset(source for source in allowed if change.to in MOVES[source])
    return sorted(allowed)


def apply(task_id: str, change: Change, returning: Sequence[str] = ("last_seq",)) -> dict[str, Any] | None:
    """Make the change in one statement (and one commit, outside a transaction) and return those columns.

    None when there is no such row in a state that allows it, or it is fenced off: then nothing was written.
    """
    values: dict[str, Any] = {
        "id": task_id,
        "sources": sources_of(change),
        "drawn": len(change.notes),
        "types": [note.type.value for note in change.notes],
        "data": [storable_json(note.data) for note in change.notes],
        "ended": storable_json([_fields(ended) for ended in change.ended]),
        "ended_seqs": [ended.seq for ended in change.ended],
        "nobody": NOBODY_ENDED_IT,
        "started": storable_json([_fields(begun) for begun in change.begun]),
        "fence": change.attempt,
    }
    assign = {**change.assign, **({"status": change.to.value} if change.to else {})}
    assignments = tuple(_assignment(column, value, values) for column, value in assign.items())
    conditions = tuple(condition.as_string(None) for condition in change.only_if)
    if change.attempt is not None:
        conditions += ("attempt = %(fence)s",)
    parts = (bool(change.ended), change.to in FINAL, bool(change.begun), bool(change.notes))
    row = _execute(_statement(assignments, conditions, parts, tuple(returning)), values)
    return dict(zip(returning, row, strict=True)) if row else None


@lru_cache(maxsize=256)
def _statement(
    assignments: tuple[str, ...], conditions: tuple[str, ...], parts: tuple[bool, ...], returning: tuple[str, ...]
) -> str:
    """The text for a change of this shape: few shapes, so that PostgreSQL keeps each one's plan."""
    text = MOVED.format(
        assignments="".join(f", {assignment}" for assignment in assignments),
        conditions="".join(f" AND {condition}" for condition in conditions),
        returning=", ".join(dict.fromkeys(("id", "attempt", "last_seq", "updated_at", *returning))),
    )
    written = zip(parts, (ENDED, ABANDONED, STARTED, NOTED), strict=True)
    text += "".join(part for wanted, part in written if wanted)
    return text + FOUND.format(", ".join(returning))


def _execute(statement: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
    """Run it as a prepared statement: Django's own cursor sends the values in the text, and each is planned anew."""
    connection.ensure_connection()
    cursor: Any = psycopg.Cursor(connection.connection)
    with connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor) as made:
        made.execute(statement, values)
        row: tuple[Any, ...] | None = made.fetchone()
        return row


def _assignment(column: str, value: Any, values: dict[str, Any]) -> str:
    if isinstance(value, sql.Composable):
        return f"{column} = {value.as_string(None)}"
    name = f"set_{column}"
    if isinstance(value, Plus):
        values[name] = value.amount
        return f"{column} = {column} + %({name})s"
    values[name] = value
    return f"{column} = %({name})s"


def storable_json(value: Any) -> str:
    """JSON text that PostgreSQL takes as jsonb: no NUL, no lone surrogate; ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if "\\u0000" in text or not _is_utf8(text):
        text = json.dumps(clean_json(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(step: Begun | Ended) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__slots__}
