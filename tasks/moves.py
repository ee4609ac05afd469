"""The one statement that changes a task: its row, its steps that ended and started, events and ledger, or nothing.

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

from psycopg import sql

from llm import ledger
from llm.ledger import Charge
from llm.storable import clean_json
from tasks import prepared
from tasks.states import FINAL, MOVES, EventType, Status

LIVE = frozenset(Status) - FINAL

NOBODY_ENDED_IT = "Its worker was lost, and the task ended before it was made again."

FOUND = " SELECT {} FROM moved"
# Every value is bound as text and cast here, so that PostgreSQL keeps one plan for each shape of the statement. Steps
# are found by the bound task and number, not by those of `moved`: a join would be planned as a scan while they are few.
MOVED = """
WITH moved AS (
    UPDATE tasks_task SET last_seq = last_seq + {drawn}, updated_at = clock_timestamp(){assignments}
    WHERE id = %s AND status IN ({sources}){conditions}
    RETURNING {returning}
)"""
ENDED = """, ended{place} AS (
    UPDATE tasks_step AS step SET
        status = %s, summary = %s, output = %s::jsonb, error = %s, model = %s, input_tokens = %s::bigint,
        output_tokens = %s::bigint, cost_usd = %s::numeric, attempts = %s::jsonb, simulated = %s::bool,
        seconds = %s::float
    FROM moved WHERE step.task_id = %s AND step.seq = %s::int
)"""
ABANDONED = """, abandoned AS (
    UPDATE tasks_step AS step SET status = 'unknown', error = %s FROM moved
    WHERE step.task_id = %s AND step.status = 'started' AND step.seq <> ALL(%s::int[])
)"""
STARTED = """, started{place} AS (
    INSERT INTO tasks_step (task_id, seq, kind, name, call_id, input, attempt, started_at, status, summary,
        input_tokens, output_tokens, cost_usd, attempts, simulated, repeat_allowed)
    SELECT moved.id, %s::int, %s, %s, %s, %s::jsonb, moved.attempt, moved.updated_at, 'started', '',
        0, 0, 0, '[]', false, false
    FROM moved
)"""
RESTARTED = """, started{place} AS (
    UPDATE tasks_step AS step SET status = 'started', attempt = moved.attempt, started_at = moved.updated_at,
        error = NULL, repeat_allowed = false
    FROM moved WHERE step.task_id = %s AND step.seq = %s::int
)"""
NOTED = """, noted AS (
    INSERT INTO tasks_event (task_id, seq, type, at, data)
    SELECT moved.id, moved.last_seq - {drawn} + n.place, n.type, moved.updated_at,
        CASE n.type WHEN 'task.started' THEN n.data || jsonb_build_object('attempt', moved.attempt) ELSE n.data END
    FROM moved, (VALUES {rows}) AS n(place, type, data)
)"""


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be written with a change."""

    type: EventType
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that starts with a change; `again` when an earlier attempt left its row."""

    seq: int
    kind: str
    name: str
    input: Any
    call_id: str = ""
    again: bool = False


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

    @property
    def kind(self) -> str:
        """The type in PostgreSQL."""
        return "numeric" if isinstance(self.amount, Decimal) else "bigint"


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to one task.

    `to` is the status it moves to (None: it stays). `assign` maps columns to values, to `Plus`, or to SQL expressions.
    `only_if` are further SQL conditions on the row, ANDed. `attempt` fences. `charges` are model calls that ended.
    """

    to: Status | None = None
    attempt: int | None = None
    assign: Mapping[str, Any] = field(default_factory=dict)
    only_if: Sequence[sql.Composable] = ()
    sources: frozenset[Status] | None = None
    notes: Sequence[Note] = ()
    begun: Sequence[Begun] = ()
    ended: Sequence[Ended] = ()
    charges: Sequence[Charge] = ()


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

    Besides columns, `returning` may name SQL expressions over `moved`, the changed row. None when there is no such row
    in a state that allows it, or it is fenced off: then nothing was written.
    """
    assign = {**change.assign, **({"status": change.to.value} if change.to else {})}
    shape = _Shape(
        assignments=tuple(_assignment(column, value) for column, value in assign.items()),
        conditions=tuple(condition.as_string(None) for condition in change.only_if),
        sources=tuple(sources_of(change)), fenced=change.attempt is not None, final=change.to in FINAL,
        ended=len(change.ended), begun=tuple(begun.again for begun in change.begun), notes=len(change.notes),
        charged=ledger.parts(change.charges), returning=tuple(returning),
    )  # fmt: skip
    row = prepared.row(_statement(shape), _values(task_id, change, assign))
    return dict(zip(returning, row, strict=True)) if row else None


class _Shape(NamedTuple):
    """What the text of a statement depends on."""

    assignments: tuple[str, ...]
    conditions: tuple[str, ...]
    sources: tuple[str, ...]
    fenced: bool
    final: bool
    ended: int
    begun: tuple[bool, ...]
    notes: int
    charged: str
    returning: tuple[str, ...]


@lru_cache(maxsize=256)
def _statement(shape: _Shape) -> str:
    """The text for a change of this shape: few shapes, so that PostgreSQL keeps each one's plan."""
    conditions = (*shape.conditions, *(("attempt = %s::int",) if shape.fenced else ()))
    columns = [wanted for wanted in shape.returning if wanted.isidentifier()]
    parts = [
        MOVED.format(
            drawn=shape.notes, assignments="".join(f", {assignment}" for assignment in shape.assignments),
            sources=", ".join(f"'{source}'" for source in shape.sources) or "NULL",
            conditions="".join(f" AND {condition}" for condition in conditions),
            returning=", ".join(dict.fromkeys(("id", "attempt", "last_seq", "updated_at", *columns))),
        ),
        *(ENDED.format(place=place) for place in range(shape.ended)),
        ABANDONED if shape.final else "",
        *((RESTARTED if again else STARTED).format(place=place) for place, again in enumerate(shape.begun)),
    ]  # fmt: skip
    if shape.notes:
        rows = ", ".join(f"({place}, %s, %s::jsonb)" for place in range(1, shape.notes + 1))
        parts.append(NOTED.format(drawn=shape.notes, rows=rows))
    parts.append(shape.charged)
    return "".join(parts) + FOUND.format(", ".join(shape.returning))


def _values(task_id: str, change: Change, assign: Mapping[str, Any]) -> list[Any]:
    """The values in the order of the statement's parts."""
    values = [_bound(value) for value in assign.values() if not isinstance(value, sql.Composable)]
    values.append(task_id)
    if change.attempt is not None:
        values.append(str(change.attempt))
    for ended in change.ended:
        values += [*_values_of_end(ended), task_id, str(ended.seq)]
    if change.to in FINAL:
        values += [NOBODY_ENDED_IT, task_id, [ended.seq for ended in change.ended]]
    for begun in change.begun:
        values += [task_id, str(begun.seq)] if begun.again else _values_of_start(begun)
    for note in change.notes:
        values += [note.type.value, storable_json(note.data)]
    return values + ledger.values(change.charges)


def _values_of_start(begun: Begun) -> list[Any]:
    return [str(begun.seq), begun.kind, begun.name, begun.call_id, _json(begun.input)]


def _values_of_end(ended: Ended) -> list[Any]:
    """Raises ValueError for what no call can have used."""
    if ended.input_tokens < 0 or ended.output_tokens < 0 or (ended.cost_usd or "0").startswith("-"):
        raise ValueError(f"step {ended.seq} cannot have used {ended.input_tokens} and {ended.output_tokens} tokens "
                         f"for {ended.cost_usd} dollars")  # fmt: skip
    attempts = "[]" if ended.attempts == () else _json(ended.attempts)
    return [
        ended.status, ended.summary, _json(ended.output), ended.error, ended.model, str(ended.input_tokens),
        str(ended.output_tokens), ended.cost_usd, attempts, ended.simulated, str(ended.seconds),
    ]  # fmt: skip


def _assignment(column: str, value: Any) -> str:
    if isinstance(value, sql.Composable):
        return f"{column} = {value.as_string(None)}"
    return f"{column} = {column} + %s::{value.kind}" if isinstance(value, Plus) else f"{column} = %s"


def _bound(value: Any) -> Any:
    """A whole number as text: bound as a number, its type would depend on its size, and each type has its own plan."""
    bare = value.amount if isinstance(value, Plus) else value
    return str(bare) if type(bare) in (int, Decimal) else bare


def _json(value: Any) -> str | None:
    return None if value is None else storable_json(value)


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
