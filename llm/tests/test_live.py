"""Real providers, asked once each when their key is set: `pytest -m live`."""
from __future__ import annotations

import pytest
from django.conf import settings

from llm import providers
from llm.messages import Message
from llm.tests.calls import ADD, ask, call

pytestmark = pytest.mark.live


@pytest.mark.parametrize("provider", sorted(providers.KEY_VARIABLES))
def test_a_real_provider_calls_a_tool(provider):
    if not settings.PROVIDER_KEYS[provider]:
        pytest.skip(f"{providers.KEY_VARIABLES[provider]} is not set")
    model = providers.resolve("", provider)

    reply = ask(
        call(
            model,
            Message("system", "Use the tools."),
            Message("user", "Add 5 and 3 with the tool."),
            tools=(ADD,),
            temperature=0.2,
            max_output_tokens=1000,
        )
    )

    assert reply.tool_requests[0].arguments == {"a": 5, "b": 3}
    assert reply.usage.tokens > 0
