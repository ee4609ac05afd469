"""The journal under replay, under a fence, and while PostgreSQL is away."""
from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from agents import versions
from agents.tools.registry import REGISTRY
from llm.in_force import IN_FORCE
from tasks import lifecycle, moves
from tasks.execution import claim, execute
from tasks.journal import Fenced, Journal, Nondeterminism
from tasks.leases import LEASES, Leases
from tasks.models import Event, Step, Task
from tasks.moves import Note
from tasks.states import EventType, Status, StepStatus
from tasks.tests.factories import TaskFactory
from tasks.tests.walking import ARITHMETIC, submit

pytestmark = pytest.mark.django_db(transaction=True)


def agent(script: list[dict[str, Any]], **config: Any) -> str:
    full = {"model": "scripted/list", "provider_options": {"script": script}, "tools": ["*_numbers"]} | config
    return versions.create("scripted", full, by="test").slug


def journal_of(task: Task) -> Journal:
    held = Leases().hold(task.id, task.attempt, time.monotonic())
    return Journal(held, list(Step.objects.filter(task=task)))


def test_the_end_of_a_step_and_the_start_of_the_next_share_a_commit() -> None:
    task = submit(agent(ARITHMETIC))
    IN_FORCE.touches(())  # what prices and budgets there are is read once a second, by whoever comes first
    with CaptureQueriesContext(connection) as queries:
        execute(task.id, "w")
    assert Task.objects.get(id=task.id).status == "completed"
    assert len(queries) == 1 + 3 + 1  # the claim, three steps begun, the end; each a commit


def test_a_task_is_not_run_twice_by_two_bells() -> None:
    task = submit(agent(ARITHMETIC))
    execute(task.id, "first")
    execute(task.id, "second")
    task.refresh_from_db()
    assert (task.attempt, task.steps_count) == (1, 3)
    assert Step.objects.filter(task=task).count() == 3


def test_a_journal_that_holds_another_tool_call_stops_the_task() -> None:
    task = submit(agent(ARITHMETIC))
    claimed = claim(task.id, "w")
    assert claimed
    journal = journal_of(claimed)
    journal.replay("llm", "scripted/list", {})
    journal.begin("llm", "scripted/list", {}, progress_seconds=5)
    journal.end(StepStatus.DONE, output={"text": "", "tool_calls": [], "finish_reason": "stop"})
    journal.replay("tool", "add_numbers", {"a": 5, "b": 3})
    journal.begin("tool", "add_numbers", {"a": 5, "b": 3}, progress_seconds=5)

    again = journal_of(claimed)
    assert again.replay("llm", "another/model", {}) is not None
    with pytest.raises(Nondeterminism, match="add_numbers"):
        again.replay("tool", "add_numbers", {"a": 6, "b": 3})


def test_a_fenced_journal_writes_nothing_more() -> None:
    task = TaskFactory()
    claimed = claim(task.id, "w")
    assert claimed
    journal = journal_of(claimed)
    Task.objects.filter(id=task.id).update(attempt=2)
    journal.replay("llm", "m", {})
    with pytest.raises(Fenced):
        journal.begin("llm", "m", {}, progress_seconds=5)
    assert not Step.objects.filter(task=task).exists()


@pytest.mark.parametrize("refused", [
    {"input_tokens": -1}, {"output_tokens": 2**63 - 1}, {"cost_usd": "-1"}, {"cost_usd": "1e15"}, {"model": "m" * 201},
    {"summary": "s" * 201}, {"attempts": None},
])  # fmt: skip
def test_a_step_that_postgresql_refuses_ends_its_task_instead_of_holding_it(refused: dict[str, Any]) -> None:
    claimed = claim(submit(agent(ARITHMETIC)).id, "w")
    assert claimed
    Task.objects.filter(id=claimed.id).update(output_tokens=1)  # one more than the largest there is
    journal = journal_of(claimed)
    journal.replay("llm", "scripted/list", {})
    journal.begin("llm", "scripted/list", {}, progress_seconds=9)
    journal.end(StepStatus.DONE, **refused)
    failed = Note(EventType.TASK_FAILED)
    with pytest.raises((DatabaseError, ValueError)):
        journal.finish(Status.FAILED, note=failed, error_code="internal_error", error_message="x")

    journal.drop_values()
    journal.finish(Status.FAILED, note=failed, error_code="internal_error", error_message="x")

    claimed.refresh_from_db()
    step = Step.objects.get(task=claimed)
    assert (claimed.status, step.status, step.input_tokens, step.cost_usd) == ("failed", "failed", 0, None)
    assert list(Event.objects.filter(task=claimed).values_list("type", flat=True)) == [
        "task.created", "task.started", "step.started", "step.failed", "task.failed",
    ]  # fmt: skip


def test_a_write_whose_answer_was_lost_is_not_made_twice(monkeypatch: Any) -> None:
    """The connection breaks after the commit: the statement landed, its caller does not know."""
    task = TaskFactory()
    claimed = claim(task.id, "w")
    assert claimed
    journal = journal_of(claimed)
    real, broken = moves.apply, []

    def apply_then_break(*given: Any, **more: Any) -> Any:
        row = real(*given, **more)
        if not broken:
            broken.append(row)
            raise OperationalError("server closed the connection unexpectedly")
        return row

    monkeypatch.setattr(moves, "apply", apply_then_break)
    journal.replay("llm", "m", {})
    journal.begin("llm", "m", {}, progress_seconds=5)

    assert broken
    assert list(Event.objects.filter(task=task).values_list("type", flat=True)) == ["task.started", "step.started"]
    assert Step.objects.filter(task=task).count() == 1


def test_a_cancel_that_was_asked_before_the_last_step_ends_the_task_cancelled() -> None:
    task = submit(agent([{**ARITHMETIC[0], "delay_seconds": 0.5}, {"text": "never said"}]))
    runner = threading.Thread(target=execute, args=(task.id, "w"))
    runner.start()
    while not (held := LEASES.all()):
        time.sleep(0.01)
    lifecycle.cancel(task.id, by="test")
    held[0].cancelled.set()  # what the heartbeat brings
    runner.join(10)

    task.refresh_from_db()
    assert (task.status, task.result, task.error_code) == ("cancelled", None, None)
    types = list(Event.objects.filter(task=task).order_by("seq").values_list("type", flat=True))
    assert types[-1] == "task.cancelled"
    assert types.count("task.cancelling") == 1


def test_what_the_agent_did_not_foresee_is_an_internal_error_without_its_text(monkeypatch: Any) -> None:
    monkeypatch.setattr(REGISTRY, "act", None)  # calling it is a TypeError
    monkeypatch.setattr("agents.tools.registry.act", None)
    task = submit(agent(ARITHMETIC))
    execute(task.id, "w")
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "internal_error")
    assert "TypeError" in (task.error_message or "")
    assert "NoneType" not in (task.error_message or "")


@pytest.mark.parametrize(
    ("script", "limits", "code"),
    [
        ([{"text": ""}, {"text": ""}], {}, "planner_error"),
        ([{"text": ""}, {"text": "recovered"}], {}, None),
        ([{"error": "auth"}], {}, "provider_auth"),
        ([{"error": "rate_limited"}], {}, "rate_limited"),
        ([{"error": "rate_limited"}] * 2 + [{"text": "third time lucky"}], {}, None),
        ([ARITHMETIC[0]], {}, "provider_error"),
        ([ARITHMETIC[0]] * 9, {"max_steps": 4}, "max_steps"),
        (ARITHMETIC, {"max_steps": 3}, None),
        (ARITHMETIC, {"max_steps": 2}, "max_steps"),
        (ARITHMETIC, {"max_tool_calls": 1}, None),
        ([ARITHMETIC[0]] * 2 + [{"text": "8"}], {"max_tool_calls": 1}, "max_steps"),
        ([ARITHMETIC[0]] * 2 + [{"text": "8"}], {"max_tokens": 20}, "budget_exceeded"),
        ([{"text": "Error: this failed, error, failed."}], {}, None),
    ],
)
def test_a_task_ends_by_what_happened(script: Any, limits: Any, code: str | None) -> None:
    task = submit(agent(script), limits=limits)
    execute(task.id, "w")
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed" if code else "completed", code)
    assert bool(task.error_message) == bool(code)


def test_three_tries_are_three_attempts_on_one_step_with_two_retry_events() -> None:
    task = submit(agent([{"error": "rate_limited"}] * 2 + [{"text": "ok"}]))
    execute(task.id, "w")
    step = Step.objects.get(task=task)
    errors = [item["error"] is not None for item in step.attempts]
    assert (step.status, errors) == ("done", [True, True, False])
    assert Event.objects.filter(task=task, type="step.retrying").count() == 2
