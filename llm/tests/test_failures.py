"""What a provider's failures become: how often it was asked, the error code, and what the message says and hides."""
from __future__ import annotations

import datetime
import email.utils
import re
import socket
import time

import pytest

from llm import errors, masking
from llm.errors import Later, ModelError
from llm.tests.calls import KEY, Impatient, Watcher, ask, call
from llm.tests.openai_server import error, hang, raw, text

MODEL = "openai/gpt-4o-mini"
SOON = "0.02"
CUT_KEY = "zq7-" + "0123456789abc" * 3  # looks like none: it is known


def refused(asked, watcher=None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(asked, watcher)
    return caught.value


def test_two_rate_limits_then_success_are_exactly_three_requests(serve):
    server = serve(error(429, retry_after=SOON), error(429, retry_after=SOON), text("ok"))
    watcher = Watcher()

    reply = ask(call(MODEL), watcher)

    assert reply.text == "ok"
    assert len(server.requests) == 3
    assert [attempt.error is None for attempt in reply.attempts] == [False, False, True]
    assert "rate" in reply.attempts[0].error
    assert [told for told, _ in watcher.waits] == list(reply.attempts[:2])


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, errors.BadRequest, "provider_error"),
        (401, errors.AuthRefused, "provider_auth"),
        (403, errors.AuthRefused, "provider_auth"),
        (404, errors.UnknownModel, "invalid_agent_config"),
        (422, errors.BadRequest, "provider_error"),
        (302, errors.BadRequest, "provider_error"),
    ],
)
def test_what_cannot_pass_is_asked_exactly_once(serve, status, kind, code):
    server = serve(error(status, "no such thing, says the provider"))

    failure = refused(call(MODEL))

    assert (type(failure), failure.code) == (kind, code)
    assert f"HTTP {status}" in str(failure)
    assert "no such thing, says the provider" in str(failure)
    assert len(server.requests) == len(failure.attempts) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (error(429, retry_after=SOON), errors.RateLimited, "rate_limited"),
        (error(500, retry_after=SOON), errors.ServerFailed, "provider_error"),
        (error(503, retry_after=SOON), errors.ServerFailed, "provider_error"),
        (error(529, retry_after=SOON), errors.ServerFailed, "provider_error"),
        (raw(502, "<html><body>Bad gateway</body></html>", headers={"Retry-After": SOON}, content_type="text/html"),
         errors.ServerFailed, "provider_error"),
    ],
)
def test_what_may_pass_is_asked_three_times(serve, answer, kind, code):
    server = serve(answer)

    failure = refused(call(MODEL))

    assert (type(failure), failure.code) == (kind, code)
    assert len(server.requests) == len(failure.attempts) == 3


@pytest.mark.parametrize(
    "answer",
    [
        raw(200, "<!doctype html><html><body>Sign in</body></html>", content_type="text/html"),
        raw(200, '{"id": "x", "choi'),
        raw(200, {"id": "x", "choices": []}),
        raw(200, "[1, 2]"),
        raw(200, ""),
        raw(200, {"id": "x", "choices": [{"index": 0}]}),
    ],
    ids=["html", "cut short", "no choices", "a list", "nothing", "no message"],
)
def test_an_answer_that_cannot_be_read_is_malformed_after_three(serve, settings, answer):
    settings.LLM_MAX_ATTEMPTS = 2
    server = serve(answer)

    failure = refused(call(MODEL))

    assert (type(failure), failure.code) == (errors.Malformed, "provider_error")
    assert len(server.requests) == 2
    assert "Traceback" not in str(failure)


def test_a_conversation_that_does_not_fit_says_so(serve):
    serve(error(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"))

    assert refused(call(MODEL)).code == "context_too_long"


def test_a_refused_content_says_so(serve):
    serve(error(400, "Your request was rejected as a result of the safety system.", code="content_policy_violation"))

    assert refused(call(MODEL)).code == "content_filtered"


def test_retry_after_in_seconds_is_waited_for(serve):
    server = serve(error(429, retry_after="0.9"), text("ok"))
    watcher, started = Watcher(), time.monotonic()

    ask(call(MODEL), watcher)

    assert 0.9 <= watcher.waits[0][1] <= 1.0
    assert time.monotonic() - started >= 0.9
    assert len(server.requests) == 2


def test_retry_after_as_a_date_is_waited_for(serve):
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    serve(error(503, retry_after=email.utils.format_datetime(then, usegmt=True)), text("ok"))
    watcher = Impatient()

    refused(call(MODEL), watcher)

    assert 1.0 < watcher.waits[0][1] <= 3.3


def test_a_wait_past_the_time_left_is_not_waited_for(serve):
    server = serve(error(429, retry_after="3"))
    started = time.monotonic()

    failure = refused(call(MODEL, seconds_left=2.0))

    assert failure.code == "rate_limited"
    assert len(server.requests) == 1
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("60", 60, 66.1), ("1e300", 3600, 3960.1), ("inf", 3600, 3960.1), ("999999999999999999999", 3600, 3960.1),
        ("in 40 s", 40, 46), ("in 10 days", 3600, 3960.1), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600, 3960.1),
    ],
)  # fmt: skip
def test_a_long_retry_after_is_told_instead_of_slept_and_never_longer_than_an_hour(serve, asked, least, most):
    if asked.startswith("in "):
        then = datetime.timedelta(seconds=40) if asked == "in 40 s" else datetime.timedelta(days=10)
        asked, least = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + then, usegmt=True), least - 3
    server = serve(error(429, retry_after=asked))
    watcher = Watcher()

    with pytest.raises(Later) as caught:
        ask(call(MODEL), watcher)

    later = caught.value
    assert least <= later.seconds <= most
    assert "limits the rate" in str(later)
    assert [(made.model, made.wait_seconds) for made in later.attempts] == [(MODEL, later.seconds)]
    assert (len(server.requests), watcher.waits) == (1, [])


@pytest.mark.parametrize("asked", ["nan", "-5", "soon", "", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "99/99/9999"])
def test_a_retry_after_that_says_nothing_leaves_the_usual_wait(serve, asked):
    serve(error(503, retry_after=asked), text("ok"))
    watcher = Watcher()

    ask(call(MODEL), watcher)

    assert 0.5 <= watcher.waits[0][1] <= 0.75


def test_without_retry_after_the_waits_grow(serve):
    serve(error(500))
    watcher = Watcher()

    refused(call(MODEL), watcher)

    first, second = (wait for _, wait in watcher.waits)
    assert 0.5 <= first <= 0.75
    assert 1.0 <= second <= 1.25


def test_a_wait_ends_when_the_task_is_to_stop(serve):
    server = serve(error(429, retry_after="4.5"))
    started = time.monotonic()

    failure = refused(call(MODEL), Impatient())

    assert type(failure) is errors.Abandoned
    assert "limits the rate" in str(failure)
    assert time.monotonic() - started < 4
    assert len(server.requests) == 1


def test_a_server_that_never_answers_is_a_timeout_within_bounds(serve, settings):
    settings.LLM_MAX_ATTEMPTS = 2
    server = serve(hang())
    ask_once = call(MODEL, call_timeout_seconds=0.3)
    started = time.monotonic()

    failure = refused(ask_once)

    assert type(failure) is errors.ModelTimeout
    assert len(server.requests) == 2
    assert time.monotonic() - started < 4


def test_an_attempt_takes_no_longer_than_the_time_left(serve):
    server = serve(hang())
    started = time.monotonic()

    failure = refused(call(MODEL, seconds_left=0.4))

    assert type(failure) is errors.ModelTimeout
    assert len(server.requests) == 1
    assert time.monotonic() - started < 2


def test_no_attempt_starts_when_no_time_is_left(serve):
    server = serve(text("ok"))

    failure = refused(call(MODEL, seconds_left=0.0))

    assert type(failure) is errors.ModelTimeout
    assert failure.attempts == ()
    assert server.requests == []


def test_an_answer_that_drips_ends_at_the_deadline(point, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        point("openai", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        drip = _drip(listener)
        started = time.monotonic()

        failure = refused(call(MODEL, call_timeout_seconds=0.5))

        took = time.monotonic() - started
        listener.close()
        drip.join(5)
    assert type(failure) is errors.ModelTimeout
    assert took < 2


def _drip(listener):
    """A server whose body comes byte by byte, each well within any read timeout."""
    import contextlib
    import threading

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
                while True:
                    connection.sendall(b" ")
                    time.sleep(0.05)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_a_closed_port_is_a_failed_connection_that_names_the_address(point, settings):
    settings.LLM_MAX_ATTEMPTS = 2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    point("openai", f"http://user:hunter2hunter2@127.0.0.1:{port}/v1")

    failure = refused(call(MODEL))

    assert (type(failure), failure.code) == (errors.ConnectionFailed, "provider_error")
    assert f"127.0.0.1:{port}" in str(failure)
    assert "hunter2" not in str(failure)
    assert len(failure.attempts) == 2


def test_a_missing_key_names_the_variable_before_any_call(serve, settings):
    server = serve(text("ok"))
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": ""}

    failure = refused(call(MODEL))

    assert (type(failure), failure.code) == (errors.MissingKey, "provider_auth")
    assert "OPENAI_API_KEY" in str(failure)
    assert (server.requests, failure.attempts) == ([], ())


def test_a_missing_key_of_another_provider_names_its_variable(monkeypatch):
    monkeypatch.delenv("GROQ_API_KEY", raising=False)

    failure = refused(call("groq/llama-3.3-70b-versatile"))

    assert failure.code == "provider_auth"
    assert "GROQ_API_KEY" in str(failure)


@pytest.mark.parametrize("model", ["non_existent_provider/gpt-4o", "non_existent_provider/"])
def test_a_provider_that_does_not_exist_is_named(model):
    failure = refused(call(model))

    assert (type(failure), failure.code) == (errors.UnknownModel, "invalid_agent_config")
    assert "non_existent_provider" in str(failure)
    assert failure.attempts == ()


def test_a_key_in_a_providers_own_words_is_masked(serve):
    serve(error(401, f"Incorrect API key provided: {KEY}. Also sk-other-0123456789abcdef and Bearer abcdef"))

    failure = refused(call(MODEL))

    shown = str(failure) + repr(failure.attempts)
    assert not re.search("canary|0123456789|abcdef", shown)
    assert "Incorrect API key provided: ***" in shown


def test_a_long_message_of_a_provider_is_cut(serve):
    serve(error(400, "x" * 5000))

    assert len(str(refused(call(MODEL)))) < 400


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"api_key": "x"}, "api_key"),
        ({"api_base": "http://evil.test"}, "api_base"),
        ({"base_url": "http://evil.test"}, "base_url"),
        ({"aws_sts_endpoint": "http://evil.test"}, "aws_sts_endpoint"),
        ({"mock_response": "hello"}, "mock_response"),
        ({"num_retries": 5}, "num_retries"),
        ({"temperature": 1}, "temperature"),
        ({"extra_headers": {"Authorization": "x"}}, "Authorization"),
        ({"maxOutputTokens": 9}, "maxOutputTokens"),
        ({"models": ["openai/o1-pro"]}, "models"),
        ({"generationConfig": {"candidateCount": 4}}, "generationConfig.candidateCount"),
        ({"extra_body": [1]}, "extra_body"),
        ({"extra_body": {"generationConfig": 1}}, "extra_body.generationConfig"),
        ({"extra_body": {"generationConfig": {"maxOutputTokens": 9}}}, "extra_body.generationConfig.maxOutputTokens"),
        ({"extra_body": {"generation_config": {"candidate_count": 9}}}, "extra_body.generation_config.candidate_count"),
    ],
)
def test_options_that_would_move_the_library_are_refused_before_any_call(serve, options, named):
    server = serve(text("ok"))

    failure = refused(call(MODEL, provider_options=options))

    assert (type(failure), failure.code) == (errors.BadOptions, "invalid_agent_config")
    assert named in str(failure)
    assert server.requests == []


IN_A_BODY = """
    model models n best_of messages contents system system_instruction systemInstruction input stream
    stream_options tools tool_choice toolConfig functions function_call mcp_servers plugins max_tokens
    max_completion_tokens max_output_tokens maxOutputTokens candidateCount web_search_options temperature
    top_p seed stop stopSequences timeout base_url api_key extra_headers mock_response num_retries fallbacks
"""


@pytest.mark.parametrize("name", IN_A_BODY.split())
@pytest.mark.parametrize("model", [MODEL, "azure/any"])
def test_what_is_merged_into_a_request_cannot_say_what_it_is_or_what_it_may_bill(serve, model, name):
    """Both ways of sending: by a dialect of ours, and by LiteLLM's own transport."""
    server = serve(text("ok"))

    failure = refused(call(model, provider_options={"extra_body": {name: 1}}, api_base=server.base_url))

    assert (type(failure), failure.code) == (errors.BadOptions, "invalid_agent_config")
    assert f"provider_options.extra_body.{name}:" in str(failure)
    assert server.requests == []


@pytest.mark.parametrize("name", ["response_format", "presence_penalty"])
def test_what_is_merged_into_a_request_replaces_nothing_in_it(serve, name):
    server = serve(text("ok"))
    options = {"presence_penalty": 0.5, "response_format": {"type": "text"}}

    failure = refused(call(MODEL, provider_options={**options, "extra_body": {name: options[name]}}))

    assert f"provider_options.extra_body.{name}:" in str(failure)
    assert server.requests == []


def test_what_a_provider_alone_knows_may_be_merged_into_a_request(serve):
    server = serve(text("ok"))

    ask(call(MODEL, provider_options={"extra_body": {"service_tier": "flex", "min_p": 0.1}}))

    assert (server.requests[0].body["service_tier"], server.requests[0].body["min_p"]) == ("flex", 0.1)


def test_a_setting_that_a_provider_does_not_take_is_told_not_dropped(point):
    point("anthropic", "http://127.0.0.1:9")

    failure = refused(call("anthropic/claude-sonnet-4-6", seed=3))

    assert (type(failure), failure.code) == (errors.BadOptions, "invalid_agent_config")
    assert "seed" in str(failure)


@pytest.mark.parametrize("before", range(55, 101, 5))
@pytest.mark.parametrize("status", [200, 400, 502])
def test_a_key_in_a_page_that_is_cut_is_masked_before_it_is_cut(serve, settings, status, before):
    settings.LLM_MAX_ATTEMPTS = 1
    masking.remember(CUT_KEY)
    serve(raw(status, "x" * before + f" {CUT_KEY} and more", content_type="text/plain"))

    shown = str(refused(call(MODEL)))

    assert CUT_KEY[:5] not in shown


@pytest.mark.parametrize("before", range(255, 301, 5))
def test_a_key_in_a_long_message_is_masked_before_it_is_cut(serve, before):
    masking.remember(CUT_KEY)
    serve(error(400, "x" * before + f" {CUT_KEY} and more"))

    assert CUT_KEY[:5] not in str(refused(call(MODEL)))
