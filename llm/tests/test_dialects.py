"""Providers with a protocol of their own, each once over real HTTP."""
from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import override_settings

from llm.errors import AuthRefused, Malformed, ModelError, ModelTimeout, RateLimited
from llm.messages import Message, ToolRequest
from llm.tests.calls import ADD, KEY, ask, call
from llm.tests.openai_server import OpenAIServer, completion, error, hang, raw, text

SAID = (
    Message("system", "Be brief."),
    Message("user", "add 5 and 3"),
    Message("assistant", "", (ToolRequest("c1", "add_numbers", {"a": 5, "b": 3}),)),
    Message("tool", '{"sum": 8}', tool_call_id="c1"),
)


def refused(asked) -> ModelError:
    with override_settings(LLM_MAX_ATTEMPTS=1), pytest.raises(ModelError) as caught:
        ask(asked)
    return caught.value


def gemini(*parts, finish="STOP"):
    return raw(
        200,
        {
            "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}],
            "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18},
            "modelVersion": "gemini-2.5-pro",
        },
    )


def anthropic(*content, stop_reason="end_turn"):
    return raw(
        200,
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-6",
            "content": list(content),
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 11, "output_tokens": 7},
        },
    )


def test_gemini_takes_temperature_max_tokens_stop_and_a_system_prompt(point):
    with OpenAIServer([gemini({"text": "8"})]) as server:
        point("gemini", server.url)
        reply = ask(
            call(
                "google/gemini-2.5-pro",
                *SAID,
                tools=(ADD,),
                temperature=0.3,
                max_output_tokens=50,
                stop=("END",),
                top_k=5,
            )
        )

    (request,) = server.requests
    assert request.path == "/models/gemini-2.5-pro:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert KEY not in request.path
    assert request.body["system_instruction"]["parts"] == [{"text": "Be brief."}]
    sent = request.body["generationConfig"]
    assert (sent["temperature"], sent["max_output_tokens"], sent["stop_sequences"]) == (0.3, 50, ["END"])
    assert sent["top_k"] == 5
    assert (reply.text, reply.finish_reason, reply.usage.cost_usd) == ("8", "stop", Decimal("0.00008375"))


def test_gemini_calls_tools(point):
    call_part = {"functionCall": {"name": "add_numbers", "args": {"a": 5, "b": 3}}}
    with OpenAIServer([gemini(call_part)]) as server:
        point("gemini", server.url)
        reply = ask(call("gemini/gemini-2.5-pro", tools=(ADD,)))

    (made,) = reply.tool_requests
    assert (made.name, made.arguments, reply.finish_reason) == ("add_numbers", {"a": 5, "b": 3}, "tool_calls")
    assert made.id


def test_a_prompt_that_gemini_blocks_is_a_filtered_answer(point):
    with OpenAIServer([gemini(finish="SAFETY")]) as server:
        point("gemini", server.url)
        reply = ask(call("gemini/gemini-2.5-pro"))

    assert (reply.text, reply.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (raw(400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}), AuthRefused),
        (error(429), RateLimited),
        (raw(200, "<html></html>"), Malformed),
        (raw(200, {"candidates": []}), Malformed),
        (hang(), ModelTimeout),
    ],
    ids=["key", "rate", "html", "empty", "hang"],
)
def test_geminis_failures_are_told_apart(point, answer, kind):
    with OpenAIServer([answer]) as server:
        point("gemini", server.url)
        failure = refused(call("gemini/gemini-2.5-pro", call_timeout_seconds=0.5))

    assert type(failure) is kind
    assert len(server.requests) == 1


def test_anthropic_answers_and_calls_tools(point):
    used = {"type": "tool_use", "id": "toolu_1", "name": "add_numbers", "input": {"a": 5, "b": 3}}
    with OpenAIServer([anthropic({"type": "text", "text": "Adding."}, used, stop_reason="tool_use")]) as server:
        point("anthropic", server.url)
        reply = ask(call("anthropic/claude-sonnet-4-6", *SAID, tools=(ADD,), temperature=0.3, stop=("END",)))

    (request,) = server.requests
    assert (request.path, request.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert request.body["system"][0]["text"] == "Be brief."
    assert (request.body["temperature"], request.body["stop_sequences"]) == (0.3, ["END"])
    assert request.body["messages"][-1]["content"][0]["tool_use_id"] == "c1"
    assert reply.text == "Adding."
    assert reply.tool_requests == (ToolRequest("toolu_1", "add_numbers", {"a": 5, "b": 3}),)
    assert (reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens) == ("tool_calls", 11, 7)
    assert reply.usage.cost_usd == Decimal("0.000138")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(401), AuthRefused),
        (error(429), RateLimited),
        (raw(200, "<html></html>"), Malformed),
        (hang(), ModelTimeout),
    ],
    ids=["key", "rate", "html", "hang"],
)
def test_anthropics_failures_are_told_apart(point, answer, kind):
    with OpenAIServer([answer]) as server:
        point("anthropic", server.url)
        failure = refused(call("anthropic/claude-sonnet-4-6", call_timeout_seconds=0.5))

    assert type(failure) is kind


def test_openrouter_answers_and_says_what_it_cost(point):
    body = completion({"content": "8"}, "stop", (11, 7))
    body["usage"]["cost"] = 0.00042
    with OpenAIServer([raw(200, body)]) as server:
        point("openrouter", server.base_url)
        reply = ask(call("openrouter/openai/gpt-4.1-mini", *SAID, tools=(ADD,), temperature=0.3))

    (request,) = server.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (request.body["model"], request.body["temperature"]) == ("openai/gpt-4.1-mini", 0.3)
    assert (reply.text, reply.usage.cost_usd) == ("8", Decimal("0.00042"))


@pytest.mark.parametrize("told", [1e30, -1, True, "1"])
def test_a_cost_that_cannot_be_is_not_believed(point, told):
    body = completion({"content": "8"}, "stop", (11, 7))
    body["usage"]["cost"] = told
    with OpenAIServer([raw(200, body)]) as server:
        point("openrouter", server.base_url)
        reply = ask(call("openrouter/some/model-without-a-price"))

    assert (reply.text, reply.usage.input_tokens, reply.usage.cost_usd) == ("8", 11, None)


def test_an_error_that_openrouter_wraps_in_a_200_is_what_it_says(point):
    with OpenAIServer([raw(200, {"error": {"message": "slow down", "code": 429}})]) as server:
        point("openrouter", server.base_url)
        failure = refused(call("openrouter/openai/gpt-4.1-mini"))

    assert type(failure) is RateLimited


def test_a_server_without_keys_is_called_through_hosted_vllm(point):
    with OpenAIServer([text("ok")]) as server:
        reply = ask(call("hosted_vllm/my-model", api_base=server.base_url))

    assert reply.text == "ok"
    assert server.requests[0].body["model"] == "my-model"
