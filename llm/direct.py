"""One attempt over a connection of our own, in the provider's own protocol, plain or streamed."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from django.conf import settings

from llm import (
    abilities,
    credentials,
    dialects,
    failures,
    litellm_calls,
    options,
    prices,
    providers,
    sse,
    tokens,
    wording,
)
from llm.dialects import Dialect, Request
from llm.errors import Abandoned, Malformed, ModelError, ModelTimeout
from llm.folds.base import Fold, ProviderFailed, told
from llm.messages import Delta, ModelCall, Reply, Usage
from llm.storable import begins_a_pair, clean
from llm.wire import ANSWER_MAX_BYTES, LINE

OnDelta = Callable[[Delta], None]

NO_COMPRESSION = {"Accept-Encoding": "identity"}  # a small answer must not unpack into a huge one
LAST_WORD_SECONDS = 1.0  # for the end of a body whose last event has come, so that its connection can be used again

CUT_SHORT = (
    "The call was given up while its answer was arriving: its task is to stop. The tokens of what had come are "
    "counted; the provider may bill more."
)


class BrokenOff(Exception):
    """A stream ended before its answer did."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call as bytes, to be sent as often as needed."""

    call: ModelCall
    provider: str
    name: str
    dialect: Dialect
    request: Request = field(repr=False)  # the key among its headers
    on_delta: OnDelta | None


def prepare(call: ModelCall, provider: str, on_delta: OnDelta | None = None) -> Prepared | None:
    """The call in the provider's protocol; None when only `llm.litellm_calls` can make it.

    Raises what can be refused before a request: MissingKey, CredentialGone, BadOptions.
    """
    if provider not in dialects.DIALECTS:
        return None
    access = credentials.access(call.settings, provider)
    options.check(call.settings.provider_options)
    abilities.check(call)
    litellm_calls.load()
    name = providers.split(call.settings.model)[1]
    messages, given = wording.of(call)
    dialect = dialects.dialect_of(provider, name, given, access.base)
    if dialect is None:
        return None
    key, base = dialects.reached_at(provider, access.key or "", access.base)
    saying = dialects.Saying(provider, name, messages, given, key, base, on_delta is not None)
    try:
        request = dialect.write(saying)
    except ModelError:
        raise
    except Exception as error:  # LiteLLM raises its own classes and, from its inside, any other
        raise failures.translate(error, call.settings.model, None, {}) from None
    return Prepared(call, provider, name, dialect, request, on_delta)


def send(prepared: Prepared, timeout_seconds: float, should_stop: Callable[[], bool]) -> Reply:
    """One request, no retry. Raises ModelError; Abandoned within half a second of `should_stop()`.

    An error in the middle of a streamed answer holds the usage of what had come.
    """
    fold = prepared.dialect.fold()
    LINE.begin(timeout_seconds, should_stop)
    try:
        return litellm_calls.reply_of(prepared.call, _read(prepared, _exchange(prepared, fold)))
    except ModelError:
        raise
    except Exception as error:
        failure = _failure(prepared, fold, error)
        failure.usage = _usage_so_far(prepared, fold)
        raise failure from None


def _exchange(prepared: Prepared, fold: Fold) -> Any:
    """The body of the answer, as JSON."""
    asked = prepared.request
    headers = {**asked.headers, **NO_COMPRESSION}
    request = LINE.http.build_request("POST", asked.url, headers=headers, content=asked.body)
    with closing(LINE.http.send(request, stream=True)) as response:
        if response.status_code >= 300:
            told_why = httpx.Response(response.status_code, content=b"".join(_chunks(response)), request=request)
            raise httpx.HTTPStatusError("refused", request=request, response=told_why)
        if prepared.on_delta is None or _is_plain(response):
            return _plain(prepared, response)
        return _streamed(response, fold, prepared.on_delta)


def _is_plain(response: httpx.Response) -> bool:
    """Servers that know no streaming answer as if it had not been asked for; others send their error page with 200."""
    kind = response.headers.get("content-type", "")
    return "json" in kind or "html" in kind


def _plain(prepared: Prepared, response: httpx.Response) -> Any:
    body = json.loads(b"".join(_chunks(response)))
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):
        raise told(body["error"])
    return body


def _streamed(response: httpx.Response, fold: Fold, on_delta: OnDelta) -> Any:
    """Hand on the text as it comes, half a character with its other half. What breaks after a whole answer has come
    breaks nothing.
    """
    held = ""
    try:
        for data in sse.events(_chunks(response)):
            if data and not fold.ended and (text := fold.feed(data)):
                text = held + text
                held = text[-1] if begins_a_pair(text) else ""
                if shown := clean(text[: len(text) - len(held)]):
                    on_delta(Delta(shown))
            LINE.expect(LAST_WORD_SECONDS if fold.ended else settings.LLM_STALL_SECONDS)
    except httpx.TransportError:
        if not fold.complete or LINE.interrupted:
            raise
    if not fold.complete:
        raise BrokenOff("it ended before the answer did")
    if held:
        on_delta(Delta(clean(held)))
    return fold.body()


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    size = 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > ANSWER_MAX_BYTES:
            raise httpx.DecodingError(f"the answer is over {ANSWER_MAX_BYTES} bytes")
        yield chunk


def _read(prepared: Prepared, body: Any) -> Any:
    """LiteLLM's reading of an answer."""
    from litellm.types.utils import ModelResponse

    return prepared.request.config.transform_response(
        raw_response=_Body(body), model_response=ModelResponse(), logging_obj=_Silent(), request_data={},
        encoding=None, api_key="", **prepared.request.again,
    )  # fmt: skip


class _Body:
    """As much of a response as LiteLLM reads."""

    status_code = 200
    text = ""

    def __init__(self, body: Any) -> None:
        self._body = body
        self.headers: dict[str, str] = {}

    def json(self) -> Any:
        return self._body


class _Silent:
    """As much of LiteLLM's logging as its transformations call."""

    def __init__(self) -> None:
        self.optional_params: dict[str, Any] = {}

    def post_call(self, *args: Any, **given: Any) -> None: ...


def _failure(prepared: Prepared, fold: Fold, error: Exception) -> ModelError:
    model = prepared.call.settings.model
    if LINE.interrupted:
        sent = CUT_SHORT if fold.begun else litellm_calls.MAYBE_BILLED
        return Abandoned(sent if LINE.sent else litellm_calls.NOT_SENT)
    if isinstance(error, BrokenOff | httpx.RemoteProtocolError | httpx.ReadError) and LINE.status:
        return failures.told(Malformed, model, LINE.status, f"its answer broke off: {error}")
    if isinstance(error, httpx.ReadTimeout) and fold.begun and LINE.deadline < LINE.ends_at:
        words = f"nothing came for {settings.LLM_STALL_SECONDS:g} s in the middle of its answer"
        return failures.told(ModelTimeout, model, LINE.status, words)
    return _translated(prepared, error)


def _translated(prepared: Prepared, error: Exception) -> ModelError:
    status = error.status_code if isinstance(error, ProviderFailed) else LINE.status
    try:
        if isinstance(error, httpx.HTTPStatusError):
            response = error.response
            raise prepared.request.config.get_error_class(response.text, response.status_code, LINE.headers)
        raise error
    except Exception as raised:
        mapped = raised if isinstance(raised, httpx.HTTPError) else _in_litellms_classes(prepared, raised)
        return failures.translate(mapped, prepared.call.settings.model, status, LINE.headers)


def _in_litellms_classes(prepared: Prepared, error: Exception) -> Exception:
    """LiteLLM reads in the provider's words what a status alone does not say: too long, filtered, a wrong key."""
    from litellm import exception_type

    try:
        mapped: Exception = exception_type(prepared.name, error, prepared.provider)
    except Exception as raised:
        return raised
    return mapped


def _usage_so_far(prepared: Prepared, fold: Fold) -> Usage:
    """What a cut answer was billed: as far as the provider told, else estimated from what had come, and priced."""
    if not fold.begun:
        return Usage()
    call = prepared.call
    try:
        reply = litellm_calls.reply_of(call, _read(prepared, fold.body()))
    except Exception:  # it was cut where LiteLLM cannot read it
        reply = Reply(clean(fold.text()))
    counted = replace(
        reply.usage,
        input_tokens=reply.usage.input_tokens or tokens.of_input(call.messages, call.tools),
        output_tokens=max(
            reply.usage.output_tokens, litellm_calls.estimated_output(call, reply.text, reply.tool_requests)
        ),
    )
    return replace(counted, cost_usd=prices.cost_usd(call.settings.model, counted))
