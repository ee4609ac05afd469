"""The page on what models were used for: figures, a chart by day, a table; all of it from the ledger."""
from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from tasks.admin.chart import Chart
from tasks.models import ApiKey
from tasks.transcript import money
from tasks.usage import Row, Usage

PERIODS = {"1": "Today", "7": "7 days", "30": "30 days", "90": "90 days"}
GROUPS = {"model": "Model", "agent": "Agent", "provider": "Provider", "api_key": "API key", "day": "Day"}
METRICS = {"cost": "Cost", "tokens": "Tokens", "calls": "Calls"}
ROWS_SHOWN = 200
BARS_READ = 5000
CHOICES_READ = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the address asks for; whatever it does not know is the default."""

    days: str
    by: str
    metric: str
    agent: str
    model: str

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Wanted:
        def one(name: str, known: Mapping[str, str], otherwise: str) -> str:
            return given[name] if given.get(name) in known else otherwise

        return cls(
            one("days", PERIODS, "30"), one("by", GROUPS, "model"), one("metric", METRICS, "cost"),
            given.get("agent", "")[:64].replace("\0", ""), given.get("model", "")[:200].replace("\0", ""),
        )  # fmt: skip

    @property
    def first_day(self) -> datetime.date:
        return timezone.now().date() - datetime.timedelta(days=int(self.days) - 1)

    def usage(self, *group_by: str, narrowed: bool = True) -> Usage:
        since = datetime.datetime.combine(self.first_day, datetime.time(), datetime.UTC)
        agents, models = ([self.agent] if self.agent else []), ([self.model] if self.model else [])
        return Usage(group_by, since, agents=agents, models=models) if narrowed else Usage(group_by, since)


def page(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Four queries over the time asked for. Raises PermissionDenied for who may not see the ledger."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    wanted = Wanted.of(request.GET.dict())
    (total,) = wanted.usage()[:1]
    rows = wanted.usage(wanted.by)[:ROWS_SHOWN]
    choices = wanted.usage("agent", "model", narrowed=False)[:CHOICES_READ]
    names = _names(wanted.by, rows)
    context = {
        **model_admin.admin_site.each_context(request), "title": "Usage", "wanted": wanted,
        "periods": PERIODS, "groups": GROUPS, "metrics": METRICS, "group": GROUPS[wanted.by],
        "agents": sorted({row.keys["agent"] for row in choices}),
        "models": sorted({row.keys["model"] for row in choices}), "total": _shown(total),
        "rows": [(names[str(row.keys[wanted.by])], _shown(row)) for row in _most(rows, wanted)],
        "more": len(rows) == ROWS_SHOWN, "chart": _chart(wanted, names), "any": bool(choices),
    }  # fmt: skip
    return TemplateResponse(request, "tasks/usage.html", context)


def _chart(wanted: Wanted, names: Mapping[str, str]) -> Chart:
    by = () if wanted.by == "day" else (wanted.by,)
    found = wanted.usage("day", *by)[:BARS_READ]
    values = [
        (row.keys["day"], names.get(str(row.keys[by[0]]), "") if by else "all", float(_measure(row, wanted.metric)))
        for row in found
    ]
    shown = money if wanted.metric == "cost" else lambda amount: f"{int(amount):,}"
    return Chart.of(values, wanted.first_day, timezone.now().date(), shown)


def _measure(row: Row, metric: str) -> Decimal:
    if metric == "tokens":
        return Decimal(row.input_tokens + row.output_tokens)
    return Decimal(row.calls) if metric == "calls" else row.cost_usd or Decimal(0)


def _most(rows: Sequence[Row], wanted: Wanted) -> list[Row]:
    """The dearest first; days stay in their order."""
    return list(rows) if wanted.by == "day" else sorted(rows, key=lambda row: -_measure(row, wanted.metric))


def _names(by: str, rows: Sequence[Row]) -> dict[str, str]:
    """What the groups are called; API keys by their names, in one query."""
    found = [str(row.keys[by]) for row in rows]
    if by != "api_key":
        return {name: name for name in found}
    keys = ApiKey.objects.filter(pk__in=[name for name in found if name]).values_list("pk", "name", "prefix")
    called = {str(pk): f"{name} (ops_{prefix}…)" for pk, name, prefix in keys}
    return {name: called.get(name, f"key {name}" if name else "no key") for name in found}


def compact(number: int) -> str:
    """
    >>> compact(999), compact(12_345), compact(11_921_470)
    ('999', '12.3k', '11.9M')
    """
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _shown(row: Row) -> dict[str, Any]:
    """The figures as a person reads them. An unknown cost is said, never shown as 0."""
    return {
        "calls": f"{row.calls:,}", "errors": row.errors and f"{row.errors:,}",
        "error_share": f"{row.errors / row.calls:.1%}" if row.errors else "",
        "tokens": f"{compact(row.input_tokens)} / {compact(row.output_tokens)}",
        "input": f"{row.input_tokens:,}", "output": f"{row.output_tokens:,}", "cached": f"{row.cached_tokens:,}",
        "cost": money(row.cost_usd), "unpriced": row.unpriced_calls,
        "p50": "—" if row.p50_seconds is None else f"{row.p50_seconds:.2f} s",
        "p95": "—" if row.p95_seconds is None else f"{row.p95_seconds:.2f} s",
    }  # fmt: skip
