"""What is known of models without calling any: the price map of the installed LiteLLM, read without importing it."""
from __future__ import annotations

import importlib.util
import json
import pathlib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any

from llm import providers

FILE = "model_prices_and_context_window_backup.json"
SAMPLE = "sample_spec"  # the map's own documentation, not a model

Known = Mapping[str, Any]


def known(model: str) -> Known | None:
    """What the map says of `provider/name`; None for a model that is not in it.

    Keys are LiteLLM's: `input_cost_per_token` (US dollars), `max_input_tokens`, `deprecation_date` (YYYY-MM-DD),
    `supports_vision` … see `sample_spec` in the file.
    """
    return _found(*providers.split(model))


def names(provider: str) -> Iterator[str]:
    """Every chat model of the provider, as `provider/name`, in the map's order."""
    for key, said in _map().items():
        if said.get("mode") in ("chat", "responses") and _is_of(said, provider):
            yield key if key.startswith(f"{provider}/") else f"{provider}/{key}"


@lru_cache(maxsize=1024)
def _found(provider: str, name: str) -> Known | None:
    """Some keys carry their provider (`gemini/gemini-2.5-pro`), some are the bare name (`gpt-4o-mini`)."""
    whole = _map().get(f"{provider}/{name}")
    if whole is not None and (_is_of(whole, provider) or provider in providers.HUBS):
        return whole
    bare = _map().get(name)
    return bare if bare is not None and name != SAMPLE and _is_of(bare, provider) else None


def _is_of(said: Known, provider: str) -> bool:
    """`vertex_ai-anthropic_models` and `bedrock_converse` are kinds of their provider."""
    owner = str(said.get("litellm_provider", ""))
    return owner in (provider, f"{provider}_converse") or owner.startswith(f"{provider}-")


@cache
def _map() -> dict[str, Known]:
    """The file, read once (0.1 s and 5 MB). Empty when LiteLLM is not installed as it should be."""
    found = importlib.util.find_spec("litellm")
    place = pathlib.Path(found.origin).with_name(FILE) if found and found.origin else None
    if place is None or not place.exists():
        return {}
    read: dict[str, Known] = json.loads(place.read_text())
    return read
