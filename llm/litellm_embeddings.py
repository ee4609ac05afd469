"""One embedding request through LiteLLM. Nothing past this module knows it."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llm import credentials, litellm_calls, prices, tokens
from llm.embeddings import Ask
from llm.errors import Malformed
from llm.messages import ModelSettings, Usage

# LiteLLM embeds with these through OpenAI's SDK, whose client it makes on `litellm.client_session`.
_BY_SDK = frozenset(
    {"azure", "fireworks_ai", "litellm_proxy", "mistral", "nebius", "nvidia_nim", "openai", "together_ai", "wandb",
     "xinference"}
)  # fmt: skip


def asker(model: str, provider: str) -> Ask:
    """Requests to that model with the key and the address of the environment. Raises MissingKey."""
    access = credentials.access(ModelSettings(model), provider)
    litellm = litellm_calls.load()
    litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]  # it takes a `max_retries` of 0 for none given
    if access.key is None:
        litellm_calls.check_environment(model, provider)
    words = {"model": model, "api_key": access.key, "api_base": access.base or None}

    def ask(texts: Sequence[str], seconds: float) -> tuple[list[list[float]], Usage]:
        return _read(model, texts, _send(words, provider, texts, seconds))

    return ask


def _send(words: dict[str, Any], provider: str, texts: Sequence[str], seconds: float) -> Any:
    from llm import failures
    from llm.wire import LINE

    LINE.begin(seconds, lambda: False)
    client = {} if provider in _BY_SDK else {"client": LINE.client}
    try:
        return litellm_calls.load().embedding(
            **words, **client, input=list(texts), timeout=seconds, max_retries=0, caching=False
        )
    except Exception as error:  # LiteLLM raises its own classes and, from its inside, any other
        raise failures.translate(error, words["model"], LINE.status, LINE.headers) from None


def _read(model: str, texts: Sequence[str], response: Any) -> tuple[list[list[float]], Usage]:
    """The vectors in the order of the texts. Raises Malformed for anything but one list of numbers a text."""
    from llm import failures

    try:
        entries = sorted(response.data, key=lambda entry: entry["index"])
        vectors = [[float(number) for number in entry["embedding"]] for entry in entries]
        right = [entry["index"] for entry in entries] == list(range(len(texts)))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise failures.told(Malformed, model, 200, "not what the protocol says") from None
    if not right or not all(vector and all(map(math.isfinite, vector)) for vector in vectors):
        raise failures.told(Malformed, model, 200, f"not one vector for each of {len(texts)} texts")
    return vectors, _usage(model, texts, response)


def _usage(model: str, texts: Sequence[str], response: Any) -> Usage:
    """As the provider counted; else estimated, without a price."""
    told = getattr(getattr(response, "usage", None), "prompt_tokens", 0) or 0
    if not 0 < told <= litellm_calls.TOKENS_OF_A_CALL:
        return Usage(sum(map(tokens.of_output, texts)), 0, None)
    return Usage(told, 0, prices.cost_usd(model, Usage(told)))
