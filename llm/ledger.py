"""The ledger: what a finished model call used and cost, written once, with what its reservation held given back.

`PARTS` are parts of a statement that has a `moved` with at most one row: with none, nothing is written. So the end of a
call, its ledger entry and its accounts are one with the row that tells of them.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llm import prepared, providers
from llm.accounts import STARTS, Payer
from llm.messages import Usage
from llm.storable import clean

CHARGED = """, charge AS (
    SELECT c.* FROM moved, jsonb_to_recordset(%s::jsonb) AS c(
        task_id text, ancestors text[], step int, attempt int, agent text, api_key text, model text, provider text,
        input_tokens bigint, output_tokens bigint, cached_tokens bigint, cost_usd numeric, outcome text, seconds float,
        simulated bool, in_force bool)
)"""
# A reservation is charged where it was made, also past midnight; a budget made meanwhile is charged, too.
PAID = """, freed AS (
    DELETE FROM llm_reservation AS r USING charge
    WHERE r.task_id = charge.task_id AND r.attempt = charge.attempt AND r.step = charge.step
    RETURNING r.step, r.accounts, r.amount_usd
), owner AS (
    SELECT charge.step, charge.cost_usd, o.scope, o.scope_id FROM charge, LATERAL (
        SELECT 'fleet', '' UNION ALL SELECT 'agent', charge.agent UNION ALL SELECT 'api_key', charge.api_key
        UNION ALL SELECT 'task', one FROM unnest(charge.task_id || charge.ancestors) AS one) AS o(scope, scope_id)
), due AS (
    SELECT id, sum(amount_usd) AS amount_usd, sum(cost_usd) AS cost_usd FROM (
        SELECT account AS id, freed.amount_usd, coalesce(charge.cost_usd, freed.amount_usd) AS cost_usd
        FROM freed JOIN charge USING (step), unnest(freed.accounts) AS account
        UNION ALL
        SELECT a.id, 0, owner.cost_usd FROM owner JOIN llm_account AS a USING (scope, scope_id)
        WHERE owner.cost_usd > 0 AND a.starts_at = {starts}
            AND NOT EXISTS (
                SELECT 1 FROM freed JOIN llm_account AS held ON held.id = ANY(freed.accounts)
                WHERE freed.step = owner.step
                    AND (held.scope, held.scope_id, held.period) = (a.scope, a.scope_id, a.period))
    ) AS each GROUP BY id
), locked AS (
    SELECT a.id, due.amount_usd, due.cost_usd FROM llm_account AS a JOIN due USING (id) ORDER BY a.id FOR UPDATE OF a
), paid AS (
    UPDATE llm_account AS a
    SET spent_usd = a.spent_usd + locked.cost_usd, reserved_usd = a.reserved_usd - locked.amount_usd
    FROM locked WHERE a.id = locked.id
)"""
ENTERED = """, entered AS (
    INSERT INTO llm_ledgerentry (at, task_id, ancestors, step, attempt, agent, api_key, model, provider, input_tokens,
        output_tokens, cached_tokens, cost_usd, charged_usd, outcome, seconds, simulated)
    SELECT clock_timestamp(), task_id, ancestors, step, attempt, agent, api_key, model, provider, input_tokens,
        output_tokens, cached_tokens, cost_usd, {charged}, outcome, seconds, simulated FROM charge{freed}
)"""
_STARTS = STARTS.format(period="a.period", at="clock_timestamp()")
FREE_PART = """, entered{place} AS (
    INSERT INTO llm_ledgerentry (at, task_id, ancestors, step, attempt, agent, api_key, model, provider, input_tokens,
        output_tokens, cached_tokens, cost_usd, outcome, seconds, simulated)
    SELECT clock_timestamp(), %s, %s::text[], %s::int, %s::int, %s, %s, %s, %s, %s::bigint, %s::bigint, %s::bigint,
        %s::numeric, %s, %s::float, %s::bool FROM moved
)"""
PAID_PARTS = CHARGED + PAID.format(starts=_STARTS) + ENTERED.format(
    charged="coalesce(cost_usd, freed.amount_usd)", freed=" LEFT JOIN freed USING (step)"
)  # fmt: skip
ALONE = "WITH moved AS (SELECT 1 AS one){parts} SELECT 1"


@dataclass(frozen=True, slots=True)
class Charge:
    """A model call that has ended. `in_force`: a budget may be in force for it, so that accounts are looked at."""

    task_id: str
    ancestors: tuple[str, ...]
    step: int
    attempt: int
    agent: str
    api_key: str
    model: str
    provider: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: str | None
    outcome: str = "ok"
    seconds: float = 0.0
    simulated: bool = False
    in_force: bool = False

    @classmethod
    def of(cls, payer: Payer, model: str, usage: Usage, *, attempt: int, step: int, **about: Any) -> Charge:
        """`about`: outcome, simulated, in_force."""
        return cls(
            payer.task_id, payer.ancestors, step, attempt, payer.agent, payer.api_key, clean(model)[:200],
            providers.split(clean(model))[0][:200], usage.input_tokens, usage.output_tokens, usage.cached_tokens,
            None if usage.cost_usd is None else format(usage.cost_usd, "f"), **about,
        )  # fmt: skip


def parts(charges: Sequence[Charge]) -> str:
    """What a statement with a `moved` has to contain to write these charges: without a budget only the entries."""
    paid, free = _sorted(charges)
    return (PAID_PARTS if paid else "") + "".join(FREE_PART.format(place=place) for place in range(len(free)))


def values(charges: Sequence[Charge]) -> list[Any]:
    """The values that `parts` binds, in their order."""
    paid, free = _sorted(charges)
    listed = [json.dumps([asdict(charge) for charge in paid], separators=(",", ":"))] if paid else []
    return listed + [value for charge in free for value in _columns(charge)]


def _sorted(charges: Sequence[Charge]) -> tuple[list[Charge], list[Charge]]:
    """Those that accounts are looked at for, and those that are only entered."""
    return [one for one in charges if one.in_force], [one for one in charges if not one.in_force]


def charge(charges: Sequence[Charge]) -> None:
    """Write the entries, give back what was reserved and charge what was billed. One statement; commits outside a
    transaction.
    """
    if charges:
        prepared.rows(ALONE.format(parts=parts(charges)), values(charges))


def _columns(one: Charge) -> list[Any]:
    """Whole numbers as text: a number's type would depend on its size, and each type has a plan of its own."""
    return [
        one.task_id, list(one.ancestors), str(one.step), str(one.attempt), one.agent, one.api_key, one.model,
        one.provider, str(one.input_tokens), str(one.output_tokens), str(one.cached_tokens), one.cost_usd, one.outcome,
        str(one.seconds), one.simulated,
    ]  # fmt: skip
