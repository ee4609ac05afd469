"""One call over its models: which failures go on to the next one, what is kept of each, and what is put off."""
from __future__ import annotations

import json
import socket

import pytest

from llm import errors
from llm.errors import Later, ModelError
from llm.messages import Attempt, ModelSettings
from llm.tests.calls import KEY, Impatient, Watcher, ask, call, scripted
from llm.tests.openai_server import OpenAIServer, error, raw, text
from llm.tests.redis_server import forget

FIRST, SECOND, THIRD = "openai/gpt-4o-mini", "hosted_vllm/other", "scripted/echo"
ECHO = (ModelSettings(THIRD),)
SOON = "0.01"


@pytest.fixture(autouse=True)
def _nothing_is_counted_yet(settings):
    settings.LLM_MAX_ATTEMPTS = 2
    forget()


def refused(asked, watcher=None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(asked, watcher)
    return caught.value


def put_off(asked, watcher=None) -> Later:
    with pytest.raises(Later) as caught:
        ask(asked, watcher)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (error(429, retry_after=SOON), 2),
        (error(500, retry_after=SOON), 2),
        (raw(200, "not json"), 2),
        (raw(502, "<html>", content_type="text/html", headers={"Retry-After": SOON}), 2),
        (error(401), 1),
        (error(403), 1),
        (error(404), 1),
        (error(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"), 1),
        (error(429, retry_after="300"), 1),
    ],
    ids=["429", "500", "malformed", "html 502", "401", "403", "404", "context", "429 for long"],
)
def test_the_next_model_is_asked_when_this_one_is_used_up_or_refuses_for_its_own_reasons(serve, answer, requests):
    server, watcher = serve(answer), Watcher()

    reply = ask(call(FIRST, fallbacks=ECHO), watcher)

    assert (reply.text, reply.model) == ("What is 5 and 3?", THIRD)
    assert len(server.requests) == requests
    assert [made.model for made in reply.attempts] == [FIRST] * requests + [THIRD]
    assert [bool(made.error) for made in reply.attempts] == [True] * requests + [False]
    assert [made.wait_seconds for made in reply.attempts[-2:]] == [0.0, None]
    assert watcher.waits[-1] == (reply.attempts[-2], 0.0)


@pytest.mark.parametrize(
    "answer",
    [error(400, "no such parameter"), error(422), error(400, "safety system", code="content_policy_violation")],
    ids=["400", "422", "content"],
)
def test_a_request_that_is_wrong_anywhere_is_final(serve, answer):
    server = serve(answer)

    failure = refused(call(FIRST, fallbacks=ECHO))

    assert not failure.elsewhere
    assert [made.model for made in failure.attempts] == [FIRST]
    assert len(server.requests) == 1


def test_a_missing_key_is_kept_as_the_reason_for_the_next_model(serve, settings):
    serve(text("never asked"))
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": ""}

    reply = ask(call(FIRST, fallbacks=ECHO))

    skipped, made = reply.attempts
    assert (skipped.model, skipped.skipped, skipped.seconds) == (FIRST, 1, 0.0)
    assert "OPENAI_API_KEY" in (skipped.error or "")
    assert (made.model, made.skipped, made.error) == (THIRD, 0, None)


def test_a_model_that_does_not_exist_and_options_that_a_fallback_does_not_take_are_passed_over(point):
    point("anthropic", "http://127.0.0.1:9")
    fallbacks = (ModelSettings("anthropic/claude-sonnet-4-6", seed=3), *ECHO)

    reply = ask(call("nowhere/x", fallbacks=fallbacks))

    assert reply.model == THIRD
    assert [made.skipped for made in reply.attempts] == [1, 1, 0]
    assert "nowhere" in (reply.attempts[0].error or "")
    assert "seed" in (reply.attempts[1].error or "")


def test_when_no_model_answers_the_first_ones_failure_is_told_with_the_others(serve):
    serve(error(429, retry_after=SOON))
    with OpenAIServer([error(500, retry_after=SOON)]) as other:
        failure = refused(call(FIRST, fallbacks=(ModelSettings(SECOND, api_base=other.base_url),)))

    assert (type(failure), failure.code) == (errors.RateLimited, "rate_limited")
    assert f"{FIRST}: openai limits the rate" in str(failure)
    assert f"{SECOND}: hosted_vllm failed (HTTP 500)" in str(failure)
    assert [made.model for made in failure.attempts] == [FIRST, FIRST, SECOND, SECOND]


def test_the_first_models_key_does_not_reach_the_next_ones_server(serve):
    serve(error(500, retry_after=SOON))
    with OpenAIServer([text("ok")]) as other:
        ask(call(FIRST, fallbacks=(ModelSettings(SECOND, api_base=other.base_url),)))

        assert KEY not in json.dumps(other.requests[0].headers)


def test_an_attempt_that_was_made_before_the_call_was_put_off_counts(serve):
    server = serve(error(500, retry_after=SOON))
    before = Attempt("2030-01-01T00:00:00.000Z", 0.1, "rate limited", FIRST, 60.0)

    failure = refused(call(FIRST, earlier=(before,)))

    assert len(server.requests) == 1
    assert failure.attempts[0] == before
    assert len(failure.attempts) == 2


def test_a_model_that_is_used_up_is_not_asked_again_when_the_call_goes_on(serve):
    server = serve(error(500, retry_after=SOON))
    before = tuple(Attempt("2030-01-01T00:00:00.000Z", 0.1, "failed", FIRST, 0.0) for _ in range(2))

    reply = ask(call(FIRST, fallbacks=ECHO, earlier=before))

    assert (reply.model, server.requests) == (THIRD, [])


def test_with_every_attempt_used_up_there_is_one_more_and_not_none(serve):
    server = serve(text("ok"))
    before = tuple(Attempt("2030-01-01T00:00:00.000Z", 0.1, "failed", FIRST, 9.0) for _ in range(7))

    assert ask(call(FIRST, earlier=before)).text == "ok"
    assert len(server.requests) == 1


def test_a_long_wait_for_the_first_model_is_worth_it_when_the_others_failed(serve, settings):
    serve(error(429, retry_after="300"))

    later = put_off(call(FIRST, fallbacks=(ModelSettings("openrouter/x"),)))

    assert 300 <= later.seconds <= 330
    assert later.model == FIRST
    limited, keyless = later.attempts
    assert (limited.model, limited.skipped, keyless.skipped) == (FIRST, 0, 1)
    assert "OPENROUTER_API_KEY" in (keyless.error or "")
    assert keyless.wait_seconds == later.seconds


def test_what_the_failed_attempts_were_billed_is_told_when_the_call_is_put_off(serve, settings):
    settings.LLM_MAX_ATTEMPTS = 3
    billed = {"id": "x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    serve(raw(200, billed, headers={"Retry-After": "0.01"}), error(429, retry_after="90"))

    later = put_off(call(FIRST))

    assert (later.usage.input_tokens, later.usage.output_tokens) == (5, 2)


def test_a_script_goes_on_with_its_next_entry_when_it_was_put_off():
    before = Attempt("2030-01-01T00:00:00.000Z", 0.1, "told to fail", "scripted/list", 60.0)

    reply = ask(scripted({"error": "rate_limited"}, {"text": "second"}, earlier=(before,)))

    assert reply.text == "second"


def test_models_that_were_passed_over_are_no_entries_of_a_script(serve, settings):
    serve(text("never asked"))
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": ""}
    script = ModelSettings("scripted/list", provider_options={"script": [{"text": "first"}, {"text": "second"}]})

    assert ask(call(FIRST, fallbacks=(script,))).text == "first"


def test_a_task_that_is_to_stop_asks_no_other_model(serve):
    serve(error(500))

    failure = refused(call(FIRST, fallbacks=ECHO), Impatient())

    assert type(failure) is errors.Abandoned
    assert [made.model for made in failure.attempts] == [FIRST]


def test_no_other_model_is_asked_when_the_time_is_over(point):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point("openai", f"http://127.0.0.1:{silent.getsockname()[1]}/v1")

        failure = refused(call(FIRST, fallbacks=ECHO, seconds_left=0.3))

    assert type(failure) is errors.ModelTimeout
    assert [made.model for made in failure.attempts] == [FIRST]
