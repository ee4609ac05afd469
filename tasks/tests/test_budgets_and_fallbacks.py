"""Money where a call is put off, or answered by another model than the one it was meant for."""
from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from agents import versions
from llm.in_force import IN_FORCE
from llm.models import Account, Budget, LedgerEntry, Price, Reservation
from llm.tests.openai_server import OpenAIServer, error, text
from llm.tests.redis_server import forget
from tasks import budget_waits, lifecycle, timers
from tasks.execution import execute
from tasks.models import Step, Task
from tasks.tests.walking import submit

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = "openai/first", "hosted_vllm/second"
CHEAP, DEAR = Decimal("0.000007"), Decimal("0.7")  # what 7 output tokens cost at a dollar, and at 100,000, a million
LONG = error(429, retry_after="120")


@pytest.fixture(autouse=True)
def budget(settings: Any) -> Iterator[Budget]:
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": "sk-x"}
    forget()
    Price.objects.create(model=FIRST, input_usd=0, output_usd=1)
    yield Budget.objects.create(scope="fleet", period="total", limit_usd=1)
    IN_FORCE.forget()
    forget()


def agent(first: OpenAIServer, second: OpenAIServer | None, settings: Any, **config: Any) -> str:
    settings.PROVIDER_API_BASES = {**settings.PROVIDER_API_BASES, "openai": first.base_url}
    if second is not None:
        config["fallback_models"] = [SECOND]
    return versions.create("payer", {"model": FIRST, "max_output_tokens": 8} | config, by="test").slug


def run(task: Task) -> Task:
    execute(task.id, "w")
    task.refresh_from_db()
    return task


def spent() -> Decimal:
    return Account.objects.get(scope="fleet").spent_usd


def test_a_call_that_is_put_off_holds_nothing_meanwhile_and_is_charged_once(settings: Any) -> None:
    settings.LLM_MAX_ATTEMPTS = 3
    with OpenAIServer([LONG, text("8")]) as server:
        task = run(submit(agent(server, None, settings)))
        assert (task.status, task.waiting_on) == ("waiting", "timer")
        assert not Reservation.objects.exists()
        assert (spent(), Account.objects.get().reserved_usd) == (0, 0)

        Task.objects.filter(id=task.id).update(wake_at=timezone.now() - timedelta(seconds=1))
        assert timers.wake_due() == 1
        task = run(task)

    assert (task.status, task.cost_usd, spent()) == ("completed", CHEAP, CHEAP)
    assert list(LedgerEntry.objects.order_by("id").values_list("outcome", "cost_usd")) == [
        ("rate_limited", 0), ("ok", CHEAP),
    ]  # fmt: skip
    assert not Reservation.objects.exists()


def test_a_task_that_is_cancelled_while_it_is_put_off_leaves_nothing_held(settings: Any) -> None:
    with OpenAIServer([LONG]) as server:
        task = run(submit(agent(server, None, settings)))
    lifecycle.cancel(task.id, by="test")
    budget_waits.release_dead()

    assert not Reservation.objects.exists()
    assert (spent(), Account.objects.get().reserved_usd) == (0, 0)


def test_what_is_held_covers_the_dearest_model_of_the_call(settings: Any, monkeypatch: Any) -> None:
    settings.LLM_MAX_ATTEMPTS = 1
    Price.objects.create(model=SECOND, input_usd=0, output_usd=100_000)
    with OpenAIServer([error(500)]) as first, OpenAIServer([text("8")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        task = run(submit(agent(first, second, settings)))

    assert (task.status, Step.objects.get(task=task).model) == ("completed", SECOND)
    assert (task.cost_usd, spent()) == (DEAR, DEAR)  # held: 8 tokens, 0.80 dollars, of the one
    assert not Reservation.objects.exists()


def test_a_dear_fallback_that_would_not_fit_keeps_the_call_from_being_made(settings: Any) -> None:
    Price.objects.create(model=SECOND, input_usd=0, output_usd=1_000_000)  # 8 tokens: 8 dollars
    with OpenAIServer([text("8")]) as first, OpenAIServer([text("8")]) as second:
        task = run(submit(agent(first, second, settings)))

    assert (task.status, task.waiting_on) == ("waiting", "budget")
    assert (first.requests, second.requests) == ([], [])


def test_under_a_budget_a_fallback_without_a_price_is_not_asked(settings: Any, monkeypatch: Any) -> None:
    settings.LLM_MAX_ATTEMPTS = 1
    with OpenAIServer([error(500)]) as first, OpenAIServer([text("8")]) as second:
        monkeypatch.setenv("HOSTED_VLLM_API_BASE", second.base_url)
        task = run(submit(agent(first, second, settings)))

    assert (task.status, task.error_code) == ("failed", "provider_error")
    assert f"the price of '{SECOND}' is not known" in (task.error_message or "")
    asked, passed_over = Step.objects.get(task=task).attempts
    assert (asked["model"], passed_over["model"], passed_over["skipped"]) == (FIRST, SECOND, 1)
    assert "configure it under Prices" in passed_over["error"]
    assert (len(first.requests), second.requests) == (1, [])
    assert (spent(), Account.objects.get().reserved_usd) == (0, 0)
