"""What is asked of a model: images, top_k, answers by a schema and marks for the cache, as each provider has them."""
from __future__ import annotations

import json

import pytest

from llm import abilities, errors
from llm.messages import Message, ToolRequest
from llm.tests.calls import ADD, ask, call, refused
from llm.tests.gemini_server import GeminiServer
from llm.tests.openai_server import OpenAIServer, raw, text
from llm.tests.wires import WIRES

DATA = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "number"}},
    "required": ["sum"],
    "additionalProperties": False,
}
MARK = {"type": "ephemeral"}
AFTER_A_CALL = (
    Message("system", "Be brief."),
    Message("user", "add 5 and 3"),
    Message("assistant", "", (ToolRequest("c1", "add_numbers", {"a": 5, "b": 3}),)),
    Message("tool", '{"sum": 8}', tool_call_id="c1"),
)


def seeing(url: str) -> Message:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return Message("user", parts)


def sent(server) -> dict:
    return server.requests[-1].body


@pytest.mark.parametrize("url", [DATA, "https://example.com/a.png"], ids=["data", "address"])
def test_an_image_is_sent_as_the_provider_takes_it(wire, answering, url):
    server = answering(wire.plain("a dot"))
    parts = {
        "openai": {"type": "image_url", "image_url": {"url": url}},
        "openrouter": {"type": "image_url", "image_url": {"url": url}},
        "anthropic": {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
            if url == DATA
            else {"type": "url", "url": url},
        },
        "gemini": {"inline_data": {"mime_type": "image/png", "data": "iVBORw0KGgo="}},
    }
    if wire.provider == "gemini" and url != DATA:
        failure = refused(call(wire.model, seeing(url)))
        assert type(failure) is errors.BadOptions
        assert "fetches no images" in str(failure)
        assert server.requests == []
        return

    assert ask(call(wire.model, seeing(url))).text == "a dot"

    body = sent(server)
    said = (body.get("messages") or body["contents"])[0]
    assert (said.get("content") or said["parts"])[1] == parts[wire.provider]


def test_an_image_is_refused_before_the_call_where_the_model_takes_none(serve):
    server = serve(text("never"))

    failure = refused(call("openai/gpt-3.5-turbo", seeing(DATA)))

    assert (type(failure), failure.code) == (errors.BadOptions, "invalid_agent_config")
    assert "takes no images" in str(failure)
    assert server.requests == []


def test_a_model_that_is_not_in_the_map_is_believed_to_see(serve):
    server = serve(text("a dot"))

    assert ask(call("openai/my-own", seeing(DATA))).text == "a dot"
    assert len(server.requests) == 1


def test_top_k_is_sent_where_it_exists(wire, answering):
    server = answering(wire.plain("ok"))
    asked = call(wire.model, top_k=5)
    if wire.provider == "openai":
        failure = refused(asked)
        assert (type(failure), failure.code) == (errors.BadOptions, "invalid_agent_config")
        assert "top_k" in str(failure)
        assert server.requests == []
        return

    ask(asked)

    assert sent(server).get("generationConfig", sent(server))["top_k"] == 5


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_a_schema_is_held_in_the_providers_own_mode_and_the_answer_is_its_json(wire, answering, streamed):
    answer = '{"sum": 8}'
    server = answering(wire.streamed([answer[:5], answer[5:]]) if streamed else wire.plain(answer))
    asked = call(wire.model, output_schema=SCHEMA)
    openai = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    modes = {
        "openai": lambda body: body["response_format"] == openai,
        "openrouter": lambda body: body["response_format"] == openai,
        "anthropic": lambda body: body["output_format"] == {"type": "json_schema", "schema": SCHEMA},
        "gemini": lambda body: body["generationConfig"]["response_mime_type"] == "application/json"
        and body["generationConfig"]["response_json_schema"] == SCHEMA,
    }

    reply = ask(asked, heard=[] if streamed else None)

    assert json.loads(reply.text) == {"sum": 8}
    assert abilities.answers_by_schema(asked)
    assert modes[wire.provider](sent(server))


@pytest.mark.parametrize(
    ("model", "tools", "schema", "held"),
    [
        ("openai/gpt-4o-mini", (ADD,), SCHEMA, True),
        ("openai/gpt-4", (), SCHEMA, False),
        ("openai/gpt-4o-mini", (), {"type": "array"}, False),
        ("openai/gpt-4o-mini", (), None, False),
        ("anthropic/claude-sonnet-4-6", (ADD,), SCHEMA, True),
        ("gemini/gemini-2.5-pro", (ADD,), SCHEMA, False),
        ("gemini/gemini-3.1-pro-preview", (ADD,), SCHEMA, True),
        ("openrouter/anthropic/claude-sonnet-4.5", (), SCHEMA, True),
        ("openrouter/nobody/nothing", (), SCHEMA, False),
        ("hosted_vllm/mine", (), SCHEMA, True),
        ("scripted/echo", (), SCHEMA, False),
    ],
)
def test_who_holds_an_answer_to_a_schema(model, tools, schema, held):
    assert abilities.answers_by_schema(call(model, tools=tools, output_schema=schema)) is held


def test_a_schema_that_leaves_things_open_is_not_called_strict(serve):
    server = serve(text("{}"))
    for schema in ({"type": "object"}, SCHEMA | {"required": []}, {**SCHEMA, "properties": {"x": {"type": "object"}}}):
        ask(call("openai/gpt-4o-mini", output_schema=schema))
        assert sent(server)["response_format"]["json_schema"]["strict"] is False


def test_claudes_cache_is_marked_at_the_tools_the_instructions_and_the_last_turn(point):
    wire = WIRES["anthropic"]
    with wire.server([wire.plain("8")]) as server:
        point("anthropic", server.base_url)
        ask(call(wire.model, *AFTER_A_CALL, tools=(ADD,)))
        ask(call(wire.model, Message("system", "Be brief."), Message("user", "hi")))
        ask(call("anthropic/not-in-the-map", *AFTER_A_CALL, tools=(ADD,)))

    marked, once, unknown = (request.body for request in server.requests)
    assert marked["tools"][-1]["cache_control"] == MARK
    assert marked["system"][-1]["cache_control"] == MARK
    assert marked["messages"][-1]["content"][-1]["cache_control"] == MARK
    assert str(marked).count("cache_control") == 3
    assert "cache_control" in str(once["system"])
    assert "cache_control" not in str(once["messages"])  # no other turn will read it
    assert "cache_control" not in str(unknown)


@pytest.mark.parametrize(("model", "marks"), [("anthropic/claude-sonnet-4.5", 3), ("openai/gpt-4.1-mini", 0)])
def test_openrouter_is_given_marks_for_claude_alone(point, model, marks):
    with OpenAIServer([text("8")]) as server:
        point("openrouter", server.base_url)
        ask(call(f"openrouter/{model}", *AFTER_A_CALL, tools=(ADD,)))

    assert str(sent(server)).count("cache_control") == marks


def test_a_signed_call_of_geminis_goes_back_with_its_signature(point):
    """Gemini 3 refuses a conversation without it: https://ai.google.dev/gemini-api/docs/thought-signatures"""
    part = {"functionCall": {"name": "add_numbers", "args": {"a": 5, "b": 3}}, "thoughtSignature": "c2lnbmVk" * 50}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
    event = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}}
    answer = raw(200, f"data: {json.dumps(event)}\n\n", content_type="text/event-stream")
    with GeminiServer([answer]) as server:
        point("gemini", server.base_url)
        asked = (Message("user", "add 5 and 3"),)
        reply = ask(call("gemini/gemini-3.1-pro-preview", *asked, tools=(ADD,)), heard=[])
        result = Message("tool", "8", tool_call_id=reply.tool_requests[0].id)
        ask(call("gemini/gemini-3.1-pro-preview", *asked, reply.message(), result, tools=(ADD,)), heard=[])

    assert "c2lnbmVk" * 50 in json.dumps(sent(server)["contents"][1])


def test_a_server_of_ones_own_needs_an_address(monkeypatch):
    for provider in sorted(abilities.LOCAL - {"llamafile"}):
        monkeypatch.delenv(f"{provider.upper()}_API_BASE", raising=False)
        failure = refused(call(f"{provider}/mine"))
        assert type(failure) is errors.BadOptions
        assert f"{provider.upper()}_API_BASE" in str(failure)


@pytest.mark.parametrize("provider", sorted(abilities.LOCAL))
def test_servers_that_speak_as_openai_are_called_by_their_address(provider):
    with OpenAIServer([text("ok")]) as server:
        reply = ask(call(f"{provider}/mine", api_base=server.base_url, top_k=4), heard=[])

    assert reply.text == "ok"
    assert (sent(server)["model"], sent(server)["top_k"], sent(server)["stream"]) == ("mine", 4, True)


def test_a_model_that_openai_only_serves_elsewhere_is_called_there(serve):
    """Given a model of the Responses API, which only LiteLLM's own call can reach."""
    server = serve(raw(404, {"error": {"message": "no such path"}}))

    refused(call("openai/o1-pro"), heard=[])

    assert server.requests[0].path == "/v1/responses"
