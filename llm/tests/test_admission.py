"""Circuits and limits, counted in Redis for every process; and calls that are made all the same when it is away."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings as site

from llm import admission, providers
from llm.admission import Refused, Ticket, enter, leave
from llm.errors import Abandoned, AuthRefused, BadRequest, Later, ModelTimeout, ServerFailed
from llm.messages import ModelSettings
from llm.shared import WAIT_SECONDS, Shared
from llm.tests.calls import Watcher, ask, call
from llm.tests.openai_server import OpenAIServer, error, hang, text
from llm.tests.redis_server import OwnRedis, forget

MODEL = "openai/gpt-4o-mini"
LIMITED = "scripted/echo"
FAILED, REFUSED = ServerFailed(), AuthRefused()


@pytest.fixture(autouse=True)
def _nothing_is_counted_yet(settings):
    settings.LLM_CIRCUIT_FAILURES, settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 3, 30
    settings.LLM_LIMITS = {}
    forget()


def admitted(model: str = MODEL, address: str = "", tokens: int = 0, seconds: float = 60) -> Ticket:
    ticket = enter(model, address, tokens, seconds)
    assert isinstance(ticket, Ticket)
    return ticket


def turned_away(model: str = MODEL, address: str = "", tokens: int = 0) -> Refused:
    said = enter(model, address, tokens, 60)
    assert isinstance(said, Refused)
    return said


def fail(times: int, model: str = MODEL, address: str = "") -> None:
    for _ in range(times):
        leave(admitted(model, address), FAILED, 0)


def soon(condition: Any) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("not within 10 s")


def test_a_model_that_failed_so_often_in_a_row_is_left_alone_for_its_cool_down():
    fail(2)
    fail(1)

    said = turned_away()

    assert said.known
    assert 28 < said.seconds <= 30 * 1.25 * 1.25
    assert MODEL in said.reason


def test_one_failure_less_or_an_answer_in_between_keeps_the_circuit_closed():
    fail(2)
    leave(admitted(), None, 0)
    fail(2)
    leave(admitted(), REFUSED, 0)  # an answer as well: the provider is there
    fail(2)

    admitted()


def test_an_attempt_that_was_given_up_says_nothing():
    fail(2)
    leave(admitted(), Abandoned(), 0)
    fail(1)

    turned_away()


def test_failures_that_are_far_apart_do_not_add_up(settings):
    settings.LLM_CIRCUIT_WINDOW_SECONDS = 0.05
    fail(2)
    time.sleep(0.1)
    fail(2)

    admitted()


@pytest.mark.parametrize(
    ("model", "address"), [("openai/gpt-4o", ""), (MODEL, "http://elsewhere.test/v1"), ("anthropic/gpt-4o-mini", "")]
)
def test_another_model_and_the_same_one_at_another_address_have_circuits_of_their_own(model, address):
    fail(3)

    admitted(model, address)


def test_the_scripted_model_has_no_circuit_and_neither_has_any_when_it_is_turned_off(settings):
    assert enter(LIMITED, "", 0, 60) is None
    settings.LLM_CIRCUIT_FAILURES = 0
    assert enter(MODEL, "", 0, 60) is None


def test_after_the_cool_down_one_call_tries_and_its_answer_lets_all_others_in(settings):
    settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 0.1
    fail(3)
    trial = soon(lambda: (said := enter(MODEL, "", 0, 60)) and isinstance(said, Ticket) and said)

    assert trial.trial
    assert not turned_away().known  # the others while it tries
    leave(trial, None, 0)
    assert not admitted().trial


def test_a_failed_trial_doubles_the_cool_down(settings):
    settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 0.1
    fail(3)
    trial = soon(lambda: (said := enter(MODEL, "", 0, 60)) and isinstance(said, Ticket) and said)
    settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 100

    leave(trial, FAILED, 0)

    assert 190 < turned_away().seconds <= 200 * 1.25 * 1.25


def test_a_trial_that_was_given_up_leaves_the_next_one_to_another_call(settings):
    settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 0.1
    fail(3)
    trial = soon(lambda: (said := enter(MODEL, "", 0, 60)) and isinstance(said, Ticket) and said)

    leave(trial, Abandoned(), 0)

    assert admitted().trial


def test_an_attempt_from_before_the_circuit_opened_does_not_make_it_longer():
    late = admitted()
    fail(3)
    before = turned_away().seconds / 1.25

    leave(late, FAILED, 0)

    assert turned_away().seconds <= before * 1.25 * 1.25


def test_no_more_calls_run_at_once_than_the_limit_and_a_slot_that_is_given_back_is_free(settings):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 2}}
    first, _ = admitted(LIMITED), admitted(LIMITED)

    said = turned_away(LIMITED)

    assert (said.known, "scripted is at its limit of 2 calls at once" in said.reason) == (False, True)
    leave(first, FAILED, 0)
    admitted(LIMITED)
    turned_away(LIMITED)


def test_a_slot_whose_worker_died_is_free_again_when_its_lease_ends(settings, monkeypatch):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 1}}
    monkeypatch.setattr(admission, "LEASE_GRACE_SECONDS", 0.1)
    admitted(LIMITED, seconds=0.1)

    turned_away(LIMITED)

    soon(lambda: isinstance(enter(LIMITED, "", 0, 0.1), Ticket))


def test_a_limit_of_requests_tells_when_the_next_one_may_come(settings):
    settings.LLM_LIMITS = {"scripted": {"requests_per_minute": 3}}
    for _ in range(3):
        leave(admitted(LIMITED), None, 0)

    said = turned_away(LIMITED)

    assert 58 < said.seconds <= 61 * 1.25
    assert "3 requests a minute" in said.reason


def test_tokens_are_booked_before_the_call_and_corrected_after_it(settings):
    settings.LLM_LIMITS = {"scripted": {"tokens_per_minute": 1000}}
    leave(admitted(LIMITED, tokens=900), None, 100)
    second = admitted(LIMITED, tokens=900)  # 100 of the first, 900 of this one

    assert "1000 tokens a minute" in turned_away(LIMITED, tokens=1).reason
    leave(second, FAILED, 0)
    admitted(LIMITED, tokens=900)


def test_a_call_larger_than_the_limit_is_made_alone_instead_of_never(settings):
    settings.LLM_LIMITS = {"scripted": {"tokens_per_minute": 1000}}
    admitted(LIMITED, tokens=50_000)

    turned_away(LIMITED, tokens=1)


def test_the_limits_of_a_provider_and_of_one_of_its_models_hold_together(settings):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 2}, LIMITED: {"concurrency": 1}}
    admitted(LIMITED)

    assert f"{LIMITED} is at its limit of 1" in turned_away(LIMITED).reason
    admitted("scripted/list")
    assert "scripted is at its limit of 2" in turned_away("scripted/list").reason


def test_two_hundred_at_once_get_exactly_as_many_places_as_there_are(settings):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 7, "requests_per_minute": 50}}
    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda _: enter(LIMITED, "", 0, 60), range(200)))

    assert sum(isinstance(one, Ticket) for one in said) == 7


OTHER_PROCESS = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "opspawn_site.settings"
from llm.admission import Ticket, enter
print("ready", flush=True)
sys.stdin.readline()
print(sum(isinstance(enter("scripted/echo", "", 0, 60), Ticket) for _ in range(50)))
"""


def test_two_processes_share_one_limit(settings):
    environment = {"LLM_LIMITS": '{"scripted": {"requests_per_minute": 60}}', "REDIS_URL": site.REDIS_URL}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=site.BASE_DIR, env=os.environ | environment,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both at once
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [int(process.communicate(timeout=30)[0]) for process in processes]

    assert sum(counts) == 60
    assert min(counts) >= 10


def test_a_short_wait_for_a_place_is_sat_out(settings):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 1}}
    held = admitted(LIMITED)
    free = threading.Timer(0.6, leave, (held, None, 0))
    free.start()

    reply = ask(call(LIMITED))

    assert (reply.text, len(reply.attempts)) == ("What is 5 and 3?", 1)
    free.join()


def test_a_long_wait_for_a_place_puts_the_call_off_and_longer_each_time(settings):
    settings.LLM_LIMITS, settings.LLM_WAIT_SECONDS = {"scripted": {"concurrency": 1}}, 0.1
    admitted(LIMITED)
    with pytest.raises(Later) as first:
        ask(call(LIMITED))
    with pytest.raises(Later) as second:
        ask(call(LIMITED, earlier=first.value.attempts))

    assert 5 <= first.value.seconds <= 6.25 < 10 <= second.value.seconds <= 12.5
    assert [(made.skipped, made.wait_seconds) for made in second.value.attempts] == [(2, second.value.seconds)]
    assert "at its limit of 1 calls at once" in str(second.value)


def test_a_wait_for_a_place_ends_when_the_task_is_to_stop(settings):
    settings.LLM_LIMITS = {"scripted": {"concurrency": 1}}
    admitted(LIMITED)
    with pytest.raises(Abandoned):
        ask(call(LIMITED), Watcher(stop=True))


def test_a_call_gives_its_place_back_however_it_ends(serve, settings):
    settings.LLM_LIMITS = {"openai": {"concurrency": 1}}
    settings.LLM_MAX_ATTEMPTS = 2
    serve(error(500, retry_after="0.01"), error(400), text("ok"))

    with pytest.raises(BadRequest):  # after a 500
        ask(call(MODEL))

    assert ask(call(MODEL)).text == "ok"


def test_an_open_circuit_sends_nothing_and_is_told_with_its_time(serve, settings):
    settings.LLM_CIRCUIT_FAILURES = 2
    server = serve(error(500, retry_after="0.01"))

    with pytest.raises(Later) as caught:
        ask(call(MODEL))

    assert len(server.requests) == 2  # the third attempt found it open
    assert [made.skipped for made in caught.value.attempts] == [0, 0]
    with pytest.raises(Later) as again:
        ask(call(MODEL))
    assert len(server.requests) == 2
    assert 20 < again.value.seconds < 50
    assert [made.skipped for made in again.value.attempts] == [1]


def test_an_open_circuit_lets_the_fallback_answer_at_once(serve, settings):
    settings.LLM_CIRCUIT_FAILURES = 2
    server = serve(error(500, retry_after="0.01"))
    fallbacks = (ModelSettings("scripted/echo"),)

    ask(call(MODEL, fallbacks=fallbacks))
    reply = ask(call(MODEL, fallbacks=fallbacks))

    assert reply.model == "scripted/echo"
    assert len(server.requests) == 2
    assert [made.skipped for made in reply.attempts] == [1, 0]


def test_without_redis_every_call_is_made(serve, settings, monkeypatch):
    settings.LLM_LIMITS, settings.LLM_CIRCUIT_FAILURES = {"openai": {"concurrency": 1}}, 1
    with OwnRedis() as own:
        monkeypatch.setattr(admission, "SHARED", Shared(own.url))
        serve(text("ok"))
        admitted(address=providers.base_of("openai"))
        turned_away(address=providers.base_of("openai"))
        own.kill()

        assert [ask(call(MODEL)).text for _ in range(3)] == ["ok"] * 3


def test_a_redis_that_hangs_costs_one_call_a_moment_and_the_others_nothing(serve, settings, monkeypatch):
    settings.LLM_LIMITS = {"openai": {"concurrency": 100}}
    serve(text("ok"))
    with OwnRedis() as own:
        monkeypatch.setattr(admission, "SHARED", Shared(own.url))
        ask(call(MODEL))
        own.freeze()
        started = time.monotonic()
        for _ in range(20):
            ask(call(MODEL))
        took = time.monotonic() - started
        own.thaw()

    assert took < 20 * WAIT_SECONDS  # each would have cost twice that


def test_redis_is_asked_again_when_it_is_back(monkeypatch):
    monkeypatch.setattr("llm.shared.BLIND_SECONDS", 0.2)
    with OwnRedis() as own:
        shared = Shared(own.url)
        monkeypatch.setattr(admission, "SHARED", shared)
        admitted()
        own.kill()
        assert enter(MODEL, "", 0, 60) is None
        own.start()
        soon(lambda: isinstance(enter(MODEL, "", 0, 60), Ticket))


def test_a_redis_that_closed_idle_connections_is_not_taken_for_lost(monkeypatch):
    with OwnRedis() as own:
        monkeypatch.setattr(admission, "SHARED", Shared(own.url))
        admitted()
        own.kill()
        own.start()  # it knows neither the connection nor the script any more

        admitted()


def test_a_server_that_hangs_opens_the_circuit_too(settings, point):
    settings.LLM_CIRCUIT_FAILURES, settings.LLM_MAX_ATTEMPTS, settings.LLM_TIMEOUT_SECONDS = 1, 1, 0.2
    with OpenAIServer([hang()]) as server:
        point("openai", server.base_url)
        with pytest.raises(ModelTimeout):
            ask(call(MODEL))

        turned_away(address=server.base_url)


def test_a_caller_in_a_hurry_does_not_open_the_circuit_of_others(settings, point):
    """Neither by its agent's `call_timeout_seconds` nor by the little time that its task has left."""
    settings.LLM_CIRCUIT_FAILURES, settings.LLM_MAX_ATTEMPTS = 1, 1
    with OpenAIServer([hang()]) as server:
        point("openai", server.base_url)
        with pytest.raises(ModelTimeout):
            ask(call(MODEL, call_timeout_seconds=0.2))
        with pytest.raises(ModelTimeout):
            ask(call(MODEL, seconds_left=0.2))

        admitted(address=server.base_url)


def test_a_hurried_trial_leaves_the_next_one_to_another_call(settings):
    settings.LLM_CIRCUIT_COOLDOWN_SECONDS = 0.1
    fail(3)
    trial = soon(lambda: (said := enter(MODEL, "", 0, 60)) and isinstance(said, Ticket) and said)

    leave(trial, ModelTimeout(), 0, clipped=True)

    assert admitted().trial
