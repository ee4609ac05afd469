"""New accounts are compared with the ledger, so that in the end each has what the ledger has.

A process that has not heard of a budget yet enters its calls in the ledger and charges nobody. That lasts a second, and
longer where PostgreSQL was away in between: so an account is settled 3 seconds after it was opened, after 12, 48, 192
and 768. What such a process enters later than that is missed until the budget is saved again.
"""
from __future__ import annotations

from django.db import transaction

from llm import prepared
from llm.accounts import SETTLE_SECONDS, SPENT_BY

BATCH = 50
LAST_SECONDS = 600
DUE = "SELECT id, scope FROM llm_account WHERE settle_at < clock_timestamp() ORDER BY settle_at LIMIT %s"
# The row is locked by a statement of its own: the next one then sees every charge that was made before, and the charges
# that wait for the lock are added after.
LOCK = "SELECT id FROM llm_account WHERE id = %s AND settle_at < clock_timestamp() FOR UPDATE"
SETTLE = """
UPDATE llm_account AS opening SET
    spent_usd = (SELECT coalesce(sum(coalesce(charged_usd, cost_usd)), 0) FROM ({spent}) AS entry),
    settle_at = CASE WHEN clock_timestamp() - opened_at < make_interval(secs => {last}) THEN clock_timestamp()
        + greatest(make_interval(secs => {first}), 3 * (clock_timestamp() - opened_at)) END
WHERE id = %s
"""
_SETTLE = {
    scope: SETTLE.format(spent=spent, first=SETTLE_SECONDS, last=LAST_SECONDS) for scope, spent in SPENT_BY.items()
}


def settle_due() -> int:
    """Settle the accounts whose time has come, and return how many. Commits one by one."""
    return sum(settle(account, scope) for account, scope in prepared.rows(DUE, [BATCH]))


def settle(account: int, scope: str) -> bool:
    """Spent is what the ledger says, by the rule that accounts are opened by; False when another was first."""
    with transaction.atomic():
        mine = bool(prepared.rows(LOCK, [account]))
        if mine:
            prepared.rows(_SETTLE[scope], [account])
    return mine
