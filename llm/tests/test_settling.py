"""What was spent before every process had heard of a budget is charged to it all the same."""
from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import F, Sum
from django.utils import timezone

from llm import accounts, settling
from llm.in_force import InForce
from llm.models import Account, Budget, LedgerEntry
from llm.tests.test_accounts import ME, budget, charge, reserve

pytestmark = pytest.mark.django_db(transaction=True)


def of_ledger() -> Decimal:
    return LedgerEntry.objects.aggregate(all=Sum("cost_usd"))["all"] or Decimal(0)


def later() -> None:
    """The time of every account that is to be settled has come."""
    Account.objects.filter(settle_at__isnull=False).update(settle_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("scope", ["fleet", "agent", "api_key", "task"])
def test_a_call_of_a_process_that_had_not_heard_of_the_budget_is_charged_in_the_end(scope: str) -> None:
    """Given one process that looked a moment ago, and another one that makes a budget and opens its account."""
    stale = InForce()
    heard = stale.touches(ME.owners)
    charge("0.006", in_force=heard)
    budget(scope)
    reserve()
    charge("0.006")

    charge("0.012", 2, in_force=heard)
    assert Account.objects.get().spent_usd == Decimal("0.012")
    later()
    settling.settle_due()

    account = Account.objects.get()
    assert (account.spent_usd, account.reserved_usd) == (of_ledger(), 0)
    assert of_ledger() == Decimal("0.024")
    assert account.settle_at is not None  # once more, for who is slower still


def test_nothing_is_settled_twice_at_a_time_nor_for_ever() -> None:
    budget()
    reserve()
    assert settling.settle_due() == 0  # too early
    later()
    assert (settling.settle_due(), settling.settle_due()) == (1, 0)
    Account.objects.update(opened_at=timezone.now() - timedelta(seconds=601))
    later()
    settling.settle_due()
    assert Account.objects.get().settle_at is None


def test_what_was_spent_while_a_budget_was_off_counts_when_it_is_on_again() -> None:
    row = budget()
    accounts.open_account("fleet", "")
    Budget.objects.update(enabled=False)
    charge("0.5", in_force=False)
    Budget.objects.update(enabled=True)
    accounts.open_account(row.scope, row.scope_id)
    settling.settle_due()
    assert Account.objects.get().spent_usd == Decimal("0.5")


def test_the_account_of_the_next_day_is_not_settled() -> None:
    """A call that was reserved yesterday is charged to yesterday, though the ledger has it today."""
    budget()
    reserve()
    Account.objects.update(starts_at=F("starts_at") - timedelta(days=1), settle_at=None)
    reserve(2)
    assert set(Account.objects.values_list("settle_at", flat=True)) == {None}


def test_calls_that_end_while_an_account_is_settled_are_charged_once() -> None:
    budget(limit="100")
    accounts.open_account("fleet", "")

    def pay() -> None:
        try:
            for step in range(30):
                charge("0.01", step, in_force=bool(step % 3))
        finally:
            connection.close()

    threads = [threading.Thread(target=pay) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        later()
        settling.settle_due()
    later()
    settling.settle_due()
    assert Account.objects.get().spent_usd == of_ledger() == Decimal("0.9")
