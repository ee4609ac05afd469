"""What a model can be asked, by the price map of the installed LiteLLM and by what its protocol has."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from llm import price_map, providers
from llm.errors import BadOptions
from llm.messages import ModelCall

LOCAL = frozenset({"hosted_vllm", "openai_like", "llamafile", "lm_studio"})
"""OpenAI-compatible servers of one's own: vLLM, llama.cpp, LM Studio and Ollama's `/v1` answer by a JSON Schema."""

WITHOUT_TOP_K = frozenset({"openai"})  # https://platform.openai.com/docs/api-reference/chat/create
_GEMINI_3 = re.compile(r"gemini-(\d+)")


def check(call: ModelCall) -> None:
    """Raises BadOptions for what the model cannot take, before anything is sent; a model not in the map is believed."""
    provider, _ = providers.split(call.settings.model)
    if call.settings.top_k is not None and provider in WITHOUT_TOP_K:
        raise BadOptions(f"{call.settings.model} has no top_k: take it out of the agent, or use top_p")
    pictures = list(_pictures(call))
    if pictures and not takes_images(call.settings.model):
        raise BadOptions(f"{call.settings.model} takes no images: send text, or choose a model with vision")
    if provider == "gemini" and any(not url.startswith("data:") for url in pictures):
        raise BadOptions(f"{call.settings.model} fetches no images: send them as data:image/…;base64,…")


def takes_images(model: str) -> bool:
    said = known(model)
    return said is None or bool(said.get("supports_vision"))


def caches_by_marks(model: str) -> bool:
    """Whether what is to be cached has to be marked; the others cache by themselves, or not at all.

    https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching, and OpenRouter's page of that name.
    """
    provider, name = providers.split(model)
    marked = provider == "anthropic" or (provider == "openrouter" and name.startswith("anthropic/"))
    return marked and bool((known(model) or {}).get("supports_prompt_caching"))


def answers_by_schema(call: ModelCall) -> bool:
    """Whether the provider itself holds the answer to `call.output_schema`; else the model has to be told to.

    OpenAI wants an object at the root; Gemini before 3 does it only without tools, and Claude only in its native mode.
    """
    provider, name = providers.split(call.settings.model)
    if call.output_schema is None or call.output_schema.get("type") != "object":
        return False
    if provider in LOCAL:
        return True
    said = known(call.settings.model) or {}
    if provider == "gemini" and call.tools and not _is_gemini_3(name):
        return False
    if provider == "anthropic" and call.tools and not said.get("supports_native_structured_output"):
        return False
    return bool(said.get("supports_response_schema"))


@lru_cache(maxsize=1024)
def takes(parameter: str, model: str) -> bool:
    """Whether the model takes OpenAI's parameter of that name, by LiteLLM, which is imported: only for workers.

    OpenAI's reasoning models refuse `stop`: https://platform.openai.com/docs/api-reference/chat/create
    """
    from litellm import get_supported_openai_params

    provider, name = providers.split(model)
    if parameter == "stop" and "openai" in model.split("/")[:2] and (known(model) or {}).get("supports_reasoning"):
        return False
    return parameter in (get_supported_openai_params(name, custom_llm_provider=provider) or ())


def known(model: str) -> Mapping[str, Any] | None:
    """What the map says of a model, or of the one behind it: `openrouter/anthropic/claude-sonnet-4.5`.

    A model tuned by its owner is not in the map with what its base can do.
    """
    provider, name = providers.split(model)
    if name.startswith("ft:"):
        return None
    said = price_map.known(model)
    if said is None and provider == "openrouter":
        vendor, _, own = name.partition("/")
        found = providers.canonical(vendor)
        return price_map.known(f"{found}/{own}") or price_map.known(f"{found}/{own.replace('.', '-')}")
    return said


def _is_gemini_3(name: str) -> bool:
    found = _GEMINI_3.search(name)
    return found is not None and int(found[1]) >= 3


def _pictures(call: ModelCall) -> Iterator[str]:
    """The address of each image."""
    for message in call.messages:
        for part in message.content if not isinstance(message.content, str) else ():
            if part.get("type") == "image_url":
                image = part.get("image_url")
                yield str(image.get("url") if isinstance(image, Mapping) else image)
