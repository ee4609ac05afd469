"""Tasks and money: a call that does not fit waits or fails, what is raised goes on, children draw from their parent."""
from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import F, Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents import versions
from agents.assembly import assemble
from agents.contract import Turn
from llm import accounts
from llm.accounts import Payer
from llm.budget import Granted, Offer
from llm.in_force import IN_FORCE
from llm.messages import Message, Usage
from llm.models import Account, Budget, LedgerEntry, Price, Reservation
from llm.tests.openai_server import OpenAIServer, raw
from tasks import budget_waits, lifecycle, sweep
from tasks.claims import claim
from tasks.execution import execute
from tasks.journal import Fenced, Journal
from tasks.leases import Leases
from tasks.models import Event, Step, Task
from tasks.moves import Note
from tasks.purse import Made, Purse
from tasks.states import EventType, Status, StepStatus
from tasks.tests.clients import Consumer, pointers
from tasks.tests.test_leases import events_of, expire
from tasks.tests.walking import submit

pytestmark = pytest.mark.django_db(transaction=True)

SAYS = {"text": "word" * 100}  # 100 tokens, at a tenth of a cent each: ten cents
ADDS = {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}], "text": "word" * 100}


@pytest.fixture(autouse=True)
def priced() -> Iterator[None]:
    """The scripted model costs 0.001 dollars for each token of its answer, the input nothing."""
    Price.objects.create(model="scripted/list", input_usd=0, output_usd=1000)
    yield
    IN_FORCE.forget()


def agent(*script: Any, slug: str = "payer", **config: Any) -> str:
    full = {
        "model": "scripted/list", "provider_options": {"script": list(script) or [SAYS]}, "tools": ["*_numbers"],
        "max_output_tokens": 110,
    }  # fmt: skip
    return versions.create(slug, full | config, by="test").slug


def run(slug: str, **fields: Any) -> Task:
    task = submit(slug, **fields)
    return again(task)


def again(task: Task) -> Task:
    execute(task.id, "w")
    task.refresh_from_db()
    return task


def data_of(task: Task, kind: str) -> dict[str, Any]:
    event = Event.objects.filter(task=task, type=kind).order_by("-seq").first()
    assert event is not None, events_of(task.id)
    return event.data


def is_square() -> bool:
    """Whether nothing is held any more, and every account of the fleet holds what the ledger says."""
    spent = LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"] or 0
    fleet = set(Account.objects.filter(scope="fleet").values_list("spent_usd", flat=True))
    held = Account.objects.aggregate(all=Sum("reserved_usd"))["all"] or 0
    return not Reservation.objects.exists() and not held and fleet <= {spent}


def test_a_call_is_entered_in_the_ledger_with_whose_it_is_and_what_it_cost() -> None:
    consumer = Consumer()
    task = run(agent(ADDS, SAYS), api_key=consumer.key)
    assert (task.status, task.cost_usd) == ("completed", Decimal("0.216"))
    first, second = LedgerEntry.objects.order_by("id")
    assert (first.task_id, first.step, first.attempt, first.agent) == (task.id, 1, 1, "payer")
    assert (first.api_key, first.model, first.provider) == (str(consumer.key.id), "scripted/list", "scripted")
    assert (first.outcome, first.simulated, second.step, second.cost_usd) == ("ok", True, 3, Decimal("0.1"))
    assert LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"] == task.cost_usd
    assert first.seconds >= 0
    assert not Account.objects.exists()


def test_a_failed_call_is_entered_with_its_error() -> None:
    task = run(agent({"error": "auth"}))
    assert task.error_code == "provider_auth"
    assert LedgerEntry.objects.get().outcome == "provider_auth"


def test_the_ledger_outlives_its_task() -> None:
    task = run(agent())
    boss = Consumer("admin")
    assert boss.http.delete(f"/api/v1/tasks/{task.id}/", **boss.auth).status_code == 204
    assert LedgerEntry.objects.get().task_id == task.id


def test_without_a_budget_in_force_a_call_costs_no_statement_more(settings: Any) -> None:
    """Given budgets of others, when a task runs, then nothing is sent but its journal and its ledger."""
    slug = agent(SAYS)
    Budget.objects.create(scope="agent", scope_id="another", period="day", limit_usd=1)
    IN_FORCE.touches(())
    task = submit(slug)
    with CaptureQueriesContext(connection) as queries:
        execute(task.id, "w")
    assert len(queries) == 1 + 1 + 1  # claim, begin, end with its ledger entry
    assert not Account.objects.exists()


def test_a_task_waits_before_the_call_that_would_not_fit_and_goes_on_when_raised_over_rest() -> None:
    api = Consumer()
    task = run(agent(ADDS, SAYS), api_key=api.key, limits={"max_cost_usd": "0.15"})
    assert (task.status, task.waiting_on, task.steps_count) == ("waiting", "budget", 2)
    data = data_of(task, "task.waiting")
    assert (data["scope"], data["scope_id"], data["period"]) == ("task", task.id, "total")
    assert (data["limit_usd"], data["spent_usd"], data["reserved_usd"]) == ("0.15", "0.116", "0")
    assert (data["needed_usd"], data["wanted_usd"]) == ("0.064", "0.11")
    reason = api.get(f"/tasks/{task.id}/why/").json()["reasons"][0]
    assert reason["code"] == "budget"
    assert "$0.034 of $0.15 is left" in reason["text"]
    assert "add_budget_usd" in reason["action"]
    assert budget_waits.waiting() == []

    answer = api.post(f"/tasks/{task.id}/resume/", {"add_budget_usd": "1.50"})

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert data_of(task, "task.resumed")["add_budget_usd"] == "1.50"
    assert again(task).status == "completed"
    assert Account.objects.get().limit_usd == Decimal("1.65")
    assert (task.cost_usd, is_square()) == (Decimal("0.216"), True)
    assert Step.objects.filter(task=task).count() == 3


def test_a_raise_that_is_too_small_waits_again_with_the_new_numbers() -> None:
    api = Consumer()
    task = run(agent(), api_key=api.key, limits={"max_cost_usd": "0.01"})
    api.post(f"/tasks/{task.id}/resume/", {"add_budget_usd": 0.02})
    assert again(task).waiting_on == "budget"
    assert data_of(task, "task.waiting")["limit_usd"] == "0.03"


def test_on_budget_fail_ends_the_task_before_the_call() -> None:
    task = run(agent(), limits={"max_cost_usd": "0.01", "on_budget": "fail"})
    assert (task.status, task.error_code, task.steps_count) == ("failed", "budget_exceeded", 0)
    assert "$0.01 of $0.01 is left" in (task.error_message or "")
    assert not LedgerEntry.objects.exists()


@pytest.mark.parametrize("scope", ["fleet", "agent", "api_key", "task"])
def test_every_scope_stops_a_task(scope: str) -> None:
    api = Consumer()
    slug = agent()
    task = submit(slug, api_key=api.key)
    owner = {"fleet": "", "agent": slug, "api_key": str(api.key.id), "task": task.id}[scope]
    Budget.objects.create(scope=scope, scope_id=owner, period="month", limit_usd="0.05")
    assert again(task).waiting_on == "budget"
    assert data_of(task, "task.waiting")["scope"] == scope
    answer = api.post(f"/tasks/{task.id}/resume/", {"add_budget_usd": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")
    assert "budget of" in answer.json()["detail"]


def raised(row: Budget) -> None:
    Budget.objects.update(limit_usd=1)


def removed(row: Budget) -> None:
    row.delete()


def switched_off(row: Budget) -> None:
    row.enabled = False
    row.save()


def a_new_day(row: Budget) -> None:
    Account.objects.update(starts_at=F("starts_at") - timedelta(days=1))


@pytest.mark.parametrize("change", [raised, removed, switched_off, a_new_day])
def test_a_task_goes_on_by_itself_when_the_budget_of_others_has_room(change: Any) -> None:
    row = Budget.objects.create(scope="fleet", period="day", limit_usd="0.1")
    other = Payer("task_other", "other")
    assert isinstance(accounts.reserve(other, Offer(Decimal("0.1"), Decimal(0), 1), attempt=1, step=1), Granted)
    task = run(agent())
    assert task.waiting_on == "budget"
    budget_waits.waiting()
    sweepers = [budget_waits.waiting() for _ in range(2)]
    assert sweepers == [[], []]

    change(row)
    budget_waits.sweep()

    task.refresh_from_db()
    assert (task.status, task.waiting_on) == ("pending", None)
    assert data_of(task, "task.resumed")["by"] == "sweeper"
    assert again(task).status == "completed"


def test_a_task_that_only_others_reservations_hold_back_goes_on_when_they_end() -> None:
    Budget.objects.create(scope="fleet", period="day", limit_usd="0.2")
    other = Payer("task_other", "other")
    accounts.reserve(other, Offer(Decimal("0.15"), Decimal(0), 1), attempt=1, step=1)
    task = run(agent())
    (reason,) = Consumer("admin").get(f"/tasks/{task.id}/why/").json()["reasons"]
    assert reason["action"].startswith("Wait: it goes on by itself")
    sweep.sweep()  # nobody runs that other task: its hold is given back, and then there is room
    task.refresh_from_db()
    assert task.status == "pending"
    assert again(task).status == "completed"
    assert is_square()


def test_as_many_go_on_as_there_is_room_for_the_first_in_line_first() -> None:
    row = Budget.objects.create(scope="fleet", period="day", limit_usd="0.01")
    slug = agent()
    tasks = [run(slug, priority=priority) for priority in (0, 5, 0)]
    assert {task.waiting_on for task in tasks} == {"budget"}
    row.limit_usd = Decimal("0.2")
    row.save()
    budget_waits.sweep()
    assert [Task.objects.get(id=task.id).status for task in tasks] == ["pending", "pending", "waiting"]


def test_a_task_that_waited_too_long_fails(settings: Any) -> None:
    task = run(agent(), limits={"max_cost_usd": "0.01"})
    budget_waits.sweep()
    assert Task.objects.get(id=task.id).status == "waiting"
    settings.BUDGET_WAIT_DAYS = 0
    budget_waits.sweep()
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("failed", "budget_exceeded")
    assert "BUDGET_WAIT_DAYS" in (task.error_message or "")
    assert events_of(task.id)[-1] == "task.failed"


def test_a_waiting_task_can_be_cancelled() -> None:
    task = run(agent(), limits={"max_cost_usd": "0.01"})
    assert lifecycle.cancel(task.id, by="test").status == "cancelled"


def test_a_model_without_a_price_is_not_called_under_a_budget() -> None:
    slug = agent(model="hosted_vllm/mine", provider_options={}, slug="local")
    task = run(slug, limits={"max_cost_usd": "5"})
    assert (task.status, task.error_code, task.steps_count) == ("failed", "budget_exceeded", 0)
    assert "'hosted_vllm/mine'" in (task.error_message or "")
    assert "POST /api/v1/prices/" in (task.error_message or "")


def test_a_free_model_runs_whatever_is_left() -> None:
    Budget.objects.create(scope="fleet", period="total", limit_usd=0)
    slug = versions.create("free", {"model": "scripted/echo"}, by="test").slug
    assert run(slug).status == "completed"


def test_children_draw_from_their_parent() -> None:
    api = Consumer()
    parent = run(agent(ADDS, SAYS), api_key=api.key, limits={"max_cost_usd": "0.15"})
    child = run(agent(slug="reader"), api_key=api.key, parent_task_id=parent.id, limits={"max_cost_usd": "9"})
    assert (child.waiting_on, data_of(child, "task.waiting")["scope_id"]) == ("budget", parent.id)
    answer = api.post(f"/tasks/{child.id}/resume/", {"add_budget_usd": "0.1"})
    assert answer.status_code == 202, answer.json()
    assert again(child).status == "completed"
    entry = LedgerEntry.objects.get(task_id=child.id)
    assert entry.ancestors == [parent.id]
    spent = dict(Account.objects.values_list("scope_id", "spent_usd"))
    assert spent == {parent.id: Decimal("0.216"), child.id: Decimal("0.1")}


def test_another_keys_parent_is_not_raised() -> None:
    parent = run(agent(), api_key=Consumer().key, limits={"max_cost_usd": "0.01"})
    reader = Consumer("tasks:write", "tasks:read_all")
    child = run(agent(slug="reader"), api_key=reader.key, parent_task_id=parent.id)
    answer = reader.post(f"/tasks/{child.id}/resume/", {"add_budget_usd": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")


def test_a_warning_is_given_once_when_four_fifths_are_spent() -> None:
    Budget.objects.create(scope="agent", scope_id="payer", period="day", limit_usd="0.25")
    slug = agent(ADDS, SAYS)
    first = run(slug)
    assert events_of(first.id).count("budget.warning") == 1
    assert events_of(first.id)[-3:] == ["step.completed", "budget.warning", "task.completed"]
    data = data_of(first, "budget.warning")
    assert data == {"scope": "agent", "scope_id": "payer", "period": "day"}  # others spend of it, too
    second = run(slug)
    assert second.waiting_on == "budget"
    assert "budget.warning" not in events_of(second.id)


def test_what_a_model_billed_beyond_its_reservation_is_charged() -> None:
    """The scripted model does not heed the limit of an answer."""
    Budget.objects.create(scope="fleet", period="day", limit_usd="0.08")
    task = run(agent(SAYS))
    assert (task.status, is_square()) == ("completed", True)
    assert Account.objects.get().spent_usd == Decimal("0.1")
    assert run(agent(slug="next")).waiting_on == "budget"


@pytest.mark.parametrize(("limit", "attempts"), [("0.0065", 1), ("0.0125", 2), ("9", 3)])
def test_an_attempt_that_was_billed_in_vain_is_repeated_as_far_as_the_money_goes(
    settings: Any, limit: str, attempts: int
) -> None:
    """Given answers that cannot be read but are billed, when the budget covers another attempt, then it is made."""
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": "sk-test-0123456789"}
    unreadable = raw(200, {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 10_000}})
    with OpenAIServer([unreadable]) as server:
        config = {"model": "openai/gpt-4o-mini", "api_base": server.base_url, "max_output_tokens": 10_000}
        task = run(versions.create("vain", config, by="test").slug, limits={"max_cost_usd": limit})
        assert len(server.requests) == attempts
    assert (task.status, task.error_code) == ("failed", "provider_error")
    entry = LedgerEntry.objects.get()
    assert (entry.outcome, entry.cost_usd) == ("provider_error", attempts * Decimal("0.006003"))
    account = Account.objects.get()
    assert (account.spent_usd, account.reserved_usd) == (entry.cost_usd, 0)
    assert account.spent_usd <= Decimal(limit)


def test_a_worker_that_lost_its_task_still_enters_what_was_billed() -> None:
    Budget.objects.create(scope="fleet", period="day", limit_usd=1)
    task = submit(agent(SAYS, {"text": "never"}))
    claimed = claim(task.id, "first")
    assert claimed
    held = Leases().hold(task.id, 1, time.monotonic())
    journal = Journal(held, [])
    found = claimed.version
    purse = Purse(claimed, held, journal, assemble("payer", found.config, {}, {}, {"prompt": "hi"}))
    turn = Turn((Message("user", "hi"),), (), (), 110, 60.0)
    journal.replay("llm", "scripted/list", {})
    assert purse.open(turn, 1) == 110
    journal.begin("llm", "scripted/list", {}, progress_seconds=9)
    Task.objects.filter(id=task.id).update(attempt=2)
    usage = Usage(10, 100, Decimal("0.1"))
    made = Made("scripted/list", usage, ())
    journal.end(StepStatus.DONE, charges=purse.charges(made, 1))
    with pytest.raises(Fenced):
        journal.finish(Status.FAILED, note=Note(EventType.TASK_FAILED), error_code="timeout", error_message="?")
    assert LedgerEntry.objects.get().cost_usd == Decimal("0.1")
    assert is_square()
    assert Step.objects.get(task=task).status == "started"


def test_what_a_killed_worker_held_is_given_back_when_its_attempt_is_over() -> None:
    """Given a paid call whose worker is gone, when the lease has run out, then the next attempt has the money."""
    Budget.objects.create(scope="fleet", period="day", limit_usd="0.11")
    task = submit(agent())
    claimed = claim(task.id, "dead")
    assert claimed
    payer = Payer(task.id, "payer")
    assert isinstance(accounts.reserve(payer, Offer(Decimal(0), Decimal("0.001"), 110), attempt=1, step=1), Granted)
    budget_waits.release_dead()
    assert Reservation.objects.count() == 1
    expire(task.id)
    sweep.recover_expired()
    assert not Reservation.objects.exists()
    assert again(task).status == "completed"
    assert is_square()


def test_a_cancelled_tasks_holds_are_given_back() -> None:
    Budget.objects.create(scope="fleet", period="day", limit_usd=1)
    task = submit(agent())
    accounts.reserve(Payer(task.id, "payer"), Offer(Decimal(1), Decimal(0), 1), attempt=1, step=1)
    lifecycle.cancel(task.id, by="test")
    assert budget_waits.release_dead() == 1
    assert Account.objects.get().reserved_usd == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"add_budget_usd": "0"}, {"/add_budget_usd": "out_of_range"}),
        ({"add_budget_usd": "-1"}, {"/add_budget_usd": "wrong_type"}),
        ({"add_budget_usd": "1e3"}, {"/add_budget_usd": "wrong_type"}),
        ({"add_budget_usd": "much"}, {"/add_budget_usd": "wrong_type"}),
        ({"add_budget_usd": True}, {"/add_budget_usd": "wrong_type"}),
        ({"add_budget_usd": None}, {"/add_budget_usd": "null"}),
        ({"add_budget_usd": "1.12345678901"}, {"/add_budget_usd": "wrong_type"}),
        ({"add_budget_usd": 10**400}, {"/add_budget_usd": "out_of_range"}),
        ({"add_budget_usd": "1", "resolve": "again"}, {"/add_budget_usd": "not_with_resolve"}),
        ({"add_budget_usd": "1", "result": 1}, {"/result": "not_with_resolve"}),
    ],
)
def test_an_amount_that_is_none_is_refused(body: Any, expected: dict[str, str]) -> None:
    api = Consumer()
    task = run(agent(), api_key=api.key, limits={"max_cost_usd": "0.01"})
    answer = api.post(f"/tasks/{task.id}/resume/", body)
    assert (answer.status_code, pointers(answer)) == (400, expected)
    assert Task.objects.get(id=task.id).status == "waiting"


def test_money_is_only_added_to_who_waits_for_it() -> None:
    api = Consumer()
    done = run(agent(), api_key=api.key)
    answer = api.post(f"/tasks/{done.id}/resume/", {"add_budget_usd": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_waiting")
    broke = run(agent(slug="broke"), api_key=api.key, limits={"max_cost_usd": "0.01"})
    answer = api.post(f"/tasks/{broke.id}/resume/", {"resolve": "again"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")
    Task.objects.filter(id=broke.id).update(waiting_on="children")
    answer = api.post(f"/tasks/{broke.id}/resume/", {"add_budget_usd": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")


def test_a_looser_limit_than_the_agents_is_refused() -> None:
    api = Consumer()
    agent(limits={"max_cost_usd": 0.5, "on_budget": "fail"})
    limits = {"max_cost_usd": "0.51", "on_budget": "wait"}
    answer = api.post("/tasks/", {"agent": "payer", "input_data": {"prompt": "hi"}, "limits": limits})
    expected = {"/limits/max_cost_usd": "looser_than_agent", "/limits/on_budget": "looser_than_agent"}
    assert (answer.status_code, pointers(answer)) == (400, expected)
    limits = {"max_cost_usd": "0.50"}
    answer = api.post("/tasks/", {"agent": "payer", "input_data": {"prompt": "hi"}, "limits": limits})
    assert answer.status_code == 201


def test_the_last_waiting_event_is_what_counts() -> None:
    task = run(agent(), limits={"max_cost_usd": "0.01"})
    Event.objects.create(task=task, seq=99, type="task.resumed", at=timezone.now(), data={})
    assert budget_waits.asked_for(task)["limit_usd"] == "0.01"
