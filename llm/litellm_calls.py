"""One attempt through LiteLLM: our words into its, its answer into ours. Nothing past this module knows LiteLLM."""
from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from llm import arguments, options, prices, providers, tokens
from llm.errors import Abandoned, Malformed, MissingKey
from llm.messages import Message, ModelCall, Reply, ToolRequest, ToolSpec, Usage
from llm.storable import clean

FINISH_REASONS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}

NOT_SENT = "The call was given up before it was sent: its task is to stop."
MAYBE_BILLED = (
    "The call was given up while it was under way: its task is to stop. The provider may bill what it had done; "
    "its tokens are not known here and not counted."
)

TOKENS_OF_A_CALL = 10**9  # a thousand times the longest context there is

# These take an SDK's client where the others take an HTTP handler; LiteLLM makes it, on `litellm.client_session`.
_OWN_CLIENTS = frozenset({"azure", "azure_text", "text-completion-openai", "text-completion-inception"})

_IMPORT = threading.Lock()


@functools.cache
def _loaded() -> ModuleType:
    # Read while it is imported: the bundled price map instead of one from the network, no `.env` of its own, and
    # the HTTP handler that costs 3 ms of CPU a call instead of 5.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    os.environ["EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"] = "true"
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True  # it prints banners to stdout
    litellm.redact_messages_in_exceptions = True
    litellm.drop_params = False  # what an operator set is sent or refused, never dropped in silence
    litellm.modify_params = False
    litellm.num_retries = 0
    from llm.wire import Shared

    litellm.client_session = Shared()
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # each failure is told by the ModelError
    return litellm


def load() -> ModuleType:
    """LiteLLM, imported once (seconds of CPU), with everything off that prints, calls home or retries."""
    with _IMPORT:
        return _loaded()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call in LiteLLM's words, to be sent as often as needed."""

    call: ModelCall
    provider: str
    words: Mapping[str, Any]


def prepare(call: ModelCall, provider: str) -> Prepared:
    """Everything that can be refused before a request: raises MissingKey or BadOptions."""
    key = providers.key_of(provider) if provider in providers.KEY_VARIABLES else None
    options.check(call.settings.provider_options)
    load()
    if key is None:
        _check_environment(call.settings.model, provider)
    chosen = call.settings
    base = chosen.api_base or providers.base_of(provider)
    words = {
        "model": chosen.model,
        "messages": [_message(message) for message in call.messages],
        "tools": [_tool(tool) for tool in call.tools] or None,
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
        "top_k": chosen.top_k,
        "seed": chosen.seed,
        "max_tokens": chosen.max_output_tokens,
        "stop": list(chosen.stop) or None,
        "api_base": base or None,
        "api_key": key,
    }
    given = {name: value for name, value in words.items() if value is not None}
    return Prepared(call, provider, {**chosen.provider_options, **given})


def send(prepared: Prepared, timeout_seconds: float, should_stop: Callable[[], bool]) -> Reply:
    """One request, no retry. Raises ModelError; Abandoned within half a second of `should_stop()`."""
    litellm = load()
    from llm import failures
    from llm.wire import LINE

    model = prepared.call.settings.model
    LINE.begin(timeout_seconds, should_stop)
    client = {} if prepared.provider in _OWN_CLIENTS else {"client": LINE.client}
    try:
        response = litellm.completion(
            **prepared.words,
            **client,
            timeout=timeout_seconds,
            max_retries=0,
            _skip_mcp_handler=True,  # its MCP gateway, unused here, costs a second of imports
        )
    except Exception as error:  # LiteLLM raises its own classes and, from its inside, any other
        if LINE.interrupted:
            raise Abandoned(MAYBE_BILLED if LINE.sent else NOT_SENT) from None
        raise failures.translate(error, model, LINE.status, LINE.headers) from None
    return _reply(prepared.call, response)


def _check_environment(model: str, provider: str) -> None:
    """For the providers whose key LiteLLM reads itself: is it set? Those with ambient credentials have none."""
    missing = load().validate_environment(model)["missing_keys"]
    wanted = next((name for name in missing if name.endswith("_API_KEY")), None)
    if wanted:
        raise MissingKey(providers.missing_key(provider, wanted))


def _message(message: Message) -> dict[str, Any]:
    content = message.content if isinstance(message.content, str) else [dict(part) for part in message.content]
    told: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_requests:
        told["content"] = content or None
        told["tool_calls"] = [_tool_call(request) for request in message.tool_requests]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


def _tool_call(request: ToolRequest) -> dict[str, Any]:
    """A call that could not be read goes back without arguments: providers refuse what is not JSON here too."""
    function = {"name": request.name, "arguments": json.dumps(request.arguments or {}, ensure_ascii=False)}
    return {"id": request.id, "type": "function", "function": function}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _reply(call: ModelCall, response: Any) -> Reply:
    from llm import failures

    model = call.settings.model
    try:
        choice = response.choices[0]
        text, requests = _text(choice.message.content), _requests(call, choice.message.tool_calls or ())
    except (IndexError, AttributeError, TypeError) as error:
        detail = "no choices" if isinstance(error, IndexError) else "not what the protocol says"
        failure = failures.told(Malformed, model, 200, detail)
        failure.usage = _usage(call, response, "", ())
        raise failure from None
    finish = FINISH_REASONS.get(str(choice.finish_reason).lower(), "stop")
    if requests and finish == "stop":
        finish = "tool_calls"
    return Reply(text, requests, finish, _usage(call, response, text, requests), model)


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return clean(content or "")
    return clean("".join(part.get("text", "") for part in content if isinstance(part, Mapping)))


def _requests(call: ModelCall, calls: Any) -> tuple[ToolRequest, ...]:
    """The tool calls in order; one without an id gets one that is unique in the task."""
    return tuple(
        arguments.request(made.id or f"call_{call.tried}_{index}", made.function.name or "", made.function.arguments)
        for index, made in enumerate(calls)
    )


def _usage(call: ModelCall, response: Any, text: str, requests: tuple[ToolRequest, ...]) -> Usage:
    """As the provider counted and the price map prices; a server that counts nothing is estimated, without a price.

    So is one whose count cannot be: a row could not hold it, or it would take from what the task has used.
    """
    told = getattr(response, "usage", None)
    spent = (getattr(told, "prompt_tokens", 0) or 0, getattr(told, "completion_tokens", 0) or 0)
    if any(spent) and all(0 <= count <= TOKENS_OF_A_CALL for count in spent):
        return _priced(call.settings.model, _counted(told), told)
    if not text and not requests:
        return Usage()
    return Usage(tokens.of_input(call.messages, call.tools), tokens.of_output(text, requests), None)


def _counted(told: Any) -> Usage:
    """The provider's own count, with what its prompt cache read and wrote."""
    details = getattr(told, "prompt_tokens_details", None)
    read, written = getattr(details, "cached_tokens", 0) or 0, getattr(details, "cache_creation_tokens", 0) or 0
    if not (read >= 0 <= written and read + written <= told.prompt_tokens):
        read = written = 0
    return Usage(
        told.prompt_tokens or 0, told.completion_tokens or 0, cached_tokens=read, cache_write_tokens=written
    )  # fmt: skip


def _priced(model: str, counted: Usage, told: Any) -> Usage:
    """With its cost: what OpenRouter says, unless an operator gave the model a price; else what prices come to."""
    says = providers.split(model)[0] == "openrouter" and prices.own_rates(model) is None
    cost = prices.told_usd(getattr(told, "cost", None)) if says else prices.cost_usd(model, counted)
    return replace(counted, cost_usd=cost)
