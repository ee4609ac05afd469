"""Budgets on PostgreSQL: what is reserved, what is charged, and that any order of the two adds up."""
from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.db.models import F, Sum
from django.utils import timezone

from llm import accounts, ledger
from llm.accounts import Payer
from llm.budget import Granted, Line, Offer, Refused
from llm.ledger import Charge
from llm.messages import Usage
from llm.models import Account, Budget, LedgerEntry, Reservation

pytestmark = pytest.mark.django_db(transaction=True)

ME = Payer("task_1", "writer", "7")
CHEAP = Offer(Decimal("0.01"), Decimal("0.001"), 100)  # 0.0740 to 0.11 dollars


def budget(scope: str = "fleet", limit: str = "1", period: str = "day", **fields: Any) -> Budget:
    owner = {"fleet": "", "agent": "writer", "api_key": "7", "task": "task_1"}[scope]
    return Budget.objects.create(**{"scope": scope, "scope_id": owner, "period": period, "limit_usd": limit} | fields)


def reserve(step: int = 1, payer: Payer = ME, offer: Offer = CHEAP, attempt: int = 1) -> Granted | Refused:
    return accounts.reserve(payer, offer, attempt=attempt, step=step)


def charge(cost: str | None, step: int = 1, payer: Payer = ME, **about: Any) -> None:
    usage = Usage(10, 5, None if cost is None else Decimal(cost))
    about = {"attempt": 1, "in_force": True} | about
    ledger.charge([Charge.of(payer, "openai/gpt-4o-mini", usage, step=step, **about)])


def standing(scope: str = "fleet") -> tuple[Decimal, Decimal]:
    """Spent and reserved."""
    row = Account.objects.get(scope=scope)
    return row.spent_usd.normalize(), row.reserved_usd.normalize()


def test_without_a_budget_nothing_is_held_and_the_answer_is_not_clipped() -> None:
    assert reserve() == Granted(100)
    assert not Account.objects.exists()
    assert not Reservation.objects.exists()


def test_a_call_is_held_in_every_scope_and_period_that_has_a_budget() -> None:
    for scope in ("fleet", "agent", "api_key", "task"):
        budget(scope)
    budget("fleet", period="month", limit="9")
    budget("agent", scope_id="another")
    verdict = reserve()
    assert isinstance(verdict, Granted)
    assert (verdict.output_tokens, verdict.amount_usd, len(verdict.lines)) == (100, Decimal("0.11"), 5)
    assert set(Account.objects.values_list("reserved_usd", flat=True)) == {Decimal("0.11")}
    charge("0.05")
    assert set(Account.objects.values_list("spent_usd", "reserved_usd")) == {(Decimal("0.05"), Decimal(0))}


def test_a_budget_that_is_off_is_not_in_force() -> None:
    budget(enabled=False)
    assert reserve() == Granted(100)


def test_the_answer_is_clipped_to_what_is_left_of_the_tightest() -> None:
    budget("fleet", "1")
    budget("agent", "0.0801234")
    verdict = reserve()
    assert isinstance(verdict, Granted)
    assert (verdict.output_tokens, verdict.amount_usd) == (70, Decimal("0.08"))


@pytest.mark.parametrize(("limit", "tokens"), [("0.0739999999", None), ("0.074", 64), ("0.0740000001", 64)])
def test_the_shortest_answer_that_is_worth_a_call_has_to_fit(limit: str, tokens: int | None) -> None:
    budget(limit=limit)
    verdict = reserve()
    assert (verdict.output_tokens if isinstance(verdict, Granted) else None) == tokens


def test_a_model_that_costs_next_to_nothing_fits_a_large_budget() -> None:
    """A million dollars are 10^22 of its tokens, more than a bigint holds."""
    budget(limit="1000000")
    verdict = reserve(offer=Offer(Decimal(0), Decimal("1e-16"), 100))
    assert isinstance(verdict, Granted)
    assert (verdict.output_tokens, verdict.amount_usd) == (100, Decimal("1e-10"))


def test_a_refusal_names_the_budget_its_limit_what_is_spent_and_what_is_held() -> None:
    budget("fleet", "5")
    budget("agent", "0.15")
    assert isinstance(reserve(1), Granted)
    refused = reserve(2)
    assert isinstance(refused, Refused)
    assert str(refused) == (
        "The budget of the agent 'writer' for a day does not cover the next call, which may cost $0.074 or more: "
        "$0.04 of $0.15 is left ($0 spent, $0.11 held by calls under way)."
    )
    assert standing("fleet") == (0, Decimal("0.11"))


def test_a_task_may_bring_its_own_limit_and_its_children_draw_from_it() -> None:
    parent = Payer("task_p", "writer", own_limits={"task_p": Decimal("0.2")})
    child = Payer("task_c", "reader", ancestors=("task_p",), own_limits={"task_p": Decimal("0.2")})
    assert isinstance(reserve(payer=child), Granted)
    charge("0.1", payer=child)
    verdict = reserve(payer=parent)
    assert isinstance(verdict, Granted)
    assert verdict.output_tokens == 90
    refused = reserve(2, payer=child)
    assert isinstance(refused, Refused)
    assert (refused.line.scope, refused.line.scope_id) == ("task", "task_p")


def test_the_tighter_of_a_tasks_own_limit_and_a_budget_for_it_holds() -> None:
    budget("task", "0.09", period="total")
    mine = Payer("task_1", "writer", own_limits={"task_1": Decimal("1")})
    verdict = reserve(payer=mine)
    assert isinstance(verdict, Granted)
    assert (verdict.output_tokens, len(verdict.lines)) == (80, 1)
    Budget.objects.update(limit_usd=2)
    assert isinstance(more := reserve(2, payer=mine), Granted)
    assert more.lines[0].limit_usd == 1


def test_what_was_spent_before_the_budget_was_made_counts() -> None:
    charge("0.3", payer=Payer("task_0", "writer", "7"))
    charge("0.2", payer=Payer("task_9", "reader", "7", ancestors=("task_1",)))
    charge(None, payer=Payer("task_9", "reader", "8"))
    for scope in ("fleet", "agent", "api_key", "task"):
        budget(scope, "10")
    reserve()
    spent = {row.scope: row.spent_usd.normalize() for row in Account.objects.all()}
    assert {scope: str(usd) for scope, usd in spent.items()} == {
        "fleet": "0.5", "agent": "0.3", "api_key": "0.5", "task": "0.2",
    }  # fmt: skip


def test_a_budget_made_while_a_call_is_under_way_counts_that_call() -> None:
    assert reserve(1) == Granted(100)
    budget()
    assert isinstance(reserve(2), Granted)
    charge("0.05", 1)
    assert standing() == (Decimal("0.05"), Decimal("0.11"))


def test_a_call_that_crosses_midnight_is_charged_to_the_day_it_began() -> None:
    budget()
    reserve(1)
    Account.objects.update(starts_at=F("starts_at") - timedelta(days=1))
    reserve(2)
    charge("0.05", 1)
    yesterday, today = Account.objects.order_by("starts_at")
    assert (yesterday.spent_usd, yesterday.reserved_usd) == (Decimal("0.05"), 0)
    assert (today.spent_usd, today.reserved_usd) == (0, Decimal("0.11"))


def test_a_new_period_begins_with_nothing_spent() -> None:
    budget(limit="0.12")
    reserve(1)
    charge("0.11", 1)
    assert isinstance(reserve(2), Refused)
    Account.objects.update(starts_at=F("starts_at") - timedelta(days=1))
    with connection.cursor() as cursor:  # the ledger cannot be changed, but for whoever takes its guard away
        cursor.execute("ALTER TABLE llm_ledgerentry DISABLE TRIGGER ledgerentry_immutable")
        cursor.execute("UPDATE llm_ledgerentry SET at = at - interval '1 day'")
        cursor.execute("ALTER TABLE llm_ledgerentry ENABLE TRIGGER ledgerentry_immutable")
    assert isinstance(reserve(2), Granted)


@pytest.mark.parametrize("period", ["day", "month", "total"])
def test_an_account_begins_with_its_period(period: str) -> None:
    budget(period=period)
    reserve()
    now = timezone.now()
    first = {"day": now, "month": now.replace(day=1), "total": now.replace(year=1970, month=1, day=1)}[period]
    assert Account.objects.get().starts_at == first.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize("off", [lambda b: b.delete(), lambda b: Budget.objects.update(enabled=False)])
def test_a_budget_that_goes_while_a_call_is_under_way_takes_its_account_along(off: Callable[[Budget], Any]) -> None:
    row = budget("fleet")
    budget("agent")
    reserve()
    off(row)
    charge("0.05")
    assert not Account.objects.filter(scope="fleet").exists()
    assert not Reservation.objects.exists()
    Budget.objects.all().delete()
    budget("fleet")
    reserve(2)
    assert standing("fleet") == (Decimal("0.05"), Decimal("0.11"))


def test_a_raised_limit_is_heeded_by_the_next_call() -> None:
    budget(limit="0.05")
    assert isinstance(reserve(), Refused)
    Budget.objects.update(limit_usd="1")
    assert isinstance(reserve(), Granted)


def test_a_call_that_failed_gives_back_all_but_what_was_billed() -> None:
    budget()
    reserve()
    charge("0.02", outcome="provider_error")
    assert standing() == (Decimal("0.02"), 0)
    assert LedgerEntry.objects.get().outcome == "provider_error"


def test_a_call_whose_cost_is_not_known_is_charged_all_that_it_held() -> None:
    budget()
    reserve()
    charge(None)
    assert standing() == (Decimal("0.11"), 0)
    entry = LedgerEntry.objects.get()
    assert (entry.cost_usd, entry.charged_usd) == (None, Decimal("0.11"))


def test_what_was_billed_beyond_the_reservation_is_charged_all_the_same() -> None:
    budget()
    reserve()
    charge("3")
    assert standing() == (Decimal(3), 0)
    assert isinstance(reserve(2), Refused)


def test_a_dead_attempts_holds_are_given_back_and_no_others() -> None:
    budget()
    for attempt in (1, 2, 3):
        reserve(1, attempt=attempt)
    reserve(1, payer=Payer("task_2", "writer"))
    assert accounts.release("task_1", 2) == 2
    assert accounts.release("task_1", 2) == 0
    assert standing() == (0, Decimal("0.22"))


def test_another_attempt_holds_more_in_every_account_or_in_none() -> None:
    budget("fleet", "1")
    budget("agent", "0.3")
    reserve()
    assert accounts.extend(ME, Decimal("0.15"), attempt=1, step=1)
    assert not accounts.extend(ME, Decimal("0.05"), attempt=1, step=1)
    assert {standing("fleet"), standing("agent")} == {(0, Decimal("0.26"))}
    charge("0.2")
    assert {standing("fleet"), standing("agent")} == {(Decimal("0.2"), 0)}
    assert not accounts.extend(ME, Decimal("0.01"), attempt=1, step=1)


def test_the_warning_is_given_once_when_four_fifths_are_spent() -> None:
    row = Budget.objects.get(id=budget().id)
    line = reserve().lines[0]  # type: ignore[union-attr]
    assert accounts.warn([line], Decimal("0.79")) == []
    assert accounts.warn([line], Decimal("0.8")) == [line]
    assert accounts.warn([line], Decimal("0.8")) == []
    assert str(row) == "fleet per day"


@pytest.mark.parametrize("statement", ["UPDATE llm_ledgerentry SET cost_usd = 0", "DELETE FROM llm_ledgerentry"])
def test_nobody_changes_or_removes_a_ledger_entry(statement: str) -> None:
    charge("1")
    with connection.cursor() as cursor, pytest.raises(IntegrityError, match="append-only"):
        cursor.execute(statement)


class Books:
    """The same in memory, with llm.budget's arithmetic: what any order of events must come to."""

    def __init__(self, limits: dict[str, Decimal]) -> None:
        self.limits = limits
        self.spent, self.held = dict.fromkeys(limits, Decimal(0)), dict.fromkeys(limits, Decimal(0))
        self.open: dict[int, Decimal] = {}

    def reserve(self, step: int, offer: Offer) -> int | None:
        left = min(Line("", "", "", self.limits[s], self.spent[s], self.held[s]).left_usd for s in self.limits)
        tokens = offer.clipped(left)
        if tokens is not None:
            self.open[step] = offer.cost_usd(tokens)
            self.held = {scope: held + self.open[step] for scope, held in self.held.items()}
        return tokens

    def end(self, step: int, cost: Decimal) -> None:
        amount = self.open.pop(step)
        self.held = {scope: held - amount for scope, held in self.held.items()}
        self.spent = {scope: spent + cost for scope, spent in self.spent.items()}


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_reserving_charging_and_releasing_adds_up(seed: int) -> None:
    dice = random.Random(seed)
    limits = {"fleet": Decimal("1"), "agent": Decimal("0.7"), "api_key": Decimal("0.9")}
    for scope, limit in limits.items():
        budget(scope, str(limit))
    books, billed = Books(limits), Decimal(0)
    for step in range(1, 61):
        if books.open and dice.random() < 0.5:
            ending = dice.choice(list(books.open))
            cost = (books.open[ending] * Decimal(dice.choice([0, 0.3, 1]))).quantize(Decimal("0.0000000001"))
            if dice.random() < 0.3:
                cost = Decimal(0)
                assert accounts.release(f"task_{ending}", 1) == 1
            else:
                charge(str(cost), ending, Payer(f"task_{ending}", "writer", "7"))
            books.end(ending, cost)
            billed += cost
        offer = Offer(Decimal(dice.randint(0, 10**7)).scaleb(-9), Decimal(dice.randint(1, 3000)).scaleb(-7), 200)
        verdict = reserve(step, Payer(f"task_{step}", "writer", "7"), offer)
        assert (verdict.output_tokens if isinstance(verdict, Granted) else None) == books.reserve(step, offer)
        for row in Account.objects.all():
            assert (row.spent_usd, row.reserved_usd) == (books.spent[row.scope], books.held[row.scope])
            assert row.spent_usd + row.reserved_usd <= limits[row.scope]
    assert billed > 0
    assert LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"] == billed == books.spent["fleet"]


def test_calls_at_once_neither_overspend_nor_wait_for_each_other_for_ever() -> None:
    """Given accounts that calls take in different orders of scope, when many come at once, then all end."""
    for scope in ("fleet", "agent", "api_key"):
        budget(scope, "2")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(1, 9):
                payer = Payer(f"task_{number}", "writer", "7")
                if isinstance(reserve(step, payer), Granted):
                    charge("0.1", step, payer)
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    spent = LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"]
    assert Decimal("1.8") <= spent <= 2
    assert set(Account.objects.values_list("spent_usd", "reserved_usd")) == {(spent, 0)}
