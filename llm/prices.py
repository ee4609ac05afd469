"""What an answer cost, from the price map that LiteLLM brings along; nothing is fetched."""
from __future__ import annotations

from decimal import Decimal
from typing import Any

from llm import providers

DOLLARS_OF_A_CALL = 1_000_000  # a server that says more is not believed
_EXACT = Decimal("0.0000000001")  # the scale of the columns that keep it


def cost_usd(model: str, response: Any) -> Decimal | None:
    """US dollars of a LiteLLM response, or None when the price of the model is not known.

    gpt-4o-mini at 0.15 and 0.60 dollars a million: 11 tokens in and 7 out cost 0.00000585. OpenRouter, which is not
    in the map, says itself what a call cost: https://openrouter.ai/docs/use-cases/usage-accounting
    """
    import litellm

    provider, _ = providers.split(model)
    if provider == "openrouter":
        told = getattr(response.usage, "cost", None)
        if isinstance(told, int | float) and not isinstance(told, bool):
            return _decimal(told)
    if not priced(model):
        return None
    try:
        return _decimal(litellm.completion_cost(completion_response=response, model=model))
    except Exception:  # LiteLLM raises many kinds for prices it cannot work out
        return None


def priced(model: str) -> bool:
    """Whether the map has both token prices of a model; LiteLLM itself takes a missing one for 0."""
    import litellm

    try:
        key = litellm.get_model_info(model)["key"]
    except Exception:  # a bare Exception is what it raises for a model that is not mapped
        return False
    prices = litellm.model_cost.get(key, {})
    return "input_cost_per_token" in prices and "output_cost_per_token" in prices


def _decimal(dollars: float) -> Decimal | None:
    return Decimal(str(dollars)).quantize(_EXACT) if 0 <= dollars <= DOLLARS_OF_A_CALL else None
