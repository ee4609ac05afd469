"""Which prices and budgets are in force, as this process knows them: read at most once a second, by whoever asks.

A change is heeded everywhere within `FRESH_SECONDS`. Only the existence of a budget is remembered: its limit and what
is left of it are read when a call is reserved.
"""
from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection

from llm import prices

log = structlog.get_logger(__name__)

FRESH_SECONDS = 1.0
MILLION = Decimal(1_000_000)

READ = """
SELECT (SELECT json_agg(json_build_array(model, input_usd::text, output_usd::text,
            coalesce(cached_usd, input_usd)::text, coalesce(cache_write_usd, input_usd)::text)) FROM llm_price)::text,
    (SELECT json_agg(DISTINCT jsonb_build_array(scope, scope_id)) FROM llm_budget WHERE enabled)::text
"""

Owner = tuple[str, str]
"""A scope and whose: ("fleet", ""), ("agent", slug), ("api_key", id), ("task", id)."""


class InForce:
    """What one process knows. Thread-safe; while one thread reads, the others go on with what was known before."""

    def __init__(self) -> None:
        self._budgets: frozenset[Owner] = frozenset()
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def touches(self, owners: Iterable[Owner]) -> bool:
        """Whether a budget is in force for one of them. At most one query a second and process; hands back the
        connection when it queried. While PostgreSQL is away, what was known before holds; raises when nothing was.
        """
        if time.monotonic() - self._read_at >= FRESH_SECONDS:
            self._refresh()
        return bool(self._budgets) and not self._budgets.isdisjoint(owners)

    def forget(self, **signal: Any) -> None:
        """Look anew at the next question."""
        self._read_at = float("-inf")

    def _refresh(self) -> None:
        first = self._read_at == float("-inf")
        if not self._reading.acquire(blocking=first):
            return
        try:
            if time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._read()
        except (OperationalError, InterfaceError):
            if first:
                raise
            log.warning("budgets_not_read")
        finally:
            self._reading.release()

    def _read(self) -> None:
        asked = time.monotonic()
        try:
            with connection.cursor() as cursor:
                cursor.execute(READ)
                own, budgets = (json.loads(text or "[]") for text in cursor.fetchone())
        finally:
            connection.close()
        prices.override({model: prices.Rates(*(Decimal(usd) / MILLION for usd in usds)) for model, *usds in own})
        self._budgets = frozenset((scope, scope_id) for scope, scope_id in budgets)
        self._read_at = asked


IN_FORCE = InForce()
