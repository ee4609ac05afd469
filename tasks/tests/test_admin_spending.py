"""Money in the admin: budgets with their bars, prices, the ledger, the page on usage, more budget for a task."""
from __future__ import annotations

import doctest
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.test import Client
from django.utils import timezone

from agents.tests.factories import AgentVersionFactory
from agents.tests.people import assert_cheap, person, queries_of, text_of
from llm.in_force import IN_FORCE
from llm.models import Account, Budget, LedgerEntry, Price
from tasks.admin import chart, usage
from tasks.models import Event, Task
from tasks.tests.factories import TaskFactory
from tasks.tests.test_spending import entry

CONFIRMED = {"_form_submitted": "on"}
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Iterator[Client]:
    yield person("boss", superuser=True)
    IN_FORCE.forget()


def broke(scope: str = "task", **fields: Any) -> Task:
    """A task that waits for its own limit of a dollar."""
    task = TaskFactory(status="waiting", waiting_on="budget", last_seq=1, **fields)
    owner = task.id if scope == "task" else ""
    Account.objects.create(scope=scope, scope_id=owner, period="total", starts_at="1970-01-01T00:00:00Z",
                           limit_usd=1, spent_usd=Decimal("0.99"))  # fmt: skip
    data = {"waiting_on": "budget", "scope": scope, "scope_id": owner, "period": "total", "needed_usd": "0.05"}
    Event.objects.create(task=task, seq=1, type="task.waiting", at=timezone.now(), data=data)
    return task


def page(task: Task, name: str = "change") -> str:
    return f"/admin/tasks/task/{task.id}/{name}/"


def test_a_budget_is_added_with_what_was_spent_before(boss: Client) -> None:
    agent = AgentVersionFactory().agent
    entry(agent=agent.slug, cost_usd=Decimal("0.9"))
    given = {"scope": "agent", "scope_id": agent.slug, "period": "day", "limit_usd": "1", "enabled": "on"}
    assert boss.post("/admin/llm/budget/add/", given).status_code == 302
    words = text_of(boss.get("/admin/llm/budget/"))
    for part in (f"Agent {agent.slug}", "$1 a day", "$0.9 spent", "$0.1", "in force"):
        assert part in words, part
    row = Budget.objects.get()
    answer = boss.post(f"/admin/llm/budget/{row.pk}/change/", {"limit_usd": "0.5", "enabled": "on", "scope": "fleet"})
    assert answer.status_code == 302
    row.refresh_from_db()
    assert (row.scope, row.limit_usd) == ("agent", Decimal("0.5"))
    assert "spent" in text_of(boss.get("/admin/llm/budget/"))
    assert LogEntry.objects.get_for_object(row).count() == 2


@pytest.mark.parametrize(
    ("scope", "owner", "words"),
    [
        ("agent", "nobody", "There is no agent 'nobody'."), ("fleet", "x", "leave scope_id out"),
        ("task", "", "Say whose"),
    ],
)  # fmt: skip
def test_a_budget_of_nobody_is_refused_beside_its_field(boss: Client, scope: str, owner: str, words: str) -> None:
    given = {"scope": scope, "scope_id": owner, "period": "day", "limit_usd": "1", "enabled": "on"}
    assert words in text_of(boss.post("/admin/llm/budget/add/", given))
    assert not Budget.objects.exists()


@pytest.mark.parametrize("rows", [1, 60])
def test_the_budgets_cost_the_same_however_many(boss: Client, rows: int) -> None:
    for number in range(rows):
        Budget.objects.create(scope="agent", scope_id=f"a{number}", period="total", limit_usd=1)
    assert_cheap(queries_of(boss, "/admin/llm/budget/"))


def test_a_price_is_set_under_the_name_that_calls_use(boss: Client) -> None:
    given = {"model": "google/gemini-2.5-pro", "input_usd": "1", "output_usd": "2", "cached_usd": ""}
    assert boss.post("/admin/llm/price/add/", given).status_code == 302
    assert Price.objects.get().model == "gemini/gemini-2.5-pro"
    words = text_of(boss.get("/admin/llm/price/"))
    assert "$1 $2 as input as input $1.25 / $10" in words
    assert "does not exist" in text_of(boss.post("/admin/llm/price/add/", given | {"model": "nobody/x"}))


def test_the_ledger_is_read_only_and_found_by_task(boss: Client) -> None:
    row = entry(task_id="task_" + "a" * 32)
    entry(cost_usd=None, outcome="rate_limited")
    words = text_of(boss.get("/admin/llm/ledgerentry/"))
    assert "unknown" in words
    assert "rate_limited" in words
    found = text_of(boss.get("/admin/llm/ledgerentry/", {"q": row.task_id}))
    assert "1 ledger entry" in found
    assert boss.post(f"/admin/llm/ledgerentry/{row.pk}/delete/").status_code == 403
    assert_cheap(queries_of(boss, "/admin/llm/ledgerentry/"))
    assert LedgerEntry.objects.count() == 2


def test_usage_says_what_was_used_by_whom_and_when(boss: Client) -> None:
    now = timezone.now()
    for number, model in enumerate(("openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6", "gemini/gemini-2.5-pro")):
        entry(model=model, cost_usd=Decimal(number + 1) / 10, at=now - timedelta(days=number))
    entry(model="hosted_vllm/mine", cost_usd=None, outcome="provider_error", agent="reader")
    answer = boss.get("/admin/llm/ledgerentry/usage/")
    words = text_of(answer)
    for part in ("Cost $0.6 and 1 call without a price", "Calls 4", "Errors 1 25.0%", "gemini/gemini-2.5-pro 1 0 10",
                 "hosted_vllm/mine 1 1 100.0% 10 0 5 unknown 1 unpriced"):  # fmt: skip
        assert part in words, part
    svg = answer.content.decode().split("<svg class=\"console-chart\"")[1].split("</svg>")[0]
    assert svg.count("<rect") == 3  # a call without a price has no height
    assert f"{now:%Y-%m-%d} · openai/gpt-4o-mini: $0.1" in svg
    assert words.index("gemini/gemini-2.5-pro 1") < words.index("openai/gpt-4o-mini 1")  # the dearest first
    assert len(queries_of(boss, "/admin/llm/ledgerentry/usage/")) <= 8


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("?agent=reader", "a/b", "c/d"), ("?model=c/d", "c/d", "reader"),
        ("?by=agent&metric=calls", "reader 1", "by=x"),
        ("?by=day&days=7", "20", "others"), ("?by=nonsense&days=-1&metric=%00", "Model", "nonsense"),
        ("?by=api_key&metric=tokens", "no key", "key 0"), ("?by=provider&agent=%00x", "Nothing matches", "<"),
    ],
)  # fmt: skip
def test_usage_is_filtered_and_grouped(boss: Client, query: str, shown: str, hidden: str) -> None:
    entry(model="a/b", agent="reader")
    entry(model="c/d", agent="writer")
    words = text_of(boss.get(f"/admin/llm/ledgerentry/usage/{query}"))
    assert shown in words
    figures = words.split("Latency")[-1]
    assert hidden not in figures


@pytest.mark.parametrize("module", [chart, usage])
def test_the_worked_numbers_of_the_page_are_right(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_usage_without_a_call_says_what_to_do(boss: Client) -> None:
    words = text_of(boss.get("/admin/llm/ledgerentry/usage/"))
    assert "No model was called in this time. Run a task" in words


def test_usage_is_for_those_who_may_see_the_ledger() -> None:
    assert person("viewer", group="Viewers").get("/admin/llm/ledgerentry/usage/").status_code == 200
    assert person("nobody").get("/admin/llm/ledgerentry/usage/").status_code == 403
    assert person("olga", group="Operators").get("/admin/llm/budget/add/").status_code == 403


def test_an_operator_adds_budget_on_the_tasks_page_and_is_recorded() -> None:
    task = broke()
    olga = person("olga", group="Operators")
    words = text_of(olga.get(page(task)))
    assert "$0.01 of $1 is left" in words
    assert "Add budget …" in words
    assert "Dollars to add" in text_of(olga.get(page(task, "budget")))
    wrong = text_of(olga.post(page(task, "budget"), CONFIRMED | {"amount_usd": "much"}))
    assert "dollars from" in wrong

    answer = olga.post(page(task, "budget"), CONFIRMED | {"amount_usd": "0.50"}, follow=True)

    assert "$0.50 added" in text_of(answer)
    task.refresh_from_db()
    assert (task.status, Account.objects.get().limit_usd) == ("pending", Decimal("1.5"))
    assert LogEntry.objects.get_for_object(task).get().changes["add_budget_usd"] == [None, "0.50"]


def test_a_viewer_may_not_add_budget() -> None:
    task = broke()
    viewer = person("vera", group="Viewers")
    assert "You may not add to it" in text_of(viewer.get(page(task)))
    viewer.post(page(task, "budget"), CONFIRMED | {"amount_usd": "1"})
    assert Task.objects.get(id=task.id).status == "waiting"


def test_a_task_that_waits_for_the_fleets_budget_leads_to_the_budgets(boss: Client) -> None:
    words = text_of(boss.get(page(broke("fleet"))))
    assert "Add budget …" not in words
    assert "The budgets" in words
