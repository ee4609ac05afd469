"""What went wrong in a call through LiteLLM, in our words: from the wire's status first, LiteLLM's classes second.

LiteLLM picks its class by words in the provider's message (a 429 that says `invalid_request_error` becomes a
BadRequestError), so the HTTP status decides where there is one, and the class only refines a refusal.
"""
from __future__ import annotations

import datetime
import email.utils
import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import litellm.exceptions as theirs

from llm import errors, providers
from llm.masking import mask

log = logging.getLogger(__name__)

MESSAGE_MAX_CHARS = 300
LOOKED_AT_CHARS = 100_000  # of a text of which a few hundred are shown; the keys are taken out before it is cut
RETRY_AFTER_MAX_SECONDS = 3600.0  # of what asks for more; then the provider is asked again

ERROR_OF_STATUS: dict[int, type[errors.ModelError]] = {
    401: errors.AuthRefused,
    403: errors.AuthRefused,
    404: errors.UnknownModel,
    408: errors.ModelTimeout,
    425: errors.RateLimited,
    429: errors.RateLimited,
}
"""Other 4xx and 3xx are BadRequest, 5xx ServerFailed, and a 2xx that could not be read Malformed."""

ERROR_OF_CLASS: tuple[tuple[type[Exception], type[errors.ModelError]], ...] = (
    (theirs.ContextWindowExceededError, errors.ContextTooLong),
    (theirs.ContentPolicyViolationError, errors.ContentFiltered),
    (theirs.UnsupportedParamsError, errors.BadOptions),
    (theirs.AuthenticationError, errors.AuthRefused),
    (theirs.PermissionDeniedError, errors.AuthRefused),
    (theirs.NotFoundError, errors.UnknownModel),
    (theirs.RateLimitError, errors.RateLimited),
    (theirs.Timeout, errors.ModelTimeout),
    (theirs.InternalServerError, errors.ServerFailed),
    (theirs.ServiceUnavailableError, errors.ServerFailed),
    (theirs.BadGatewayError, errors.ServerFailed),
    (theirs.APIResponseValidationError, errors.Malformed),
    (theirs.BadRequestError, errors.BadRequest),
)
"""Without a status the first that fits; with a 4xx of refusal (400, 413, 422) only the first six count."""
_REFINING = ERROR_OF_CLASS[:6]

SENTENCES: dict[type[errors.ModelError], str] = {
    errors.AuthRefused: "{provider} refused the key{status}",
    errors.BadOptions: "{model} cannot be called with these options",
    errors.BadRequest: "{provider} refused the request{status}",
    errors.ConnectionFailed: "{provider} could not be reached",
    errors.ContentFiltered: "{provider} refused the content{status}",
    errors.ContextTooLong: "the conversation does not fit the context of {model}",
    errors.Malformed: "{provider} sent an answer that cannot be read{status}",
    errors.ModelTimeout: "{provider} did not answer in time{status}",
    errors.RateLimited: "{provider} limits the rate of calls{status}",
    errors.ServerFailed: "{provider} failed{status}",
    errors.UnknownModel: "model {model!r} does not exist{status}",
}

_TOO_LONG = re.compile(r"maximum context length is|exceeds the available context size")  # OpenRouter, llama.cpp


def translate(error: Exception, model: str, status: int | None, headers: Mapping[str, str]) -> errors.ModelError:
    """The ModelError for what LiteLLM raised; `status` and `headers` as seen on the wire, or None and empty."""
    chain = list(_chain(error))
    status = status if status is not None else _status(chain)
    kind = _kind(chain, status)
    return told(kind, model, status, _detail(chain, status), _retry_after(headers, chain))


def told(
    kind: type[errors.ModelError],
    model: str,
    status: int | None = None,
    detail: str = "",
    retry_after_seconds: float | None = None,
) -> errors.ModelError:
    """The error with the sentence that users read: who failed, the status, the provider's own words, masked."""
    shown = f" (HTTP {status})" if status else ""
    sentence = SENTENCES[kind].format(provider=providers.split(model)[0], model=model, status=shown)
    words = mask(" ".join(detail[:LOOKED_AT_CHARS].split()))
    words = words if len(words) <= MESSAGE_MAX_CHARS else words[: MESSAGE_MAX_CHARS - 1] + "…"
    return kind(f"{sentence}: {words}" if words else sentence, retry_after_seconds=retry_after_seconds)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _status(chain: list[BaseException]) -> int | None:
    """The status of a provider whose client is not ours, from the HTTP error underneath."""
    for link in chain:
        response = getattr(link, "response", None)
        if isinstance(link, httpx.HTTPStatusError) and isinstance(response, httpx.Response):
            return response.status_code
    return None


def _kind(chain: list[BaseException], status: int | None) -> type[errors.ModelError]:
    if status is None or status < 300:
        broken = _connection(chain)
        if broken:
            return broken
    if status is None:
        return _of_class(chain[0], ERROR_OF_CLASS) or errors.BadRequest
    if status < 300:
        return _told_in_the_body(chain) or errors.Malformed
    if status in (400, 413, 422):
        too_long = errors.ContextTooLong if _TOO_LONG.search(_detail(chain, status)) else None
        return _of_class(chain[0], _REFINING) or too_long or errors.BadRequest
    return _of_status(status)


def _of_status(status: int) -> type[errors.ModelError]:
    return ERROR_OF_STATUS.get(status) or (errors.ServerFailed if status >= 500 else errors.BadRequest)


def _connection(chain: list[BaseException]) -> type[errors.ModelError] | None:
    for link in chain:
        if isinstance(link, httpx.TimeoutException):
            return errors.ModelTimeout
        if isinstance(link, httpx.DecodingError):
            return errors.Malformed
        if isinstance(link, httpx.TransportError):
            return errors.ConnectionFailed
    return None


def _of_class(
    error: BaseException, table: tuple[tuple[type[Exception], type[errors.ModelError]], ...]
) -> type[errors.ModelError] | None:
    return next((ours for cls, ours in table if isinstance(error, cls)), None)


def _told_in_the_body(chain: list[BaseException]) -> type[errors.ModelError] | None:
    """OpenRouter reports errors of the provider behind it with status 200 and the code in the body."""
    for link in chain:
        if isinstance(link, theirs.ContextWindowExceededError):
            return errors.ContextTooLong
        code = getattr(link, "status_code", None) if _is_the_providers(link) else None
        if isinstance(code, int) and (code in ERROR_OF_STATUS or code >= 500):
            return _of_status(code)
    return None


def _is_the_providers(link: BaseException) -> bool:
    """Whether it stands for an error in the provider's answer: it has a status, and is none of LiteLLM's own."""
    return isinstance(getattr(link, "status_code", None), int) and not type(link).__module__.startswith("litellm.")


def _detail(chain: list[BaseException], status: int | None) -> str:
    """The provider's own words, or what the program noticed; never LiteLLM's text, which holds tracebacks."""
    for link in chain:
        if isinstance(link, httpx.HTTPStatusError):
            return _words_of_body(_body(link.response))
        if isinstance(link, httpx.TransportError | httpx.DecodingError):
            return _words_of_connection(link)
    if status is not None:
        if theirs_said := next((link for link in chain if _is_the_providers(link)), None):
            return str(getattr(theirs_said, "message", theirs_said))
        found = next((link for link in chain if isinstance(link, json.JSONDecodeError)), None)
        return f"not JSON but {_glimpse(found.doc)}" if found else "not what the protocol says"
    first = chain[0]
    if isinstance(first, theirs.UnsupportedParamsError):
        return str(first.message).partition(": ")[2].partition("To drop ")[0].rstrip()
    log.warning("model call failed before it was sent: %s", mask(str(first))[:2000])
    return f"it could not be sent ({type(chain[-1]).__name__})"


def _body(response: httpx.Response) -> str:
    try:
        return response.text
    except (httpx.HTTPError, httpx.StreamError):
        return ""


def _words_of_body(body: str) -> str:
    try:
        data: Any = json.loads(body)
    except ValueError:
        return _glimpse(body)
    if isinstance(data, list) and data:
        data = data[0]
    for key in ("error", "message", "detail"):
        if isinstance(data, dict) and key in data:
            data = data[key]
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)


def _glimpse(body: str) -> str:
    if "<html" in body[:1000].lower():
        return "an HTML page"
    return mask(body.strip()[:LOOKED_AT_CHARS])[:100] or "nothing"


def _words_of_connection(error: httpx.TransportError | httpx.DecodingError) -> str:
    """The address without a password, and the system's reason."""
    try:
        url = error.request.url
        where = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}, "
    except RuntimeError:
        where = ""
    return f"{where}{error}"


def _retry_after(headers: Mapping[str, str], chain: list[BaseException]) -> float | None:
    """Seconds asked for by `Retry-After` (RFC 9110 section 10.2.3): `7`, or a date, counted from now."""
    value = headers.get("retry-after")
    if value is None:
        found = next((link.response for link in chain if isinstance(link, httpx.HTTPStatusError)), None)
        value = found.headers.get("retry-after") if found is not None else None
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value)
    return min(seconds, RETRY_AFTER_MAX_SECONDS) if seconds >= 0 else None  # false for nan too


def _until(date: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(date)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        seconds = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), RETRY_AFTER_MAX_SECONDS)
