"""Every row of the table of errors on every provider's wire, asked plainly and streamed."""
from __future__ import annotations

import datetime
import email.utils
import socket

import pytest

from llm import errors
from llm.tests.calls import KEY, Impatient, call, refused
from llm.tests.openai_connection import Answer
from llm.tests.openai_server import drip, hang, raw
from llm.tests.wires import WIRES

BIG = raw(200, {"padding": "x" * 50_000_000})
HTML = raw(502, "<!doctype html><html><body>Bad gateway</body></html>", content_type="text/html")
BROKEN = Answer(headers={"Content-Type": "application/json"}, pieces=(b'{"id": "x", "choices"',), end="breaks")
TOO_LONG = {
    "openai": "This model's maximum context length is 8192 tokens.",
    "openrouter": "This endpoint's maximum context length is 8192 tokens.",
    "anthropic": "prompt is too long: 250000 tokens > 200000 maximum",
    "gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
}
"""As each provider words it."""

plain_and_streamed = pytest.mark.parametrize("heard", [None, []], ids=["plain", "streamed"])


@pytest.fixture(autouse=True)
def once(settings):
    settings.LLM_MAX_ATTEMPTS = 1


@plain_and_streamed
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, errors.BadRequest, "provider_error"),
        (401, errors.AuthRefused, "provider_auth"),
        (403, errors.AuthRefused, "provider_auth"),
        (404, errors.UnknownModel, "invalid_agent_config"),
        (413, errors.BadRequest, "provider_error"),
        (422, errors.BadRequest, "provider_error"),
        (429, errors.RateLimited, "rate_limited"),
        (500, errors.ServerFailed, "provider_error"),
        (503, errors.ServerFailed, "provider_error"),
        (529, errors.ServerFailed, "provider_error"),
    ],
)
def test_a_status_says_what_it_is(wire, answering, heard, status, kind, code):
    server = answering(wire.error(status, "so says the provider"))

    failure = refused(call(wire.model), heard=heard)

    assert (type(failure), failure.code) == (kind, code)
    assert f"HTTP {status}" in str(failure)
    assert "so says the provider" in str(failure)
    assert KEY not in str(failure)
    assert failure.usage.tokens == 0
    assert len(server.requests) == 1


@plain_and_streamed
def test_a_conversation_that_does_not_fit_says_so(wire, answering, heard):
    answering(wire.error(400, TOO_LONG[wire.provider]))

    assert refused(call(wire.model), heard=heard).code == "context_too_long"


@plain_and_streamed
def test_how_long_to_wait_is_read_in_seconds_and_as_a_date(wire, answering, settings, heard):
    settings.LLM_MAX_ATTEMPTS, settings.LLM_WAIT_SECONDS = 2, 100  # waited for by the thread, so that it is told
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    date = email.utils.format_datetime(then, usegmt=True)
    answering(wire.error(429, **{"Retry-After": "7"}), wire.error(503, **{"Retry-After": date}))
    seconds, dated = Impatient(), Impatient()

    refused(call(wire.model), seconds, heard)
    refused(call(wire.model), dated, heard)

    assert 7 <= seconds.waits[0][1] <= 7.7
    assert 40 < dated.waits[0][1] <= 66


@plain_and_streamed
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (HTML, errors.ServerFailed),
        (raw(200, "<html><body>Sign in</body></html>", content_type="text/html"), errors.Malformed),
        (raw(200, '{"id": "x", "choi'), errors.Malformed),
        (raw(200, "[1, 2]"), errors.Malformed),
        (raw(200, ""), errors.Malformed),
        (raw(200, {"choices": [], "candidates": [], "content": None}), errors.Malformed),
        (BIG, errors.Malformed),
        (hang(), errors.ModelTimeout),
        (drip(raw(200, {"late": True})), errors.ModelTimeout),
        (drip(raw(200, {"late": True}), start="headers"), errors.ModelTimeout),
        (BROKEN, errors.Malformed),
    ],
    ids=["502 html", "200 html", "cut json", "a list", "nothing", "no choices", "50 MB", "hang", "drip", "drip headers",
         "truncated"],
)  # fmt: skip
def test_what_cannot_be_read_may_be_tried_again(wire, answering, heard, answer, kind):
    server = answering(answer)

    failure = refused(call(wire.model, call_timeout_seconds=1.0 if kind is errors.ModelTimeout else None), heard=heard)

    assert type(failure) is kind
    assert not failure.permanent
    assert "Traceback" not in str(failure)
    assert len(server.requests) == 1


def test_a_closed_port_could_not_be_reached(wire, point):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    point(wire.provider, f"http://127.0.0.1:{port}")

    failure = refused(call(wire.model))

    assert type(failure) is errors.ConnectionFailed
    assert f"127.0.0.1:{port}" in str(failure)


@plain_and_streamed
def test_a_redirect_is_not_followed(wire, answering, heard):
    server = answering(wire.error(307, "elsewhere", Location="http://127.0.0.1:9/v1/chat/completions"))

    failure = refused(call(wire.model), heard=heard)

    assert type(failure) is errors.BadRequest
    assert len(server.requests) == 1


@plain_and_streamed
def test_an_error_that_comes_with_200_is_what_it_says(wire, answering, heard):
    """OpenRouter so reports errors of the provider behind it."""
    answering(raw(200, wire.failing(429, "slow down")))

    failure = refused(call(wire.model), heard=heard)

    assert type(failure) is errors.RateLimited
    assert "slow down" in str(failure)


@pytest.mark.parametrize("provider", WIRES)
def test_without_a_key_nothing_is_sent_and_the_variable_is_named(point, provider):
    wire = WIRES[provider]
    with wire.server([wire.plain("never")]) as server:
        failure = refused(call(wire.model, api_base=server.base_url))

    assert failure.code == "provider_auth"
    assert f"{provider.upper()}_API_KEY" in str(failure)
    assert server.requests == []
