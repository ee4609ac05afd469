"""Money over REST: budgets and prices as resources, usage from the ledger."""
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.utils import timezone

from agents import versions
from llm import prices
from llm.in_force import IN_FORCE
from llm.messages import Usage
from llm.models import Budget, LedgerEntry, Price
from tasks.models import ApiKey, Task
from tasks.tests.clients import Consumer, pointers
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)

FLEET = {"scope": "fleet", "period": "day", "limit_usd": "5"}
PRICE = {"model": "hosted_vllm/mine", "input_usd_per_million": "0.5", "output_usd_per_million": "1.50"}


@pytest.fixture
def boss() -> Iterator[Consumer]:
    yield Consumer("admin")
    IN_FORCE.forget()
    Price.objects.all().delete()
    IN_FORCE.touches(())


def entry(**fields: Any) -> LedgerEntry:
    """A call of 10 tokens in and 5 out, 1 second, for 0.001 dollars."""
    given = {
        "at": timezone.now(), "task_id": "task_1", "step": 1, "attempt": 1, "agent": "writer", "api_key": "",
        "model": "openai/gpt-4o-mini", "provider": "openai", "input_tokens": 10, "output_tokens": 5,
        "cost_usd": Decimal("0.001"), "outcome": "ok", "seconds": 1.0,
    }  # fmt: skip
    return LedgerEntry.objects.create(**given | fields)


def usage(who: Consumer, query: str = "") -> list[dict[str, Any]]:
    answer = who.get(f"/usage/{query}")
    assert answer.status_code == 200, answer.content
    data: list[dict[str, Any]] = answer.json()["data"]
    return data


def delete(who: Consumer, path: str) -> int:
    return int(who.raw("DELETE", path, b"").status_code)


def test_a_budget_is_set_read_changed_and_removed(boss: Consumer) -> None:
    entry(cost_usd=Decimal("1.25"))
    made = boss.post("/budgets/", FLEET)
    body = made.json()
    assert (made.status_code, made["Location"]) == (201, f"/api/v1/budgets/{body['id']}/")
    assert {key: body[key] for key in ("scope", "scope_id", "period", "limit_usd", "enabled")} == {
        "scope": "fleet", "scope_id": "", "period": "day", "limit_usd": "5", "enabled": True,
    }  # fmt: skip
    assert (body["spent_usd"], body["reserved_usd"]) == ("1.25", "0")
    url = f"/budgets/{body['id']}/"
    assert boss.get(url).json() == boss.get("/budgets/").json()["data"][0] == body
    changed = boss.patch(url, {"limit_usd": 0, "enabled": False}).json()
    assert (changed["limit_usd"], changed["enabled"], changed["spent_usd"]) == ("0", False, None)
    assert delete(boss, url) == 204
    assert boss.get(url).status_code == delete(boss, url) == boss.patch(url, {}).status_code == 404
    verbs = list(LogEntry.objects.get_for_model(Budget).order_by("id").values_list("action", flat=True))
    assert verbs == [LogEntry.Action.CREATE, LogEntry.Action.UPDATE, LogEntry.Action.DELETE]


def test_a_budget_can_belong_to_an_agent_a_key_or_a_task(boss: Consumer) -> None:
    versions.create("writer", {"model": "scripted/echo"}, by="test")
    task = TaskFactory()
    for scope, owner in (("agent", "writer"), ("api_key", str(task.api_key_id)), ("task", task.id)):
        body = {"scope": scope, "scope_id": owner, "period": "total", "limit_usd": 1.5}
        assert boss.post("/budgets/", body).status_code == 201, scope
    assert [row["scope"] for row in boss.get("/budgets/").json()["data"]] == ["task", "api_key", "agent"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scope": "moon"}, {"/scope": "invalid_choice"}),
        ({"scope": 1}, {"/scope": "invalid_choice"}),
        ({"period": "week"}, {"/period": "invalid_choice"}),
        ({"limit_usd": "-1"}, {"/limit_usd": "wrong_type"}),
        ({"limit_usd": "nan"}, {"/limit_usd": "wrong_type"}),
        ({"limit_usd": None}, {"/limit_usd": "null"}),
        ({"limit_usd": "9999999999"}, {"/limit_usd": "out_of_range"}),
        ({"scope_id": "writer"}, {"/scope_id": "not_with_scope"}),
        ({"scope": "agent"}, {"/scope_id": "required"}),
        ({"scope": "agent", "scope_id": "nobody"}, {"/scope_id": "unknown_agent"}),
        ({"scope": "agent", "scope_id": 7}, {"/scope_id": "wrong_type"}),
        ({"scope": "api_key", "scope_id": "７"}, {"/scope_id": "unknown_api_key"}),
        ({"scope": "api_key", "scope_id": "9" * 60}, {"/scope_id": "unknown_api_key"}),
        ({"scope": "task", "scope_id": "task_" + "0" * 32}, {"/scope_id": "unknown_task"}),
        ({"enabled": "yes"}, {"/enabled": "wrong_type"}),
        ({"limits": 1}, {"/limits": "unknown_field"}),
    ],
)
def test_a_budget_that_cannot_be_is_refused_and_named(boss: Consumer, changes: Any, expected: dict[str, str]) -> None:
    answer = boss.post("/budgets/", FLEET | changes)
    assert (answer.status_code, pointers(answer)) == (400, expected)
    assert not Budget.objects.exists()


def test_a_second_budget_of_the_same_scope_and_period_is_a_conflict(boss: Consumer) -> None:
    boss.post("/budgets/", FLEET)
    answer = boss.post("/budgets/", FLEET)
    assert (answer.status_code, answer.json()["code"]) == (409, "budget_exists")
    assert boss.post("/budgets/", FLEET | {"period": "month"}).status_code == 201


def test_a_budgets_scope_and_period_do_not_change(boss: Consumer) -> None:
    made = boss.post("/budgets/", FLEET).json()
    answer = boss.patch(f"/budgets/{made['id']}/", {"period": "month", "scope": "task"})
    assert pointers(answer) == {"/period": "unknown_field", "/scope": "unknown_field"}


def test_a_price_is_set_heeded_changed_and_removed(boss: Consumer) -> None:
    made = boss.post("/prices/", PRICE)
    assert (made.status_code, made["Location"]) == (201, "/api/v1/prices/hosted_vllm/mine/")
    body = made.json()
    assert (body["model"], body["input_usd_per_million"], body["output_usd_per_million"]) == (
        "hosted_vllm/mine", "0.5", "1.5",
    )  # fmt: skip
    assert (body["cached_usd_per_million"], body["cache_write_usd_per_million"]) == (None, None)
    IN_FORCE.touches(())
    assert prices.cost_usd("hosted_vllm/mine", Usage(1_000_000, 1_000_000, cached_tokens=500_000)) == 2
    url = "/prices/hosted_vllm/mine/"
    assert boss.patch(url, {"cached_usd_per_million": "0"}).json()["cached_usd_per_million"] == "0"
    IN_FORCE.touches(())
    assert prices.cost_usd("hosted_vllm/mine", Usage(1_000_000, 1_000_000, cached_tokens=500_000)) == Decimal("1.75")
    assert boss.get("/prices/").json()["data"] == [boss.get(url).json()]
    assert delete(boss, url) == 204
    IN_FORCE.touches(())
    assert prices.cost_usd("hosted_vllm/mine", Usage(1, 1)) is None
    assert boss.get(url).status_code == 404


def test_a_set_price_comes_before_the_maps(boss: Consumer) -> None:
    assert boss.post("/prices/", PRICE | {"model": "google/gemini-2.5-pro"}).json()["model"] == "gemini/gemini-2.5-pro"
    IN_FORCE.touches(())
    assert prices.cost_usd("gemini/gemini-2.5-pro", Usage(2_000_000, 0)) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "gpt-4o"}, {"/model": "unknown_model"}),
        ({"model": "nobody/gpt-4o"}, {"/model": "unknown_model"}),
        ({"model": "openai/"}, {"/model": "unknown_model"}),
        ({"model": "x" * 201}, {"/model": "max_length"}),
        ({"model": 4}, {"/model": "wrong_type"}),
        ({"input_usd_per_million": "-1"}, {"/input_usd_per_million": "wrong_type"}),
        ({"output_usd_per_million": None}, {"/output_usd_per_million": "null"}),
        ({"cached_usd_per_million": "free"}, {"/cached_usd_per_million": "wrong_type"}),
        ({"price": 1}, {"/price": "unknown_field"}),
    ],
)
def test_a_price_that_cannot_be_is_refused_and_named(boss: Consumer, changes: Any, expected: dict[str, str]) -> None:
    answer = boss.post("/prices/", PRICE | changes)
    assert (answer.status_code, pointers(answer)) == (400, expected)


def test_a_model_has_one_price(boss: Consumer) -> None:
    boss.post("/prices/", PRICE)
    answer = boss.post("/prices/", PRICE)
    assert (answer.status_code, answer.json()["code"]) == (409, "price_exists")


@pytest.mark.parametrize("path", ["/budgets/", "/prices/"])
def test_money_is_an_admins(path: str) -> None:
    others = Consumer("tasks:write", "tasks:read_all", "agents:write")
    assert others.get(path).status_code == others.post(path, {}).status_code == 403
    assert delete(others, f"{path}1/") == 403


def test_usage_is_grouped_by_what_is_asked_newest_day_first(boss: Consumer) -> None:
    today = datetime.now(UTC)
    entry(at=today - timedelta(days=1), model="a/b", provider="a")
    entry(model="a/b", provider="a", cost_usd=None, seconds=3)
    entry(outcome="timeout", cached_tokens=4, seconds=5, task_id="task_2", agent="reader")
    entry(seconds=3)
    rows = usage(boss, "?group_by=model,day")
    assert [(row["day"], row["model"]) for row in rows] == [
        (f"{today:%Y-%m-%d}", "a/b"), (f"{today:%Y-%m-%d}", "openai/gpt-4o-mini"),
        (f"{today - timedelta(days=1):%Y-%m-%d}", "a/b"),
    ]  # fmt: skip
    assert rows[1] == {
        "day": f"{today:%Y-%m-%d}", "model": "openai/gpt-4o-mini", "calls": 2, "errors": 1, "input_tokens": 20,
        "output_tokens": 10, "cached_tokens": 4, "cost_usd": "0.002", "unpriced_calls": 0, "p50_seconds": 4.0,
        "p95_seconds": 4.9,
    }  # fmt: skip
    assert (rows[0]["cost_usd"], rows[0]["unpriced_calls"]) == (None, 1)
    (total,) = usage(boss)
    assert (total["calls"], total["cost_usd"], total["unpriced_calls"]) == (4, "0.003", 1)
    for group, names in (("agent", ["reader", "writer"]), ("provider", ["a", "openai"]), ("task", ["task_1", "task_2"]),
                         ("api_key", [""])):  # fmt: skip
        assert [row[group] for row in usage(boss, f"?group_by={group}")] == names


def test_usage_is_filtered(boss: Consumer) -> None:
    now = timezone.now()
    entry(at=now - timedelta(days=31))
    entry(at=now - timedelta(days=2), agent="reader")
    entry(model="a/b")
    assert usage(boss)[0]["calls"] == 2
    for query, calls in (
        ("agent=reader", 1), ("agent=reader,writer", 2), ("model=a/b", 1), ("model=none/none", 0),
        (f"created_after={now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}", 1),
        (f"created_before={now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}", 1),
        ("created_after=2020-01-01T00:00:00Z", 3),
    ):  # fmt: skip
        assert usage(boss, f"?{query}")[0]["calls"] == calls, query
    assert usage(boss, "?group_by=model&agent=nobody") == []


def test_without_a_call_nothing_was_spent(boss: Consumer) -> None:
    (total,) = usage(boss)
    assert (total["calls"], total["cost_usd"], total["p95_seconds"]) == (0, "0", None)


def test_usage_goes_on_page_by_page(boss: Consumer) -> None:
    today = datetime.now(UTC)
    for day in range(3):
        for name in "cba":
            entry(at=today - timedelta(days=day), agent=name)
    whole = usage(boss, "?group_by=agent,day")
    pages, cursor = [], ""
    while True:
        answer = boss.get(f"/usage/?group_by=agent,day&limit=2{cursor}").json()
        pages += answer["data"]
        if not answer["has_more"]:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert pages == whole
    assert [row["agent"] for row in whole] == list("abc") * 3


def test_a_key_sees_its_own_calls_unless_it_may_read_all() -> None:
    own = Consumer("tasks:write")
    entry(api_key=str(own.key.id))
    entry(api_key=str(own.key.id + 1))
    entry()
    assert usage(own)[0]["calls"] == 1
    assert usage(Consumer("tasks:read_all"))[0]["calls"] == 3
    assert Consumer("agents:read").get("/usage/").status_code == 403


@pytest.mark.parametrize(
    ("query", "name", "code"),
    [
        ("group_by=hour", "/group_by", "invalid_choice"), ("group_by=", "/group_by", "invalid"),
        ("group_by=day,day", "/group_by", "repeated"), ("created_after=yesterday", "/created_after", "invalid_time"),
        ("limit=0", "/limit", "invalid_limit"), ("cursor=x", "/cursor", "invalid_cursor"),
        ("since=1", "/since", "unknown_parameter"), ("agent=%00", "/agent", "not_storable"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_refused(boss: Consumer, query: str, name: str, code: str) -> None:
    answer = boss.get(f"/usage/?{query}")
    assert (answer.status_code, pointers(answer)) == (400, {name: code})


def test_a_cursor_of_another_grouping_is_refused(boss: Consumer) -> None:
    for name in "abc":
        entry(agent=name)
    cursor = boss.get("/usage/?group_by=agent&limit=1").json()["next_cursor"]
    answer = boss.get(f"/usage/?group_by=agent,day&limit=1&cursor={cursor}")
    assert (answer.status_code, pointers(answer)) == (400, {"/cursor": "invalid_cursor"})
    assert Task.objects.count() == 0
    assert ApiKey.objects.count() == 1
