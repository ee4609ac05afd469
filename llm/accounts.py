"""The accounts of budgets: one statement reserves what a call may cost in every one of them, or in none.

Every statement that changes several accounts first locks them in the order of their ids, so that no two wait for each
other. PostgreSQL's clock and UTC's calendar say which period it is.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm import prepared
from llm.budget import WARN_AT, Granted, Line, Offer, Refused, tightest

STARTS = (
    "CASE {period} WHEN 'day' THEN date_trunc('day', {at}, 'UTC') WHEN 'month' THEN date_trunc('month', {at}, 'UTC') "
    "ELSE 'epoch'::timestamptz END"
)

# A task that brings its own limit needs an account like a budget does; where there are both, the tighter one holds.
NEEDED = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
asked AS (
    SELECT * FROM unnest(%(scopes)s::text[], %(scope_ids)s::text[], %(own)s::numeric[]) AS a(scope, scope_id, own)
),
needed AS (
    SELECT scope, scope_id, period, min(limit_usd) AS limit_usd, max(own) AS own FROM (
        SELECT b.scope, b.scope_id, b.period, b.limit_usd, NULL::numeric AS own
        FROM llm_budget AS b JOIN asked USING (scope, scope_id) WHERE b.enabled
        UNION ALL SELECT scope, scope_id, 'total', NULL, own FROM asked WHERE own IS NOT NULL
    ) AS each GROUP BY scope, scope_id, period
)"""
FOUND = """, found AS (
    SELECT account.id, account.scope, account.scope_id, account.period, account.spent_usd, account.reserved_usd,
        account.warned, least(needed.limit_usd, account.limit_usd) AS limit_usd
    FROM llm_account AS account JOIN needed USING (scope, scope_id, period) CROSS JOIN clock
    WHERE account.starts_at = {starts}
        AND (needed.own IS NULL OR account.limit_usd IS NOT NULL)
    ORDER BY account.id FOR UPDATE OF account
)"""
LINES = """
SELECT (SELECT ARRAY[tokens, amount_usd] FROM granted),
    found.scope, found.scope_id, found.period, found.limit_usd, spent_usd, reserved_usd, warned, id
FROM needed LEFT JOIN found USING (scope, scope_id, period) ORDER BY id
"""
# The arithmetic of llm.budget.Offer.
HELD = """, room AS (
    SELECT min(limit_usd - spent_usd - reserved_usd) AS left_usd FROM found
    HAVING count(*) = (SELECT count(*) FROM needed)
), granted AS (
    SELECT tokens, ceil((%(input_usd)s + tokens * %(output_usd)s) * 1e10) / 1e10 AS amount_usd FROM (
        SELECT least(%(wanted)s::numeric, div(left_usd - %(input_usd)s, nullif(%(output_usd)s, 0)))::bigint AS tokens
        FROM room WHERE left_usd >= %(least_usd)s
    ) AS clipped
), held AS (
    UPDATE llm_account AS account SET reserved_usd = account.reserved_usd + granted.amount_usd
    FROM found, granted WHERE account.id = found.id
), kept AS (
    INSERT INTO llm_reservation (task_id, attempt, step, amount_usd, accounts, at)
    SELECT %(task_id)s, %(attempt)s, %(step)s, granted.amount_usd,
        (SELECT array_agg(id ORDER BY id) FROM found), clock.at
    FROM granted, clock
)"""
RESERVE = "".join((
    NEEDED, FOUND.format(starts=STARTS.format(period="account.period", at="clock.at")), HELD, LINES,
))  # fmt: skip

# With what the ledger has of the period: a budget made at noon counts the morning too.
SPENT_BY: dict[str, str] = {
    "fleet": "SELECT charged_usd, cost_usd FROM llm_ledgerentry WHERE at >= opening.starts_at",
    "agent": "SELECT charged_usd, cost_usd FROM llm_ledgerentry "
             "WHERE at >= opening.starts_at AND agent = opening.scope_id",
    "api_key": "SELECT charged_usd, cost_usd FROM llm_ledgerentry "
               "WHERE at >= opening.starts_at AND api_key = opening.scope_id",
    "task": "SELECT charged_usd, cost_usd FROM llm_ledgerentry "
            "WHERE at >= opening.starts_at AND task_id = opening.scope_id "
            "UNION ALL SELECT charged_usd, cost_usd FROM llm_ledgerentry "
            "WHERE at >= opening.starts_at AND ancestors <> '{}' AND ancestors @> ARRAY[opening.scope_id]::varchar[]",
}  # fmt: skip
# Processes hear of a budget within a second, and calls that they end before that are not charged to it: so the account
# of a new budget is settled with the ledger a little later, and then again (`llm.settling`). One that follows upon
# that of an earlier period is known everywhere.
SETTLE_SECONDS = 3
OPENED = """, opening AS MATERIALIZED (
    SELECT * FROM (SELECT needed.*, {starts} AS starts_at FROM needed, clock WHERE scope = %(scope)s) AS present
    WHERE NOT EXISTS (SELECT 1 FROM llm_account AS a WHERE (a.scope, a.scope_id, a.period, a.starts_at)
        = (present.scope, present.scope_id, present.period, present.starts_at)
        AND (present.own IS NULL OR a.limit_usd IS NOT NULL))
)
INSERT INTO llm_account (scope, scope_id, period, starts_at, limit_usd, spent_usd, reserved_usd, warned, opened_at,
    settle_at)
SELECT scope, scope_id, period, starts_at, own,
    (SELECT coalesce(sum(coalesce(charged_usd, cost_usd)), 0) FROM ({spent}) AS entry), 0, false, clock_timestamp(),
    CASE WHEN limit_usd IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM llm_account AS a WHERE (a.scope, a.scope_id, a.period)
            = (opening.scope, opening.scope_id, opening.period) AND a.starts_at < opening.starts_at
    ) THEN clock_timestamp() + make_interval(secs => {after}) END
FROM opening ORDER BY scope_id, period
ON CONFLICT (scope, scope_id, period, starts_at)
    DO UPDATE SET limit_usd = coalesce(llm_account.limit_usd, excluded.limit_usd)
"""
OPEN = {
    scope: NEEDED + OPENED.format(
        starts=STARTS.format(period="needed.period", at="clock.at"), spent=spent, after=SETTLE_SECONDS
    )
    for scope, spent in SPENT_BY.items()
}
REOPEN = """
UPDATE llm_account AS a SET opened_at = clock_timestamp(), settle_at = clock_timestamp()
FROM llm_budget AS b WHERE b.enabled AND (b.scope, b.scope_id, b.period) = (a.scope, a.scope_id, a.period)
    AND a.scope = %s AND a.scope_id = %s AND a.starts_at = {starts}
"""
_REOPEN = REOPEN.format(starts=STARTS.format(period="a.period", at="clock_timestamp()"))
# Budgets as they stand in the present period, also those whose account no call has opened yet.
STANDING = """
SELECT asked.scope, asked.scope_id, asked.period, least(b.limit_usd, a.limit_usd), coalesce(a.spent_usd, 0),
    coalesce(a.reserved_usd, 0), coalesce(a.warned, false), coalesce(a.id, 0)
FROM unnest(%(scopes)s::text[], %(scope_ids)s::text[], %(periods)s::text[]) AS asked(scope, scope_id, period)
LEFT JOIN llm_budget AS b ON (b.scope, b.scope_id, b.period) = (asked.scope, asked.scope_id, asked.period)
    AND b.enabled
LEFT JOIN llm_account AS a ON (a.scope, a.scope_id, a.period) = (asked.scope, asked.scope_id, asked.period)
    AND a.starts_at = {starts}
WHERE b.limit_usd IS NOT NULL OR a.limit_usd IS NOT NULL
"""
_STANDING = STANDING.format(starts=STARTS.format(period="a.period", at="clock_timestamp()"))
WARN = """
UPDATE llm_account AS account SET warned = true
WHERE id = %s AND NOT warned AND spent_usd + %s >= %s
RETURNING id
"""
# For another attempt of a call that was billed already: the same accounts, all of them or none.
EXTEND = """
WITH mine AS (
    SELECT accounts FROM llm_reservation WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND step = %(step)s
), found AS (
    SELECT a.id, a.spent_usd, a.reserved_usd, a.limit_usd, a.scope, a.scope_id, a.period
    FROM llm_account AS a, mine WHERE a.id = ANY(mine.accounts) ORDER BY a.id FOR UPDATE OF a
), room AS (
    SELECT min(least(b.limit_usd, found.limit_usd) - spent_usd - reserved_usd) AS left_usd
    FROM found LEFT JOIN llm_budget AS b ON b.enabled
        AND (b.scope, b.scope_id, b.period) = (found.scope, found.scope_id, found.period)
), held AS (
    UPDATE llm_account AS a SET reserved_usd = a.reserved_usd + %(amount_usd)s FROM found, room
    WHERE a.id = found.id AND room.left_usd >= %(amount_usd)s
)
UPDATE llm_reservation SET amount_usd = amount_usd + %(amount_usd)s FROM room
WHERE task_id = %(task_id)s AND attempt = %(attempt)s AND step = %(step)s AND room.left_usd >= %(amount_usd)s
RETURNING id
"""
RELEASE = """
WITH freed AS (
    DELETE FROM llm_reservation WHERE task_id = %(task_id)s AND attempt <= %(attempt)s RETURNING accounts, amount_usd
), due AS (
    SELECT account, sum(amount_usd) AS amount_usd FROM freed, unnest(accounts) AS account GROUP BY account
), locked AS (
    SELECT a.id, due.amount_usd FROM llm_account AS a JOIN due ON due.account = a.id ORDER BY a.id FOR UPDATE OF a
), given_back AS (
    UPDATE llm_account AS a SET reserved_usd = a.reserved_usd - locked.amount_usd FROM locked WHERE a.id = locked.id
)
SELECT count(*) FROM freed
"""
ADD = """
UPDATE llm_account SET limit_usd = limit_usd + %s
WHERE scope = 'task' AND scope_id = %s AND period = 'total' AND limit_usd + %s <= coalesce(%s, 'Infinity'::numeric)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose money a call is, from its own task to its ancestors.

    `own_limits` are those that tasks bring along themselves, by task id.
    """

    task_id: str
    agent: str
    api_key: str = ""
    ancestors: tuple[str, ...] = ()
    own_limits: Mapping[str, Decimal] | None = None

    @property
    def owners(self) -> list[tuple[str, str]]:
        """Every scope that may have a budget for this call."""
        tasks = [("task", task_id) for task_id in (self.task_id, *self.ancestors)]
        keys = [("api_key", self.api_key)] if self.api_key else []
        return [("fleet", ""), ("agent", self.agent), *keys, *tasks]

    def asked(self) -> dict[str, Any]:
        own = self.own_limits or {}
        return {
            "scopes": [scope for scope, _ in self.owners],
            "scope_ids": [scope_id for _, scope_id in self.owners],
            "own": [own.get(scope_id) if scope == "task" else None for scope, scope_id in self.owners],
        }


def reserve(payer: Payer, offer: Offer, *, attempt: int, step: int) -> Granted | Refused:
    """Hold what the call may cost in every budget in force, its answer clipped to what is left; or hold nothing.

    One statement, and one commit outside a transaction; two more when a period begins and accounts are opened.
    """
    values = payer.asked() | {
        "input_usd": offer.input_usd, "output_usd": offer.output_usd, "wanted": offer.wanted_tokens,
        "least_usd": offer.least_usd, "task_id": payer.task_id, "attempt": attempt, "step": step,
    }  # fmt: skip
    while True:
        needed, granted, lines = _lines(RESERVE, values)
        if not needed:
            return Granted(offer.wanted_tokens)
        if granted is not None:
            tokens, amount = granted
            return Granted(int(tokens), amount, lines)
        if len(lines) == needed:
            return Refused(tightest(lines), offer)
        open_accounts(payer)


def extend(payer: Payer, amount_usd: Decimal, *, attempt: int, step: int) -> bool:
    """Hold that much more for a call, in every account that holds for it; False, and nothing, when it does not fit.

    Commits.
    """
    values = {"task_id": payer.task_id, "attempt": attempt, "step": step, "amount_usd": amount_usd}
    return bool(prepared.rows(EXTEND, values))


def open_accounts(payer: Payer) -> None:
    """Open what is missing of the payer's accounts for the present period. Commits."""
    values = payer.asked()
    for scope in dict.fromkeys(values["scopes"]):
        prepared.rows(OPEN[scope], values | {"scope": scope})


def open_account(scope: str, scope_id: str) -> None:
    """Open the accounts of budgets just made or switched on, so that they show what was spent before. Commits.

    Those that are open already may have missed what was spent while nothing was in force: they are settled soon.
    """
    prepared.rows(OPEN[scope], {"scope": scope, "scopes": [scope], "scope_ids": [scope_id], "own": [None]})
    prepared.rows(_REOPEN, [scope, scope_id])


def standings(budgets: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Line]:
    """Budgets by scope, owner and period as they stand now; those not in force are left out. One query."""
    scopes, scope_ids, periods = zip(*budgets, strict=True) if budgets else ((), (), ())
    rows = prepared.rows(_STANDING, {"scopes": list(scopes), "scope_ids": list(scope_ids), "periods": list(periods)})
    return {(line.scope, line.scope_id, line.period): line for line in (Line(*row) for row in rows)}


def warn(lines: Sequence[Line], more_usd: Decimal = Decimal(0)) -> list[Line]:
    """Those of the lines whose warning is now this caller's to give: once per budget and period. Commits."""
    due = [line for line in lines if line.is_warm(more_usd)]
    return [line for line in due if prepared.rows(WARN, [line.account, more_usd, WARN_AT * line.limit_usd])]


def release(task_id: str, attempt: int) -> int:
    """Give back what calls of this attempt and of those before it hold, and return how many did. Commits."""
    return int(prepared.rows(RELEASE, {"task_id": task_id, "attempt": attempt})[0][0])


def add(task_id: str, amount_usd: Decimal, most_usd: Decimal | None = None) -> bool:
    """Raise the limit that the task brought along; False when it brought none, or would have more than `most_usd`."""
    return bool(prepared.rows(ADD, [amount_usd, task_id, amount_usd, most_usd]))


def _lines(statement: str, values: dict[str, Any]) -> tuple[int, Any, list[Line]]:
    """How many budgets are in force, what was granted, and the accounts that are open."""
    rows = prepared.rows(statement, values)
    return len(rows), rows[0][0] if rows else None, [Line(*row[1:]) for row in rows if row[-1] is not None]
