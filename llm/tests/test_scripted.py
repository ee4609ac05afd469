"""The scripted model plays its entries, one an attempt, and never needs LiteLLM."""
from __future__ import annotations

import subprocess
import sys
import time
from decimal import Decimal

import pytest

from llm import errors
from llm.errors import ModelError
from llm.messages import Message, ToolRequest
from llm.tests.calls import ADD, Watcher, ask, call, scripted


def refused(asked, watcher=None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        ask(asked, watcher)
    return caught.value


@pytest.mark.parametrize(("tried", "expected"), [(0, "one"), (1, "two")])
def test_the_nth_call_plays_entry_n(tried, expected):
    assert ask(scripted({"text": "one"}, {"text": "two"}, tried=tried)).text == expected


def test_a_call_past_the_end_says_how_many_entries_there_are():
    failure = refused(scripted({"text": "one"}, {"text": "two"}, tried=2))

    assert (failure.code, failure.permanent, failure.simulated) == ("provider_error", True, True)
    assert "2 entries" in str(failure)
    assert len(failure.attempts) == 1


def test_two_rate_limits_then_success_are_exactly_three_attempts():
    reply = ask(scripted({"error": "rate_limited"}, {"error": "rate_limited"}, {"text": "ok"}))

    assert reply.text == "ok"
    assert len(reply.attempts) == 3


@pytest.mark.parametrize(
    ("name", "code", "attempts"),
    [
        ("rate_limited", "rate_limited", 2),
        ("timeout", "provider_error", 2),
        ("server", "provider_error", 2),
        ("malformed", "provider_error", 2),
        ("auth", "provider_auth", 1),
    ],
)
def test_an_error_at_the_end_is_repeated_until_the_attempts_are_spent(settings, name, code, attempts):
    settings.LLM_MAX_ATTEMPTS = 2

    failure = refused(scripted({"error": name}))

    assert (failure.code, len(failure.attempts), failure.simulated) == (code, attempts, True)


def test_tool_calls_have_ids_that_are_the_same_every_time():
    entry = {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}, {"name": "now"}]}

    reply = ask(scripted({"text": "x"}, entry, tried=1, tools=(ADD,)))

    assert reply.finish_reason == "tool_calls"
    assert reply.tool_requests == (
        ToolRequest("call_1_0", "add_numbers", {"a": 5, "b": 3}),
        ToolRequest("call_1_1", "now", {}),
    )


def test_arguments_in_a_string_are_read_like_a_providers():
    entry = {"tool_calls": [{"name": "f", "arguments": '{"a": 1,}'}, {"name": "f", "arguments": '{"a": '}]}

    mended, broken = ask(scripted(entry)).tool_requests

    assert mended.arguments == {"a": 1}
    assert (broken.arguments, broken.raw) == (None, '{"a": ')


def test_tokens_are_counted_the_price_is_zero_and_it_says_simulated():
    one = ask(scripted({"text": "12345678"}))
    two = ask(scripted({"text": "12345678"}, tools=(ADD,)))

    assert one.usage.output_tokens == 2
    assert one.usage.cost_usd == Decimal(0)
    assert 0 < one.usage.input_tokens < two.usage.input_tokens
    assert one.simulated


def test_echo_answers_the_last_user_message():
    parts = [{"type": "text", "text": "second"}, {"type": "image_url", "image_url": {"url": "data:,"}}]

    reply = ask(call("scripted/echo", Message("user", "first"), Message("user", parts), Message("assistant", "no")))

    assert reply.text == "second"


def test_a_delay_past_the_timeout_is_a_timeout(settings):
    settings.LLM_MAX_ATTEMPTS = 1
    started = time.monotonic()

    failure = refused(scripted({"text": "late", "delay_seconds": 30}, call_timeout_seconds=0.2))

    assert type(failure) is errors.ModelTimeout
    assert 0.2 <= time.monotonic() - started < 2


def test_a_delay_ends_when_the_task_is_to_stop():
    started = time.monotonic()

    failure = refused(scripted({"text": "late", "delay_seconds": 30}), Watcher(stop=True))

    assert type(failure) is errors.Abandoned
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "entry",
    [
        "hello",
        {},
        {"text": 7},
        {"text": "a", "error": "server"},
        {"error": "nonsense"},
        {"tool_calls": []},
        {"tool_calls": [{"arguments": {}}]},
        {"tool_calls": [{"name": "f", "arguments": [1]}]},
        {"text": "a", "delay_seconds": -1},
        {"text": "a", "delay_seconds": True},
        {"text": "a", "pause": 1},
    ],
)
def test_a_bad_entry_is_named_before_it_is_played(entry):
    failure = refused(scripted({"text": "fine"}, entry))

    assert failure.code == "invalid_agent_config"
    assert "provider_options.script[1]" in str(failure)
    assert failure.attempts == ()


@pytest.mark.parametrize("options", [{}, {"script": "text"}, {"script": [{"text": "a"}], "speed": 2}])
def test_a_script_that_is_none_is_refused(options):
    assert refused(call("scripted/list", provider_options=options)).code == "invalid_agent_config"


def test_another_scripted_model_does_not_exist():
    failure = refused(call("scripted/gpt"))

    assert type(failure) is errors.UnknownModel
    assert "scripted/gpt" in str(failure)


def test_the_door_is_open_without_litellm():
    program = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'opspawn_site.settings'\n"
        "from llm.tests.calls import ask, scripted\n"
        "from llm import providers\n"
        "assert ask(scripted({'text': 'ok'})).text == 'ok'\n"
        "assert providers.resolve('a/b', 'openai') and providers.known('groq')\n"
        "assert not {'litellm', 'httpx', 'openai', 'mcp'} & set(sys.modules), 'imported'\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
