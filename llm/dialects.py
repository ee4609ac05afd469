"""The protocols that are spoken without LiteLLM's transport: its transformations write and read, `llm.direct` sends.

What is not here (bookkeeping, logging, cost, callbacks) is nine tenths of what `litellm.completion` spends on a call.
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote

from llm import litellm_calls, providers
from llm.errors import BadOptions
from llm.folds.anthropic import AnthropicFold
from llm.folds.base import Fold
from llm.folds.gemini import GeminiFold
from llm.folds.openai import OpenAIFold

BASES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "openrouter": "https://openrouter.ai/api/v1",
    "llamafile": "http://127.0.0.1:8080/v1",
}
"""Where a provider is reached when nothing says otherwise. Those without one are somebody's own server."""

CACHED_MAPPINGS = 256


@dataclass(frozen=True, slots=True)
class Saying:
    """A call in LiteLLM's words, and what LiteLLM needs to know beside them."""

    provider: str
    name: str
    messages: list[Any]
    given: Mapping[str, Any]
    key: str = field(repr=False)
    base: str
    streamed: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What goes out, and what LiteLLM wants to have again when it reads the answer."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    config: Any
    again: dict[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    """One protocol: how a call is written, and how its streamed answer is folded into a plain one."""

    fold: type[Fold]

    def write(self, saying: Saying) -> Request: ...


def config_of(provider: str, name: str) -> Any:
    """LiteLLM's transformation for a model."""
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    return ProviderConfigManager.get_provider_chat_config(model=name, provider=LlmProviders(provider))


class OpenAI:
    """Chat completions: OpenAI, OpenRouter and every server that speaks as OpenAI does."""

    fold: type[Fold] = OpenAIFold

    def write(self, saying: Saying) -> Request:
        config, params, known = _begun(saying)
        extra_body = params.pop("extra_body", None) or {}
        headers = _headers(config, saying, params, known)
        url = config.get_complete_url(saying.base, saying.key, saying.name, params, known, stream=saying.streamed)
        body = config.transform_request(saying.name, saying.messages, params, known, headers)
        body |= _beside(body, config.transform_extra_body(extra_body, body, saying.name, known))
        if saying.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Request(url, headers, _encoded(body), config, _again(saying, params, known))


class Anthropic:
    """The Messages API: https://docs.anthropic.com/en/api/messages"""

    fold: type[Fold] = AnthropicFold

    def write(self, saying: Saying) -> Request:
        from litellm.anthropic_beta_headers_manager import update_request_with_filtered_beta

        config, params, known = _begun(saying)
        json_mode = params.pop("json_mode", False)
        extra_body = params.pop("extra_body", None) or {}
        headers = _headers(config, saying, params, known)
        body = config.transform_request(saying.name, saying.messages, params, known, headers)
        headers, body = update_request_with_filtered_beta(headers, body, saying.provider)
        body |= _beside(body, extra_body) | ({"stream": True} if saying.streamed else {})
        again = _again(saying, params, known, json_mode)
        return Request(self._url(saying.base), headers, _encoded(body), config, again)

    def _url(self, base: str) -> str:
        base = base.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        return f"{base}/v1/messages"


class Gemini:
    """generateContent: https://ai.google.dev/api/generate-content"""

    fold: type[Fold] = GeminiFold

    def write(self, saying: Saying) -> Request:
        from litellm.llms.vertex_ai.gemini.transformation import transform_request_body

        config, params, known = _begun(saying)
        headers = {"Content-Type": "application/json", **saying.given.get("extra_headers", {})}
        headers["x-goog-api-key"] = saying.key
        body = transform_request_body(saying.messages, saying.name, params, "gemini", known, None)
        verb = "streamGenerateContent?alt=sse" if saying.streamed else "generateContent"
        url = f"{saying.base.rstrip('/')}/models/{quote(saying.name)}:{verb}"
        return Request(url, headers, _encoded(body), config, _again(saying, params, known))


DIALECTS: dict[str, Dialect] = {
    "openai": OpenAI(),
    "openrouter": OpenAI(),
    "hosted_vllm": OpenAI(),
    "openai_like": OpenAI(),
    "llamafile": OpenAI(),
    "lm_studio": OpenAI(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
}


def dialect_of(provider: str, name: str, given: Mapping[str, Any], base: str) -> Dialect | None:
    """Who speaks to this model; None for what only `litellm.completion` can call."""
    spoken = DIALECTS.get(provider)
    if spoken is None or (provider == "openai" and _is_for_responses(name, bool(given.get("tools")), base,
                                                                     json.dumps(given.get("reasoning_effort")))):
        return None
    return spoken


def reached_at(provider: str, key: str, base: str) -> tuple[str, str]:
    """Key and address of a provider, with what LiteLLM reads from the environment for servers without a key.

    Raises BadOptions when nothing says where the server is.
    """
    if provider not in providers.KEY_VARIABLES:
        told_base, told_key = config_of(provider, "").get_openai_compatible_provider_info(base or None, key or None)
        base, key = told_base or "", told_key or ""
    base = base or BASES.get(provider, "")
    if not base:
        variable = f"{provider.upper()}_API_BASE"
        raise BadOptions(f"{provider} has no address: set the agent's api_base, or {variable} for the workers")
    return key, base


@lru_cache(maxsize=CACHED_MAPPINGS)
def _is_for_responses(name: str, with_tools: bool, base: str, effort: str) -> bool:
    """Some models of OpenAI are only reached, or only call tools, through its Responses API."""
    litellm_calls.load()
    from litellm.main import responses_api_bridge_check

    tools = [{"type": "function", "function": {"name": "any"}}] if with_tools else None
    told, _ = responses_api_bridge_check(
        name, "openai", tools=tools, reasoning_effort=json.loads(effort), api_base=base or None
    )
    return told.get("mode") == "responses"


def _begun(saying: Saying) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The transformation, the provider's own parameters, and `litellm_params`."""
    given = {name: value for name, value in saying.given.items() if name != "extra_headers"}
    params = json.loads(_mapped(saying.provider, saying.name, json.dumps(given)))
    known = {"custom_llm_provider": saying.provider, "api_base": saying.base}
    return config_of(saying.provider, saying.name), params, known


@lru_cache(maxsize=CACHED_MAPPINGS)
def _mapped(provider: str, name: str, given: str) -> str:
    """OpenAI's parameters in the provider's words, both as JSON: the same for every turn of a task.

    Raises litellm's UnsupportedParamsError.
    """
    from litellm.utils import get_optional_params

    return json.dumps(get_optional_params(model=name, custom_llm_provider=provider, stream=None, **json.loads(given)))


def _headers(config: Any, saying: Saying, params: dict[str, Any], known: dict[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = config.validate_environment(
        dict(saying.given.get("extra_headers", {})), saying.name, saying.messages, params, known,
        api_key=saying.key or None, api_base=saying.base,
    )  # fmt: skip
    return headers


def _beside(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What is merged into the request, which may not change what stands in it. Raises BadOptions."""
    for name in extra:
        if name in body:
            raise BadOptions(f"provider_options.extra_body.{name}: the request has it already; it cannot be replaced")
    return dict(extra)


def _again(
    saying: Saying, params: dict[str, Any], known: dict[str, Any], json_mode: bool = False
) -> dict[str, Any]:
    return {
        "model": saying.name, "messages": saying.messages, "optional_params": params, "litellm_params": known,
        "json_mode": json_mode,
    }  # fmt: skip


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode()
