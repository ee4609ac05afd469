"""Budgets under worker processes that call a real server at once, and that are killed in a paid call."""
from __future__ import annotations

import threading
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum

from agents import versions
from llm.models import Account, Budget, LedgerEntry, Reservation
from llm.tests.openai_server import Answer, OpenAIServer, Request, hang, text
from tasks import budget_waits, lifecycle
from tasks.lifecycle import Submission
from tasks.models import Event, Task
from tasks.tests.clients import Consumer
from tasks.tests.walking import ended, submit
from tasks.tests.workers import running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MODEL = "openai/gpt-4o-mini"  # 0.15 and 0.60 dollars a million
TOKENS = 10_000  # of an answer: 0.006 dollars


def exact(request: Request) -> Answer:
    """Counts a token for each byte that it was sent, four times the usual estimate, and answers as long as it may."""
    sent = sum(len(message["content"].encode()) for message in request.body["messages"])
    return text("done", usage=(sent, request.body["max_tokens"]), delay_seconds=0.3)


def worker(server: OpenAIServer, **environment: str) -> Any:
    return running_worker(OPENAI_API_KEY="sk-test-0123456789", OPENAI_API_BASE=server.base_url, **environment)


def spent() -> Decimal:
    return LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"] or Decimal(0)


def at_rest() -> bool:
    """Whether nothing runs, nothing is held, and nobody who waits could go on."""
    busy = Task.objects.filter(status__in=("pending", "running")).exists()
    return not busy and not Reservation.objects.exists() and not budget_waits.waiting()


@pytest.mark.timeout(240)
def test_two_hundred_calls_of_two_processes_never_spend_more_than_the_budget() -> None:
    """Given a dollar for calls of 1.2 in all, when all come at once, then at most a dollar is spent, to the last cent
    that a call fits into, and the rest goes on when the budget is raised."""
    versions.create("payer", {"model": MODEL, "max_output_tokens": TOKENS}, by="test")
    fleet = Budget.objects.create(scope="fleet", period="day", limit_usd=1)
    Budget.objects.create(scope="agent", scope_id="payer", period="month", limit_usd=3)
    with OpenAIServer(exact) as server, ExitStack() as workers:
        for _ in range(2):
            workers.enter_context(worker(server, WORKER_CONCURRENCY="100"))
        for number in range(200):
            lifecycle.submit(Submission(agent="payer", input_data={"prompt": f"Question {number}: " + "é" * 50}))
        until(lambda: LedgerEntry.objects.count() >= 160 and at_rest(), 100)

        account = Account.objects.get(scope="fleet")
        assert (account.spent_usd, account.reserved_usd) == (spent(), 0)
        assert Decimal("0.99") < account.spent_usd <= 1
        assert Account.objects.get(scope="agent").spent_usd == spent()
        waiting = Task.objects.filter(status="waiting", waiting_on="budget").count()
        assert 1 <= waiting <= 40
        assert waiting + Task.objects.filter(status="completed").count() == 200
        assert len(server.requests) == LedgerEntry.objects.count() == 200 - waiting

        fleet.limit_usd = Decimal(2)
        fleet.save()
        until(lambda: not Task.objects.exclude(status="completed").exists(), 60)
        assert len(server.requests) == LedgerEntry.objects.count() == 200
    account.refresh_from_db()
    assert (account.spent_usd, account.reserved_usd) == (spent(), 0)
    assert Event.objects.filter(type="budget.warning").count() == 1


def test_a_worker_killed_in_a_paid_call_gives_its_reservation_back_and_others_go_on() -> None:
    versions.create("payer", {"model": MODEL, "max_output_tokens": TOKENS}, by="test")
    Budget.objects.create(scope="fleet", period="day", limit_usd="0.0065")  # for one call at a time
    hung = threading.Event()

    def once(request: Request) -> Answer:
        if not hung.is_set():
            hung.set()
            return hang()
        return exact(request)

    with OpenAIServer(once) as server:
        with worker(server) as first:
            task = submit("payer")
            until(hung.is_set)
            assert Reservation.objects.get().task_id == task.id
            held = Account.objects.get().reserved_usd
            assert held >= Decimal("0.006")
            first.kill()
        with worker(server):
            task = ended(task)
    assert (task.status, task.attempt) == ("completed", 2)
    account = Account.objects.get()
    assert (account.spent_usd, account.reserved_usd, Reservation.objects.count()) == (spent(), 0, 0)
    assert LedgerEntry.objects.get().attempt == 2


def test_a_task_stopped_by_its_budget_is_raised_over_rest_and_finishes() -> None:
    versions.create("payer", {"model": MODEL, "max_output_tokens": TOKENS}, by="test")
    api = Consumer()
    with OpenAIServer(exact) as server, worker(server):
        body = {"agent": "payer", "input_data": {"prompt": "hi"}, "limits": {"max_cost_usd": "0.00001"}}
        task_id = api.post("/tasks/", body).json()["task_id"]
        until(lambda: api.get(f"/tasks/{task_id}/").json()["waiting_on"] == "budget")
        assert server.requests == []
        assert api.post(f"/tasks/{task_id}/resume/", {"add_budget_usd": "0.01"}).status_code == 202
        until(lambda: api.get(f"/tasks/{task_id}/").json()["status"] == "completed")
        assert len(server.requests) == 1
    assert api.get("/usage/?group_by=task").json()["data"][0]["cost_usd"] == api.get(f"/tasks/{task_id}/").json()[
        "usage"]["cost_usd"]  # fmt: skip
