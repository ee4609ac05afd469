"""Which of an agent's `provider_options` may reach LiteLLM: parameters of the model, not levers of the library."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm.errors import BadOptions

AGENT_KEYS = {
    "model": "model",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "timeout": "call_timeout_seconds",
    "request_timeout": "call_timeout_seconds",
    "tools": "tools",
    "api_base": "api_base",
    "base_url": "api_base",
}
"""Options that an agent's configuration has a key of its own for."""
_OF_AGENT = {name.replace("_", ""): key for name, key in AGENT_KEYS.items()} | {
    "maxoutputtokens": "max_output_tokens", "stopsequences": "stop", "responseformat": "response_format",
}  # fmt: skip

_RESERVED = """
    messages stream stream_options functions function_call deployment_id shared_session client drop_params
    additional_drop_params mock_response mock_tool_calls fallbacks model_list custom_llm_provider
"""
RESERVED = frozenset(_RESERVED.split())
# Written as `_plain` makes them. A body may not say what the request is for, how much it may bill, whom else it asks,
# or what the provider itself may call: budgets and tool policy are held against what the agent's own keys say.
_REQUEST = """
    model models route messages contents input prompt system systeminstruction n bestof candidatecount stream
    streamoptions tools functions functioncall toolconfig mcpservers plugins websearchoptions searchparameters
    enablesearch maxtokens maxcompletiontokens maxoutputtokens maxnewtokens maxtokenstosample maxgenlen maxlength
    npredict numpredict fallbacks extrabody extraheaders cachedcontent
"""
REQUEST = frozenset(_REQUEST.split())
NESTED = frozenset({"generationconfig", "inferenceconfig", "options", "parameters", "additionalmodelrequestfields"})
"""Objects inside a body that hold such settings too: Gemini's, Bedrock's, Ollama's, Hugging Face's."""
ALLOWED = frozenset(
    {"api_version", "aws_region_name", "vertex_project", "vertex_location", "extra_body", "extra_headers"}
)

# An address or a credential in an agent's configuration could carry a provider's key to a stranger.
_DANGEROUS = re.compile(
    r"(^|_)(base|url|uri|endpoint|host|proxy|credentials?|password|api_key|secret)(_|$)|^(aws|vertex|azure|gcs|s3|oci)_"
)
_KEY_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "host", "cookie"})


def check(options: Mapping[str, Any]) -> None:
    """Raises BadOptions, naming the option and the cure. Imports LiteLLM when there is an option to check."""
    for name in options:
        if name in AGENT_KEYS:
            raise BadOptions(f"provider_options.{name}: set the agent's {AGENT_KEYS[name]} instead")
        if name not in ALLOWED and (name in RESERVED or _DANGEROUS.search(name.lower()) or _is_lever(name)):
            raise _refused(name)
        if name not in ALLOWED and _plain(name) in REQUEST:
            raise _refused(name)
        if _plain(name) in NESTED:
            _check_body(options[name], name)
    if options.get("extra_body") is not None:
        _check_body(options["extra_body"], "extra_body")
    headers = options.get("extra_headers", {})
    if not isinstance(headers, Mapping):
        raise BadOptions("provider_options.extra_headers: write an object of header names and values")
    for header in headers:
        if header.lower() in _KEY_HEADERS:
            raise BadOptions(f"provider_options.extra_headers.{header}: it cannot be set here")


def _check_body(body: Any, path: str) -> None:
    """The same inside what is merged into the request, and `tool_choice`, which is set beside it."""
    if not isinstance(body, Mapping):
        raise BadOptions(f"provider_options.{path}: write an object")
    for name, value in body.items():
        plain, here = _plain(name), f"{path}.{name}"
        if plain in _OF_AGENT:
            raise BadOptions(f"provider_options.{here}: set the agent's {_OF_AGENT[plain]} instead")
        if plain in REQUEST or plain == "toolchoice" or name in RESERVED or _DANGEROUS.search(name.lower()):
            raise _refused(here)
        if _is_lever(name):
            raise _refused(here)
        if plain in NESTED:
            _check_body(value, here)


def _plain(name: str) -> str:
    """One spelling for `maxOutputTokens`, `max_output_tokens` and `max-output-tokens`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _refused(path: str) -> BadOptions:
    return BadOptions(f"provider_options.{path}: it cannot be set here; see docs/reference/models.md")


def _is_lever(name: str) -> bool:
    """Whether LiteLLM keeps the option for itself instead of sending it."""
    from llm import litellm_calls

    litellm_calls.load()
    from litellm.types.utils import all_litellm_params

    return name.startswith("_") or name in all_litellm_params
