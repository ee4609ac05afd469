"""What a call may cost at most, before it is made: by the price of its model and the bytes that it sends."""
from __future__ import annotations

from collections.abc import Sequence

from llm import price_map, prices, providers, tokens
from llm.budget import DEFAULT_OUTPUT_TOKENS, Offer, Unpriced
from llm.messages import Message, ModelSettings, ToolSpec

NOT_SENT = "script"  # of the scripted model's options


def offer_of(
    chosen: ModelSettings, messages: Sequence[Message], tools: Sequence[ToolSpec], wanted: int | None
) -> Offer | Unpriced:
    """The offer for one attempt. `wanted` bounds the answer; without it the price map's bound of the model does."""
    options = {name: value for name, value in chosen.provider_options.items() if name != NOT_SENT}
    size = tokens.most_of_input(messages, tools, options)
    model = "/".join(providers.split(chosen.model))
    rates = prices.rates_of(model, size)
    if rates is None:
        return Unpriced(model)
    return Offer(size * rates.dearest_input, rates.output, wanted or _longest(model))


def is_priced(chosen: ModelSettings) -> bool:
    """Whether somebody knows what the model costs."""
    return prices.rates_of("/".join(providers.split(chosen.model))) is not None


def _longest(model: str) -> int:
    said = (price_map.known(model) or {}).get("max_output_tokens")
    return said if isinstance(said, int) and said > 0 else DEFAULT_OUTPUT_TOKENS
