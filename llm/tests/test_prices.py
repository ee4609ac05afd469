"""Prices by the map of the installed LiteLLM, and the map itself."""
from __future__ import annotations

from decimal import Decimal

import pytest

from llm import price_map, prices
from llm.messages import Usage


def test_what_the_cache_read_and_wrote_is_charged_at_its_own_price():
    usage = Usage(1000, 100, cached_tokens=600, cache_write_tokens=200)

    # claude-sonnet-4-6, dollars a million: 3 in, 15 out, 0.30 from the cache, 3.75 into it
    assert prices.cost_usd("anthropic/claude-sonnet-4-6", usage) == Decimal("0.0030300000")


@pytest.mark.parametrize(
    ("input_tokens", "dollars"), [(200_000, "0.2500000000"), (200_001, "0.5000025000"), (300_000, "0.7500000000")]
)
def test_a_prompt_above_a_tier_is_charged_by_it_as_a_whole(input_tokens, dollars):
    assert prices.cost_usd("gemini/gemini-2.5-pro", Usage(input_tokens, 0)) == Decimal(dollars)


@pytest.mark.parametrize("model", ["openai/no-such-model", "hosted_vllm/mine", "openai/sample_spec", "gpt-4o-mini"])
def test_a_model_that_is_not_in_the_map_has_no_price_and_never_zero(model):
    assert price_map.known(model) is None
    assert prices.cost_usd(model, Usage(10, 10)) is None


def test_a_name_is_only_known_for_its_own_provider():
    assert price_map.known("openai/gpt-4o-mini") is not None
    assert price_map.known("anthropic/gpt-4o-mini") is None


def test_the_chat_models_of_a_provider_are_named_in_full():
    named = list(price_map.names("gemini"))

    assert "gemini/gemini-2.5-pro" in named
    assert all(name.startswith("gemini/") and price_map.known(name) for name in named)
