"""What happens to a tool call whose worker was lost in it, by what the tool says of a second call."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents import versions
from agents.tools.context import idempotency_key
from agents.tools.registry import REGISTRY
from tasks import lifecycle, resuming, sweep
from tasks.claims import claim
from tasks.errors import NotWaiting, WrongKind
from tasks.execution import execute
from tasks.models import Event, Step, Task
from tasks.states import StepStatus
from tasks.tests.test_journal import journal_of
from tasks.tests.test_leases import expire
from tasks.tests.walking import submit

pytestmark = pytest.mark.django_db(transaction=True)

LEDGER: list[str] = []


def tool_of(effect: Any, **more: Any) -> str:
    def deposit(amount: int) -> int:
        """Put money into the ledger."""
        LEDGER.append(idempotency_key())
        return amount

    REGISTRY.tool(effect=effect, timeout_seconds=5, in_worker=True, **more)(deposit)
    return "deposit"


@pytest.fixture(autouse=True)
def clean_ledger() -> Iterator[None]:
    LEDGER.clear()
    yield
    REGISTRY._tools.pop("deposit", None)


def lost_in_the_call() -> Task:
    """A task whose worker was lost after the tool call was journaled as started."""
    script = [{"tool_calls": [{"name": "deposit", "arguments": {"amount": 7}}]}, {"text": "done"}]
    config = {"model": "scripted/list", "provider_options": {"script": script}, "tools": ["deposit"]}
    versions.create("teller", config, by="test")
    task = submit("teller")
    claimed = claim(task.id, "first")
    assert claimed
    journal = journal_of(claimed)
    journal.replay("llm", "scripted/list", {})
    journal.begin("llm", "scripted/list", {}, progress_seconds=5)
    call = {"id": "call_0_0", "name": "deposit", "arguments": {"amount": 7}}
    said = {"text": "", "tool_calls": [call], "finish_reason": "tool_calls"}
    journal.end(StepStatus.DONE, output=said, attempts=[{"started_at": "", "seconds": 0.1, "error": None}])
    journal.replay("tool", "deposit", {"amount": 7})
    journal.begin("tool", "deposit", {"amount": 7}, progress_seconds=5, call_id="call_0_0")
    expire(task.id)
    sweep.recover_expired()
    return task


def now(task: Task) -> Task:
    return Task.objects.get(id=task.id)


@pytest.mark.parametrize("effect", ["none", "idempotent", "keyed"])
def test_a_call_that_may_be_repeated_is_made_again_with_the_same_key(effect: str) -> None:
    tool_of(effect)
    task = lost_in_the_call()
    execute(task.id, "second")
    assert now(task).status == "completed"
    assert [f"{task.id}:2"] == LEDGER


def test_a_once_call_is_never_made_again_and_waits_for_a_person() -> None:
    tool_of("once")
    task = lost_in_the_call()
    execute(task.id, "second")
    row, step = now(task), Step.objects.get(task=task, seq=2)
    assert (row.status, row.waiting_on, step.status) == ("waiting", "input", "unknown")
    assert LEDGER == []
    waits = Event.objects.get(task=task, type="task.waiting").data
    assert (waits["step"], waits["name"]) == (2, "deposit")


def test_it_happened_goes_on_with_its_result() -> None:
    tool_of("once")
    task = lost_in_the_call()
    execute(task.id, "second")
    resuming.resolve(task.id, "happened", by="ann", result=7)
    execute(task.id, "third")
    assert now(task).status == "completed"
    assert Step.objects.get(task=task, seq=2).output == 7
    assert LEDGER == []


def test_do_it_again_calls_it_once_more_and_only_once_more() -> None:
    tool_of("once")
    task = lost_in_the_call()
    execute(task.id, "second")
    resuming.resolve(task.id, "again", by="ann")
    execute(task.id, "third")
    assert (now(task).status, len(LEDGER)) == ("completed", 1)
    assert not Step.objects.get(task=task, seq=2).repeat_allowed


def test_stop_cancels() -> None:
    tool_of("once")
    task = lost_in_the_call()
    execute(task.id, "second")
    assert resuming.resolve(task.id, "stop", by="ann").status == "cancelled"
    assert LEDGER == []


def test_a_probe_that_finds_it_spares_the_person() -> None:
    tool_of("once", probe=lambda arguments, key: (True, arguments["amount"]))
    task = lost_in_the_call()
    execute(task.id, "second")
    assert (now(task).status, Step.objects.get(task=task, seq=2).output) == ("completed", 7)
    assert LEDGER == []


def test_a_probe_that_finds_nothing_lets_the_call_be_made() -> None:
    tool_of("once", probe=lambda arguments, key: (False, None))
    task = lost_in_the_call()
    execute(task.id, "second")
    assert (now(task).status, len(LEDGER)) == ("completed", 1)


def test_a_probe_that_fails_is_no_answer() -> None:
    def broken(arguments: dict[str, Any], key: str) -> tuple[bool, Any]:
        raise OSError("away")

    tool_of("once", probe=broken)
    task = lost_in_the_call()
    execute(task.id, "second")
    assert now(task).status == "waiting"


def test_resuming_what_does_not_wait_is_refused() -> None:
    tool_of("once")
    task = lost_in_the_call()
    with pytest.raises(NotWaiting):
        resuming.resolve(task.id, "again", by="ann")
    Task.objects.filter(id=task.id).update(status="waiting", waiting_on="budget")
    with pytest.raises(WrongKind):
        resuming.resolve(task.id, "again", by="ann")


def test_a_value_that_postgresql_refuses_ends_the_task_with_a_reason() -> None:
    def deposit(amount: int) -> Any:
        """Answer a number that jsonb cannot hold."""
        return 10**140_000

    REGISTRY.tool(effect="none", timeout_seconds=5, in_worker=True)(deposit)
    script = [{"tool_calls": [{"name": "deposit", "arguments": {"amount": 7}}]}, {"text": "done"}]
    config = {"model": "scripted/list", "provider_options": {"script": script}, "tools": ["deposit"]}
    versions.create("teller", config, by="test")
    task = submit("teller")
    execute(task.id, "w")
    assert now(task).is_final


def test_an_answer_that_holds_a_percent_sign_completes() -> None:
    versions.create("echo", {"model": "scripted/echo"}, by="test")
    task, _ = lifecycle.submit(lifecycle.Submission(agent="echo", input_data={"prompt": "100 % of {it} %s %(id)s"}))
    execute(task.id, "w")
    assert now(task).result == {"agent_outcome": "100 % of {it} %s %(id)s"}
