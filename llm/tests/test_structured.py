"""How a model is told the schema of its answer: by the provider's own mode, or in words that are always the same."""
from __future__ import annotations

import json

import pytest

from llm.messages import Message, ModelSettings
from llm.structured import fitted
from llm.tests.calls import ADD, ask, call
from llm.tests.openai_server import OpenAIServer, error, text

SCHEMA = {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
SYSTEM, USER = Message("system", "Be brief."), Message("user", "What is 5 and 3?")


def told(model: str, *messages: Message, schema=SCHEMA, tools=()):
    return fitted(call(model, *messages, output_schema=schema, tools=tools))


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "gemini/gemini-2.5-pro"])
def test_a_provider_with_a_mode_of_its_own_keeps_the_schema_and_the_messages(model):
    asked = told(model, SYSTEM, USER)

    assert (asked.output_schema, asked.messages) == (SCHEMA, (SYSTEM, USER))


@pytest.mark.parametrize(
    ("model", "schema", "tools"),
    [
        ("scripted/echo", SCHEMA, ()),
        ("openai/my-own-model", SCHEMA, ()),
        ("openai/gpt-4o-mini", {"type": "array"}, ()),
        ("openai/gpt-4o-mini", {}, ()),
        ("gemini/gemini-2.5-pro", SCHEMA, (ADD,)),
    ],
    ids=["scripted", "unknown", "no object", "no type", "gemini with tools"],
)
def test_any_other_is_told_in_words_after_its_instructions(model, schema, tools):
    asked = told(model, SYSTEM, USER, schema=schema, tools=tools)

    assert asked.output_schema is None
    assert asked.messages[1:] == (USER,)
    assert asked.messages[0].content.startswith("Be brief.\n\nYour final answer must be one JSON value")
    assert asked.messages[0].content.endswith(json.dumps(schema, separators=(",", ":")))
    assert asked == told(model, SYSTEM, USER, schema=schema, tools=tools)


def test_without_instructions_the_words_are_a_message_of_their_own():
    assert [message.role for message in told("scripted/echo", USER).messages] == ["system", "user"]


def test_a_call_without_a_schema_is_left_alone():
    asked = call("scripted/echo", SYSTEM, USER)

    assert fitted(asked) is asked


def test_each_model_of_a_call_is_told_in_its_own_way_on_the_wire(serve, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    first = serve(error(500))
    with OpenAIServer([text("{}")]) as other:
        fallback = ModelSettings("openai/my-own-model", api_base=other.base_url)
        ask(call("openai/gpt-4o-mini", SYSTEM, USER, output_schema=SCHEMA, fallbacks=(fallback,)))

        sent, told_in_words = first.requests[0].body, other.requests[0].body
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert sent["messages"][0]["content"] == "Be brief."
    assert "response_format" not in told_in_words
    assert "JSON Schema" in told_in_words["messages"][0]["content"]


def test_a_response_format_of_the_agent_is_sent_as_it_is(serve):
    server = serve(text("{}"))

    ask(call("openai/gpt-4o-mini", response_format={"type": "json_object"}))

    assert server.requests[0].body["response_format"] == {"type": "json_object"}
