"""What models were used for, from the ledger: calls, tokens, cost and latency, grouped as asked. Bounded in time."""
from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from agents.requests import refuse

# What rows can be grouped by, and the expression that does it. Days are UTC's.
KEYS: dict[str, str] = {
    "day": "(at AT TIME ZONE 'UTC')::date", "agent": "agent", "model": "model", "provider": "provider",
    "api_key": "api_key", "task": "task_id",
}  # fmt: skip
DEFAULT_DAYS = 30
FIGURES = (
    "calls", "errors", "input_tokens", "output_tokens", "cached_tokens", "cost_usd", "unpriced_calls", "p50_seconds",
    "p95_seconds",
)  # fmt: skip

# `percentile_cont` sorts each group; all of it reads one range of the index by time, or of one key's.
USAGE = """
SELECT * FROM (
    SELECT {keys} count(*) AS calls, count(*) FILTER (WHERE outcome NOT IN ('ok', 'abandoned')) AS errors,
        coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens, sum(cost_usd) AS cost_usd,
        count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_calls,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50_seconds,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds
    FROM llm_ledgerentry WHERE {conditions} {grouped}
) AS usage WHERE {beyond} {ordered} LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one group. `keys` is what it was grouped by, `key` its place in the order.

    `cost_usd` sums the calls whose cost is known, and is None when no call's is; `unpriced_calls` counts the others.
    """

    keys: Mapping[str, Any]
    calls: int
    errors: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: Decimal | None
    unpriced_calls: int
    p50_seconds: float | None
    p95_seconds: float | None

    @property
    def key(self) -> list[str]:
        return [",".join(self.keys), *(str(value) for value in self.keys.values())]


@dataclass(frozen=True, slots=True)
class Usage:
    """A question to the ledger. `agents`, `models`: all of them when empty. Times: from (included) and to (not).

    It is read as a queryset is by the pages of a list: newest day first, then by name.
    """

    group_by: Sequence[str] = ()
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    agents: Sequence[str] = ()
    models: Sequence[str] = ()
    api_key: str | None = None
    after: Sequence[str] = field(default=())

    @property
    def order(self) -> list[str]:
        """The keys as rows are ordered by them: the day before all others."""
        return sorted(self.group_by, key=lambda name: name != "day")

    def filter(self, *, key__gt: Sequence[str]) -> Usage:
        """The rows after the one with that `key`. Raises ValidationError when it was of another grouping."""
        if key__gt[0] != ",".join(self.order):
            refuse("cursor", "invalid_cursor", "The cursor is of another grouping; use the one that this one gave.")
        return replace(self, after=key__gt[1:])

    def order_by(self, _: str) -> Usage:
        return self

    def __getitem__(self, page: slice) -> list[Row]:
        """The first rows, at most `page.stop`. One query."""
        values = self._values() | {"limit": page.stop}
        with connection.cursor() as cursor:
            cursor.execute(self._statement(), values)
            rows = cursor.fetchall()
        size = len(self.order)
        return [_row(dict(zip(self.order, found[:size], strict=True)), found[size:]) for found in rows]

    def _values(self) -> dict[str, Any]:
        since = self.since or timezone.now() - datetime.timedelta(days=DEFAULT_DAYS)
        return {
            "since": since, "until": self.until, "agents": list(self.agents), "models": list(self.models),
            "api_key": self.api_key,
            **{f"after_{name}": value for name, value in zip(self.order, self.after, strict=False)},
        }  # fmt: skip

    def _statement(self) -> str:
        wanted = {
            "at < %(until)s": self.until, "agent = ANY(%(agents)s)": self.agents,
            "model = ANY(%(models)s)": self.models, "api_key = %(api_key)s": self.api_key is not None,
        }  # fmt: skip
        conditions = ["at >= %(since)s", *(condition for condition, given in wanted.items() if given)]
        return USAGE.format(
            keys="".join(f'{KEYS[name]} AS "{name}", ' for name in self.order),
            conditions=" AND ".join(conditions),
            grouped=f"GROUP BY {', '.join(KEYS[name] for name in self.order)}" if self.order else "",
            beyond=_beyond(self.order) if self.after else "true",
            ordered=f"ORDER BY {', '.join(map(_ordered, self.order))}" if self.order else "",
        )


def _ordered(name: str) -> str:
    return f'"{name}" DESC' if name == "day" else f'"{name}"'


def _beyond(order: list[str]) -> str:
    """The rows after one of which each key is known: by the first key that differs."""
    found = "false"
    for name in reversed(order):
        sign, kind = ("<", "date") if name == "day" else (">", "text")
        column, value = f'"{name}"', f"%(after_{name})s::{kind}"
        found = f"({column} {sign} {value} OR ({column} = {value} AND {found}))"
    return found


def _row(keys: Mapping[str, Any], figures: Sequence[Any]) -> Row:
    named = dict(zip(FIGURES, figures, strict=True))
    if named["cost_usd"] is None and not named["unpriced_calls"]:
        named["cost_usd"] = Decimal(0)
    return Row(keys, **named)
