"""Real providers, asked twice each when their key is set: `pytest -m live`."""
from __future__ import annotations

import pytest
from django.conf import settings

from llm import providers
from llm.messages import Message
from llm.tests.calls import ADD, ask, call

pytestmark = pytest.mark.live


@pytest.fixture(params=sorted(providers.KEY_VARIABLES))
def model(request) -> str:
    """Each provider's default model; skipped without its key."""
    if not settings.PROVIDER_KEYS[request.param]:
        pytest.skip(f"{providers.KEY_VARIABLES[request.param]} is not set")
    return providers.resolve("", request.param)


def test_a_real_provider_streams_an_answer_and_counts_it(model):
    heard: list[str] = []

    reply = ask(call(model, Message("user", "Say the word yes."), max_output_tokens=1000), heard=heard)

    assert "yes" in reply.text.lower()
    assert "".join(heard) == reply.text
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0


def test_a_real_provider_calls_a_tool(model):
    said = (Message("system", "Use the tools."), Message("user", "Add 5 and 3 with the tool."))

    reply = ask(call(model, *said, tools=(ADD,), temperature=0.2, max_output_tokens=1000), heard=[])

    assert reply.tool_requests[0].arguments == {"a": 5, "b": 3}
    assert reply.usage.tokens > 0
