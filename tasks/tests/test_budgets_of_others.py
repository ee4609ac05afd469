"""What a plain key is told of money that is not its own, and how far it may raise what is."""
from __future__ import annotations

import json
from typing import Any

import pytest

from llm.models import Account, Budget
from tasks.models import Event, Task
from tasks.tests.clients import Consumer
from tasks.tests.test_budgets import again as once_more
from tasks.tests.test_budgets import agent, data_of, priced, run, submit

__all__ = ["priced"]  # a fixture
pytestmark = pytest.mark.django_db(transaction=True)
LIMIT, SPENT = "40.1234", "40.0934"


def spent_by_others(scope: str, owner: str) -> None:
    Budget.objects.create(scope=scope, scope_id=owner, period="total", limit_usd=LIMIT)
    Account.objects.create(
        scope=scope, scope_id=owner, period="total", starts_at="1970-01-01T00:00:00Z", spent_usd=SPENT, warned=False
    )


def said(api: Consumer, task: Task) -> str:
    """All that the key can read of the task."""
    pages = [api.get(f"/tasks/{task.id}/{page}").json() for page in ("", "why/", "events/", "steps/")]
    return json.dumps(pages)


@pytest.mark.parametrize(("scope", "owner"), [("fleet", ""), ("agent", "payer")])
@pytest.mark.parametrize("on_budget", ["wait", "fail"])
def test_a_plain_key_is_told_which_budget_and_what_it_needs_but_not_how_it_stands(
    scope: str, owner: str, on_budget: str
) -> None:
    api = Consumer("tasks:write", "tasks:read")
    spent_by_others(scope, owner)
    task = run(agent(limits={"on_budget": on_budget}), api_key=api.key)

    assert task.status == {"wait": "waiting", "fail": "failed"}[on_budget]
    told = said(api, task)
    assert "does not cover the next call, which may cost $0.064 or more" in told
    for amount in (LIMIT, SPENT, "0.03"):
        assert amount not in told


def test_a_warning_of_others_money_names_the_budget_alone() -> None:
    api = Consumer("tasks:write", "tasks:read")
    spent_by_others("fleet", "")
    Budget.objects.update(limit_usd="50.1234")
    task = run(agent(), api_key=api.key)
    assert data_of(task, "budget.warning") == {"scope": "fleet", "scope_id": "", "period": "total"}


@pytest.mark.parametrize("scopes", [("admin",), ("tasks:read_all",)])
def test_who_may_read_everything_reads_how_it_stands(scopes: tuple[str, ...]) -> None:
    spent_by_others("fleet", "")
    task = run(agent(), api_key=Consumer().key)
    (reason,) = Consumer(*scopes).get(f"/tasks/{task.id}/why/").json()["reasons"]
    assert f"$0.03 of ${LIMIT} is left (${SPENT} spent" in reason["text"]


def test_of_its_own_budget_a_key_is_told_all() -> None:
    api = Consumer("tasks:write", "tasks:read")
    spent_by_others("api_key", str(api.key.id))
    task = run(agent(), api_key=api.key)
    (reason,) = api.get(f"/tasks/{task.id}/why/").json()["reasons"]
    assert f"$0.03 of ${LIMIT} is left" in reason["text"]
    assert data_of(task, "task.waiting")["spent_usd"] == SPENT


def add(api: Consumer, task: Task, amount: str) -> Any:
    return api.post(f"/tasks/{task.id}/resume/", {"add_budget_usd": amount})


def test_only_an_admin_adds_beyond_what_the_agent_allows_a_task() -> None:
    api, boss = Consumer("tasks:write", "tasks:read"), Consumer("admin")
    task = run(agent(limits={"max_cost_usd": "0.05"}), api_key=api.key, limits={"max_cost_usd": "0.01"})
    before = Event.objects.filter(task=task).count()

    answer = add(api, task, "0.0400000001")

    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")
    assert "limits.max_cost_usd: $0.05" in answer.json()["detail"]
    task.refresh_from_db()
    assert (task.status, str(Account.objects.get().limit_usd)) == ("waiting", "0.0100000000")
    assert Event.objects.filter(task=task).count() == before
    assert add(api, task, "0.04").status_code == 202
    assert once_more(task).status == "waiting"
    assert add(boss, task, "1").status_code == 202
    assert once_more(task).status == "completed"


def test_an_agent_that_says_nothing_leaves_it_to_who_steers_the_task() -> None:
    api = Consumer("tasks:write", "tasks:read")
    task = submit(agent(), api_key=api.key, limits={"max_cost_usd": "0.01"})
    assert once_more(task).status == "waiting"
    assert add(api, task, "9").status_code == 202
