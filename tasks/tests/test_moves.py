"""The one statement: what it writes, what fences it off, and every arrow of the table of moves."""
from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from psycopg import sql

from tasks import moves
from tasks.models import Event, Step, Task
from tasks.moves import Begun, Change, Ended, Note
from tasks.states import FINAL, MOVES, ErrorCode, EventType, Status, WaitingOn
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db

NOW = sql.SQL("clock_timestamp()")
NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
FREE: dict[str, Any] = {"lease_until": None, "claimed_at": None, "worker": ""}
COLUMNS: dict[Status, dict[str, Any]] = {
    Status.PENDING: FREE | {"waiting_on": None},
    Status.RUNNING: {"lease_until": NOW, "claimed_at": NOW, "started_at": NOW, "attempt": 1, "worker": "w"},
    Status.WAITING: FREE | {"waiting_on": "input"},
    Status.COMPLETED: FREE | {"completed_at": NOW, "result": sql.SQL("'{}'::jsonb"), "waiting_on": None},
    Status.FAILED: FREE | {"completed_at": NOW, "error_code": "timeout", "error_message": "late", "waiting_on": None},
    Status.CANCELLED: FREE | {"completed_at": NOW, "waiting_on": None},
}


def force(task: Task, status: Status) -> None:
    """Put the task into a state past the table of moves."""
    columns = COLUMNS[status] | {"status": status.value}
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(k), v if isinstance(v, sql.Composable) else sql.Literal(v))
        for k, v in columns.items()
    ]
    with connection.cursor() as cursor:
        statement = sql.SQL("UPDATE tasks_task SET {} WHERE id = {}")
        cursor.execute(statement.format(sql.SQL(", ").join(pairs), sql.Literal(task.id)))


@pytest.mark.parametrize(("source", "to"), list(itertools.product(Status, Status)))
def test_exactly_the_arrows_of_the_table_exist(source: Status, to: Status) -> None:
    task = TaskFactory()
    force(task, source)

    moved = moves.apply(task.id, Change(to=to, assign=COLUMNS[to]))

    task.refresh_from_db()
    assert (moved is not None) == (to in MOVES[source])
    assert task.status == (to if to in MOVES[source] else source)


@pytest.mark.parametrize(("source", "to"), list(itertools.product(sorted(FINAL), Status)))
def test_the_database_itself_refuses_to_change_a_final_status(source: Status, to: Status) -> None:
    task = TaskFactory()
    force(task, source)
    if source == to:
        return
    with pytest.raises(IntegrityError, match="cannot become"), transaction.atomic():
        Task.objects.filter(id=task.id).update(status=to)


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "asleep"},
        {"status": "waiting"},
        {"waiting_on": "input"},
        {"status": "failed"},
        {"error_code": "timeout"},
        {"status": "running"},
        {"status": "completed"},
        {"result": {"agent_outcome": 1}},
        {"status": "waiting", "waiting_on": "godot"},
        {"status": "failed", "error_code": "timeout", "completed_at": NOON},
        {"status": "failed", "error_code": "bad_luck", "error_message": "x", "completed_at": NOON},
        {"status": "cancelled"},
        {"completed_at": NOON},
        {"lease_until": NOON},
        {"claimed_at": NOON},
        {"status": "running", "lease_until": NOON, "claimed_at": NOON, "started_at": NOON, "attempt": 1},
        {"status": "running", "lease_until": NOON, "claimed_at": NOON, "started_at": NOON, "worker": "w"},
        {"status": "running", "lease_until": NOON, "claimed_at": NOON, "attempt": 1, "worker": "w"},
        {"priority": 6},
        {"priority": -6},
        {"running_seconds": -1},
        *({name: -1, "worker": "w"} for name in ("cost_usd", "steps_count", "takeovers", "last_seq")),
        *({name: -1, "worker": "w"} for name in ("input_tokens", "output_tokens")),
    ],
)
def test_impossible_rows_are_refused_by_the_database(columns: dict[str, Any]) -> None:
    task = TaskFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(id=task.id).update(**columns)


@pytest.mark.parametrize("code", ErrorCode.values)
def test_the_database_knows_every_error_code(code: str) -> None:
    task = TaskFactory()
    failed = {"completed_at": NOW, "error_code": code, "error_message": "x"}

    assert moves.apply(task.id, Change(to=Status.FAILED, assign=failed)) is not None


@pytest.mark.parametrize("what", WaitingOn.values)
def test_the_database_knows_everything_that_is_waited_for(what: str) -> None:
    task = TaskFactory()
    force(task, Status.RUNNING)

    assert moves.apply(task.id, Change(to=Status.WAITING, assign=FREE | {"waiting_on": what})) is not None


def test_a_change_writes_the_step_that_ended_the_one_that_starts_and_its_events_together() -> None:
    task = TaskFactory()
    force(task, Status.RUNNING)
    begun = Begun(1, "llm", "scripted/list", {"messages": []})
    moves.apply(task.id, Change(attempt=1, begun=(begun,), notes=(Note(EventType.STEP_STARTED, {"step": 1}),)))

    ended = Ended(1, "done", output={"text": "hi"}, input_tokens=3, cost_usd="0.25", attempts=[{"seconds": 1}])
    tool = Begun(2, "tool", "add_numbers", {"a": 5, "b": 2**80}, "call_1")
    notes = (Note(EventType.STEP_COMPLETED, {"step": 1}), Note(EventType.STEP_STARTED, {"step": 2}))
    row = moves.apply(task.id, Change(attempt=1, begun=(tool,), ended=(ended,), notes=notes))

    first, second = Step.objects.filter(task=task).order_by("seq")
    assert row == {"last_seq": 3}
    assert (first.status, first.output, first.input_tokens, str(first.cost_usd)) == (
        "done", {"text": "hi"}, 3, "0.2500000000",
    )  # fmt: skip
    assert (second.status, second.input, second.call_id) == ("started", {"a": 5, "b": 2**80}, "call_1")
    assert list(Event.objects.filter(task=task).order_by("seq").values_list("seq", "type")) == [
        (1, "step.started"), (2, "step.completed"), (3, "step.started"),
    ]  # fmt: skip


@pytest.mark.parametrize("to", sorted(FINAL))
def test_a_step_that_nobody_ended_is_unknown_once_its_task_is_final(to: Status) -> None:
    task = TaskFactory()
    force(task, Status.RUNNING)
    moves.apply(task.id, Change(begun=(Begun(1, "llm", "m", {}),)))
    moves.apply(task.id, Change(ended=(Ended(1, "done"),), begun=(Begun(2, "tool", "t", {}),)))

    moves.apply(task.id, Change(begun=(Begun(3, "tool", "t", {}),)))  # as an attempt that died leaves it
    moves.apply(task.id, Change(to=to, assign=COLUMNS[to], ended=(Ended(3, "failed", error="late"),)))

    ends = list(Step.objects.filter(task=task).order_by("seq").values_list("status", "error"))
    assert ends == [("done", None), ("unknown", moves.NOBODY_ENDED_IT), ("failed", "late")]


def test_a_worker_that_lost_its_task_changes_nothing() -> None:
    task = TaskFactory()
    force(task, Status.RUNNING)
    Task.objects.filter(id=task.id).update(attempt=2)

    change = Change(attempt=1, begun=(Begun(1, "llm", "m", None),), notes=(Note(EventType.STEP_STARTED),))

    assert moves.apply(task.id, change) is None
    assert not Step.objects.filter(task=task).exists()
    assert not Event.objects.filter(task=task).exists()
    assert Task.objects.get(id=task.id).last_seq == 0


def test_text_that_postgresql_cannot_store_is_replaced_not_refused() -> None:
    task = TaskFactory()
    change = Change(notes=(Note(EventType.TASK_CANCELLING, {"by": "a\x00b\ud800c"}),))
    assert moves.apply(task.id, change)
    assert Event.objects.get(task=task).data == {"by": "a\ufffdb\ufffdc"}
