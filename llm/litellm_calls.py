"""One attempt through LiteLLM: our words into its, its answer into ours. Nothing past this module knows LiteLLM."""
from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from llm import abilities, arguments, credentials, options, prices, providers, tokens, wording
from llm.errors import Abandoned, Malformed, MissingKey
from llm.messages import ModelCall, Reply, ToolRequest, Usage
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
    words: Mapping[str, Any] = field(repr=False)  # the key among them


def prepare(call: ModelCall, provider: str) -> Prepared:
    """Everything that can be refused before a request: raises MissingKey, CredentialGone or BadOptions."""
    access = credentials.access(call.settings, provider)
    options.check(call.settings.provider_options)
    abilities.check(call)
    load()
    if access.key is None:
        check_environment(call.settings.model, provider)
    chosen = call.settings
    messages, words = wording.of(call)
    words |= {"model": chosen.model, "messages": messages}
    words |= {name: value for name, value in (("api_base", access.base), ("api_key", access.key)) if value}
    return Prepared(call, provider, words)


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
    return reply_of(prepared.call, response)


def check_environment(model: str, provider: str) -> None:
    """For the providers whose key LiteLLM reads itself: is it set? Those with ambient credentials have none."""
    missing = load().validate_environment(model)["missing_keys"]
    wanted = next((name for name in missing if name.endswith("_API_KEY")), None)
    if wanted:
        raise MissingKey(providers.missing_key(provider, wanted))


def reply_of(call: ModelCall, response: Any) -> Reply:
    from llm import failures

    model = call.settings.model
    try:
        choice = response.choices[0]
        text, requests = _text(choice.message.content), _requests(call, choice.message.tool_calls or ())
    except (IndexError, AttributeError, TypeError) as error:
        detail = "no choices" if isinstance(error, IndexError) else "not what the protocol says"
        failure = failures.told(Malformed, model, 200, detail)
        failure.usage = usage_of(call, response, "", ())
        raise failure from None
    finish = FINISH_REASONS.get(str(choice.finish_reason).lower(), "stop")
    if not text and not requests and _is_refused(choice.message):
        finish = "content_filter"
    if requests and finish == "stop":
        finish = "tool_calls"
    return Reply(text, requests, finish, usage_of(call, response, text, requests), model)


def _is_refused(message: Any) -> bool:
    """OpenAI says so in a field of its own: https://platform.openai.com/docs/guides/structured-outputs#refusals"""
    return bool((getattr(message, "provider_specific_fields", None) or {}).get("refusal"))


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


def usage_of(call: ModelCall, response: Any, text: str, requests: tuple[ToolRequest, ...]) -> Usage:
    """As the provider counted and the price map prices; a server that counts nothing is estimated, without a price.

    So is one whose count cannot be: a row could not hold it, or it would take from what the task has used.
    """
    told = getattr(response, "usage", None)
    spent = (getattr(told, "prompt_tokens", 0) or 0, getattr(told, "completion_tokens", 0) or 0)
    if any(spent) and all(0 <= count <= TOKENS_OF_A_CALL for count in spent):
        return _priced(call.settings.model, _counted(told), told)
    if not text and not requests:
        return Usage()
    return Usage(tokens.of_input(call.messages, call.tools), estimated_output(call, text, requests), None)


def estimated_output(call: ModelCall, text: str, requests: tuple[ToolRequest, ...]) -> int:
    """Tokens of an answer that nobody counted: never more than the call may have, whatever a server sends."""
    return min(tokens.of_output(text, requests), call.settings.max_output_tokens or TOKENS_OF_A_CALL)


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
