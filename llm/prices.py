"""What a call costs, by the price map that LiteLLM brings along, or by an operator's own prices.

Nothing is fetched or queried, LiteLLM is not imported: `llm.in_force` brings the operator's prices here.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from llm import price_map, providers
from llm.messages import Usage

DOLLARS_OF_A_CALL = 1_000_000  # a server that says more is not believed
_EXACT = Decimal("0.0000000001")  # the scale of the columns that keep it
_TIER = re.compile(r"_above_(\d+)k_tokens$")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars a token. `cached`: read from the provider's prompt cache; `cache_write`: written to it."""

    input: Decimal
    output: Decimal
    cached: Decimal
    cache_write: Decimal

    def cost_usd(self, usage: Usage) -> Decimal:
        """gpt-4o-mini at 0.15 and 0.60 dollars a million: 11 tokens in and 7 out cost 0.00000585."""
        fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        total = (
            fresh * self.input + usage.cached_tokens * self.cached
            + usage.cache_write_tokens * self.cache_write + usage.output_tokens * self.output
        )  # fmt: skip
        return max(total, Decimal(0)).quantize(_EXACT)


    @property
    def dearest_input(self) -> Decimal:
        """What a token of the prompt costs at most, also when it is written to the provider's cache."""
        return max(self.input, self.cached, self.cache_write)


FREE = Rates(Decimal(0), Decimal(0), Decimal(0), Decimal(0))
_own: dict[str, Rates] = {}


def override(own: Mapping[str, Rates]) -> None:
    """From now on these models, by `provider/name`, have these prices in this process, and no others."""
    gone = _own.keys() - own.keys()
    _own.update(own)
    for model in gone:
        _own.pop(model, None)


def cost_usd(model: str, usage: Usage) -> Decimal | None:
    """US dollars of those tokens, or None when the map lacks a token price of the model."""
    rates = rates_of(model, usage.input_tokens)
    return None if rates is None else rates.cost_usd(usage)


def rates_of(model: str, input_tokens: int = 0) -> Rates | None:
    """What a call with that many input tokens is charged by; None when a token price is not known.

    An operator's own price comes before the map's. Some models charge more for long prompts
    (`input_cost_per_token_above_200k_tokens`): the highest tier that the prompt is above counts for the whole call,
    as their providers bill. The scripted model is free unless somebody gives it a price, to rehearse budgets.
    """
    own = own_rates(model)
    return bundled_rates(model, input_tokens) if own is None else own


def bundled_rates(model: str, input_tokens: int = 0) -> Rates | None:
    """As `rates_of`, whatever an operator set."""
    if providers.split(model)[0] == "scripted":
        return FREE
    said = price_map.known(model)
    if said is None or said.get("input_cost_per_token") is None or said.get("output_cost_per_token") is None:
        return None
    return _rates(model, _tier(said, input_tokens))


def own_rates(model: str) -> Rates | None:
    """An operator's own price of the model."""
    return _own.get("/".join(providers.split(model))) if _own else None


def told_usd(dollars: Any) -> Decimal | None:
    """What a provider says itself that a call cost; None for what is no believable amount.

    OpenRouter does: https://openrouter.ai/docs/use-cases/usage-accounting
    """
    if isinstance(dollars, bool) or not isinstance(dollars, int | float) or not 0 <= dollars <= DOLLARS_OF_A_CALL:
        return None
    return Decimal(str(dollars)).quantize(_EXACT)


@lru_cache(maxsize=1024)
def _rates(model: str, tier: str) -> Rates:
    said = price_map.known(model) or {}

    def rate(name: str, otherwise: Decimal) -> Decimal:
        price = said.get(name + tier, said.get(name))
        return otherwise if price is None else Decimal(str(price))

    base = rate("input_cost_per_token", Decimal(0))
    return Rates(
        base, rate("output_cost_per_token", Decimal(0)),
        rate("cache_read_input_token_cost", base), rate("cache_creation_input_token_cost", base),
    )  # fmt: skip


def _tier(said: Mapping[str, Any], input_tokens: int) -> str:
    """`_above_200k_tokens` for 200,001 input tokens of a model that has such a price; else ''."""
    if input_tokens <= 1000:
        return ""
    marks = {int(found[1]) for key in said if key.startswith("input_cost_per_token_") and (found := _TIER.search(key))}
    passed = [mark for mark in marks if input_tokens > mark * 1000]
    return f"_above_{max(passed)}k_tokens" if passed else ""
