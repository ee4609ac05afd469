"""Calls for the tests of this app."""
from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from llm.errors import ModelError
from llm.gateway import complete
from llm.messages import Attempt, Message, ModelCall, ModelSettings, Reply, ToolSpec
from llm.tests.openai_server import OpenAIServer, text

KEY = "sk-canary-0123456789abcdef"
ADD = ToolSpec(
    "add_numbers",
    "Adds two numbers.",
    {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
)

OWN = ("tried", "seconds_left", "output_schema", "fallbacks", "earlier")


def call(model: str, *messages: Message, tools: tuple[ToolSpec, ...] = (), **given: Any) -> ModelCall:
    """A call of `model`; what `OWN` names is the call's, the rest are the model's settings."""
    own = {name: given.pop(name) for name in OWN if name in given}
    said = messages or (Message("user", "What is 5 and 3?"),)
    return ModelCall(ModelSettings(model, **given), said, tools, **own)


def scripted(*script: Any, **given: Any) -> ModelCall:
    return call("scripted/list", provider_options={"script": list(script)}, **given)


class Watcher:
    """What the gateway told while it worked; `stop` is what it is answered."""

    def __init__(self, stop: bool = False) -> None:
        self.stop = stop
        self.waits: list[tuple[Attempt, float]] = []

    def told(self, attempt: Attempt, wait_seconds: float) -> None:
        self.waits.append((attempt, wait_seconds))


class Impatient(Watcher):
    """Of a task that is to stop as soon as an attempt failed: nothing is tried twice."""

    def told(self, attempt: Attempt, wait_seconds: float) -> None:
        super().told(attempt, wait_seconds)
        self.stop = True


def ask(asked: ModelCall, watcher: Watcher | None = None, heard: list[str] | None = None) -> Reply:
    """With `heard` the call is streamed, and its pieces of text are put there."""
    watcher = watcher or Watcher()
    on_delta = None if heard is None else (lambda delta: heard.append(delta.text))
    return complete(asked, on_retry=watcher.told, should_stop=lambda: watcher.stop, on_delta=on_delta)


def refused(asked: ModelCall, watcher: Watcher | None = None, heard: list[str] | None = None) -> ModelError:
    """The error that the call ends with."""
    with pytest.raises(ModelError) as caught:
        ask(asked, watcher, heard)
    return caught.value


def load() -> None:
    """Make the first call, which imports for seconds: during those nothing can be timed, and nothing given up."""
    with OpenAIServer([text("loaded")]) as server, override_settings(PROVIDER_KEYS={"openai": KEY}):
        ask(call("openai/gpt-4o-mini", api_base=server.base_url))
