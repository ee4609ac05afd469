"""What a call says to a model only where the model takes it: further stop sequences, and that no tool be called."""
from __future__ import annotations

import pytest

from llm import litellm_calls, wording
from llm.messages import Message, ModelCall, ModelSettings, ToolSpec

ADD = ToolSpec("add_numbers", "Add.", {"type": "object", "properties": {}})
HELLO = (Message("user", "hello"),)


def words(model: str, tools=(), words_only=False, **chosen):
    litellm_calls.load()
    return wording.of(ModelCall(ModelSettings(model, **chosen), HELLO, tools, words_only=words_only))[1]


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("openai/gpt-4o-mini", ["\nObservation:"]), ("anthropic/claude-sonnet-4-5", ["\nObservation:"]),
        ("gemini/gemini-2.5-pro", ["\nObservation:"]), ("hosted_vllm/qwen", ["\nObservation:"]),
        ("openai/o3", None), ("openai/gpt-5", None), ("openrouter/openai/gpt-5", None), ("xai/grok-4", None),
    ],
)  # fmt: skip
def test_a_stop_sequence_that_only_helps_is_left_out_for_models_that_refuse_it(model, sent):
    assert words(model, stop_if_known=("\nObservation:",)).get("stop") == sent


def test_the_agent_s_own_stop_sequences_come_first_and_are_at_most_four_with_others():
    more = ("\nObservation:",)

    assert words("openai/gpt-4o", stop=("a",), stop_if_known=more)["stop"] == ["a", "\nObservation:"]
    assert words("openai/gpt-4o", stop=("a", "b", "c", "d"), stop_if_known=more)["stop"] == ["a", "b", "c", "d"]
    assert words("openai/o3", stop=("a",), stop_if_known=more)["stop"] == ["a"]


@pytest.mark.parametrize(
    ("tools", "words_only", "sent"), [((ADD,), True, "none"), ((ADD,), False, None), ((), True, None)]
)
def test_tools_that_are_not_to_be_called_are_offered_with_that(tools, words_only, sent):
    said = words("openai/gpt-4o-mini", tools, words_only)

    assert said.get("tool_choice") == sent
    assert ("tools" in said) == bool(tools)
