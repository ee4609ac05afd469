"""openai/… over real HTTP: what is sent, what is read, what is counted."""
from __future__ import annotations

import gzip
import threading
from decimal import Decimal

import pytest

from llm.errors import Malformed
from llm.messages import Message, ToolRequest
from llm.tests.calls import ADD, KEY, ask, call, refused
from llm.tests.openai_server import raw, text, tool_calls

MODEL = "openai/gpt-4o-mini"


def test_a_plain_answer_comes_back_with_its_tokens_and_its_cost(serve):
    server = serve(text("It is 8.", usage=(11, 7)))

    reply = ask(call(MODEL))

    assert (reply.text, reply.finish_reason, reply.model, reply.simulated) == ("It is 8.", "stop", MODEL, False)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (11, 7)
    assert reply.usage.cost_usd == Decimal("0.00000585")
    assert [attempt.error for attempt in reply.attempts] == [None]
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is 5 and 3?"}]}


def test_every_setting_of_the_agent_is_on_the_wire(serve):
    server = serve(text("ok"))

    ask(
        call(
            MODEL,
            Message("system", "Be brief."),
            Message("user", "Hi"),
            temperature=0.0,
            top_p=0.5,
            seed=7,
            max_output_tokens=50,
            stop=("END",),
            provider_options={"presence_penalty": 0.1, "extra_body": {"min_p": 0.2}},
        )
    )

    sent = server.requests[0].body
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: sent[name] for name in ("temperature", "top_p", "seed", "max_tokens", "stop")} == {
        "temperature": 0.0,
        "top_p": 0.5,
        "seed": 7,
        "max_tokens": 50,
        "stop": ["END"],
    }
    assert (sent["presence_penalty"], sent["min_p"]) == (0.1, 0.2)


def test_tool_calls_come_back_in_order_with_their_ids(serve):
    server = serve(tool_calls(("add_numbers", {"a": 5, "b": 3}), ("add_numbers", {"a": 1, "b": 2})))

    reply = ask(call(MODEL, tools=(ADD,)))

    assert reply.finish_reason == "tool_calls"
    assert reply.tool_requests == (
        ToolRequest("call_0", "add_numbers", {"a": 5, "b": 3}),
        ToolRequest("call_1", "add_numbers", {"a": 1, "b": 2}),
    )
    (offered,) = server.requests[0].body["tools"]
    assert offered["function"] == {
        "name": "add_numbers",
        "description": "Adds two numbers.",
        "parameters": dict(ADD.parameters),
    }


def test_arguments_cut_short_are_told_and_their_sibling_is_read(serve):
    serve(tool_calls(("add_numbers", '{"a": 5, "b'), ("add_numbers", {"a": 1, "b": 2}), finish_reason="length"))

    reply = ask(call(MODEL, tools=(ADD,)))

    broken, whole = reply.tool_requests
    assert broken.arguments is None
    assert "cut short" in broken.error
    assert broken.raw == '{"a": 5, "b'
    assert whole.arguments == {"a": 1, "b": 2}
    assert reply.finish_reason == "length"


def test_a_conversation_with_tool_results_is_sent_whole(serve):
    server = serve(text("8"))

    ask(
        call(
            MODEL,
            Message("user", "add"),
            Message("assistant", "", (ToolRequest("c1", "add_numbers", {"a": 5, "b": 3}),)),
            Message("tool", '{"sum": 8}', tool_call_id="c1"),
            Message("assistant", "Again.", (ToolRequest("c2", "add_numbers", None, "cut short", '{"a'),)),
            Message("tool", "cut short", tool_call_id="c2"),
            tools=(ADD,),
        )
    )

    sent = server.requests[0].body["messages"]
    function = {"name": "add_numbers", "arguments": '{"a": 5, "b": 3}'}
    assert sent[1]["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert sent[2] == {"role": "tool", "content": '{"sum": 8}', "tool_call_id": "c1"}
    assert sent[3]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_an_empty_filtered_answer_is_an_answer_that_says_so(serve):
    server = serve(text("", finish_reason="content_filter"))

    reply = ask(call(MODEL))

    assert (reply.text, reply.finish_reason) == ("", "content_filter")
    assert len(server.requests) == 1


def test_a_server_that_counts_no_tokens_is_estimated_and_has_no_price(serve):
    serve(text("four words are here", usage=None))

    usage = ask(call(MODEL)).usage

    assert usage.input_tokens > 0
    assert usage.output_tokens == 5
    assert usage.cost_usd is None


@pytest.mark.parametrize("usage", [(-5, -1), (10**25, 1), (3, -1)])
def test_a_count_that_cannot_be_is_taken_for_none(serve, usage):
    serve(text("four words are here", usage=usage))

    counted = ask(call(MODEL)).usage

    assert (counted.input_tokens > 0, counted.output_tokens, counted.cost_usd) == (True, 5, None)


def test_a_model_without_a_price_costs_nobody_knows_what(serve):
    serve(text("ok"))

    assert ask(call("openai/my-own-model")).usage.cost_usd is None


def test_nul_and_surrogates_in_an_answer_become_storable(serve):
    body = (
        '{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
        '"message":{"role":"assistant","content":"a\\u0000b\\ud800c","tool_calls":[{"id":"c","type":"function",'
        '"function":{"name":"f","arguments":"{\\"t\\": \\"\\\\u0000\\"}"}}]}}],'
        '"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    )
    serve(raw(200, body))

    reply = ask(call(MODEL))

    assert reply.text == "a�b�c"
    assert reply.tool_requests[0].arguments == {"t": "�"}


def test_a_thread_uses_its_connection_again_and_no_other_threads(serve):
    server = serve(text("ok"))

    def three_calls() -> None:
        for _ in range(3):
            ask(call(MODEL))

    threads = [threading.Thread(target=three_calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    used = [request.connection for request in server.requests]
    assert len(used) == 12
    assert sorted(used.count(connection) for connection in set(used)) == [3, 3, 3, 3]


def test_an_agents_own_address_is_called_instead(serve):
    configured = serve(text("configured"))
    own = serve(text("own"))
    configured_url, own_url = configured.base_url, own.base_url
    assert configured_url != own_url

    reply = ask(call(MODEL, api_base=configured_url))

    assert reply.text == "configured"
    assert own.requests == []


def test_a_retry_uses_the_connection_of_the_attempt_that_failed_and_no_cookie(serve):
    busy = raw(503, {"error": {"message": "busy"}}, headers={"Retry-After": "0.01", "Set-Cookie": "account=1; Path=/"})
    server = serve(busy, text("ok"))

    assert ask(call(MODEL)).text == "ok"

    first, second = server.requests
    assert first.connection == second.connection
    assert first.body == second.body
    assert "cookie" not in second.headers


def test_an_agents_own_headers_are_sent_and_no_compression_is_asked_for(serve):
    server = serve(text("ok"))

    ask(call(MODEL, provider_options={"extra_headers": {"X-Team": "blue"}}))

    assert server.requests[0].headers["x-team"] == "blue"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_small_answer_that_unpacks_into_a_huge_one_is_given_up(serve, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    packed = gzip.compress(b"{" + b" " * 100_000_000)
    serve(raw(200, packed, headers={"Content-Encoding": "gzip"}))

    failure = refused(call(MODEL))

    assert type(failure) is Malformed
    assert "bytes" in str(failure)
