"""The four providers' protocols side by side: one way to ask for an answer, each sent as its provider sends it."""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llm.tests import anthropic_server, gemini_server
from llm.tests.openai_connection import Answer
from llm.tests.openai_server import OpenAIServer, chunk, completion, error, events, raw

Calls = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Wire:
    """A provider: a model of it, its server, and how it answers plainly, in a stream, and with an error.

    `plain(text, calls, finish, usage, cached)`, `streamed(texts, calls, finish, usage, cached, end=…)`,
    `error(status, message, **headers)`, `failing(status, message)` the event of an error in the middle of a stream.
    """

    provider: str
    model: str
    server: type[OpenAIServer]
    plain: Callable[..., Answer]
    streamed: Callable[..., Answer]
    error: Callable[..., Answer]
    failing: Callable[[int, str], dict[str, Any]]


def openai_plain(
    text: str = "", calls: Calls = (), finish: str = "stop", usage: tuple[int, int] = (11, 7), cached: int = 0
) -> Answer:
    message: dict[str, Any] = {"content": text or None, "refusal": None, "annotations": []}
    if calls:
        message["tool_calls"] = _calls(calls)
    body = completion(message, finish, None)
    return raw(200, body | {"usage": _usage(usage, cached)})


def openai_streamed(
    texts: Sequence[str] = (),
    calls: Calls = (),
    finish: str = "stop",
    usage: tuple[int, int] = (11, 7),
    cached: int = 0,
    **how: Any,
) -> Answer:
    """Arguments come in pieces of five characters, those of parallel calls one after the other."""
    told = [chunk({"role": "assistant", "content": "", "refusal": None}), *(chunk({"content": text}) for text in texts)]
    for index, call in enumerate(_calls(calls)):
        arguments = call["function"]["arguments"]
        opened = call | {"index": index, "function": call["function"] | {"arguments": ""}}
        told.append(chunk({"tool_calls": [opened]}))
        for at in range(0, len(arguments), 5):
            part = {"index": index, "function": {"arguments": arguments[at : at + 5]}}
            told.append(chunk({"tool_calls": [part]}))
    told.append(chunk({}, finish))
    counted = chunk({}, usage=_usage(usage, cached)) | {"choices": []}
    return events(*told, counted, "[DONE]", **how)


def openai_error(status: int, message: str = "it failed", **headers: str) -> Answer:
    code = "context_length_exceeded" if "context length" in message else None
    made = error(status, message, code=code)
    return Answer(made.status, made.body, made.headers | headers)


def openai_failing(status: int, message: str) -> dict[str, Any]:
    """As OpenRouter words it; OpenAI has no status there."""
    return {"id": "x", "error": {"code": status, "message": message}, "choices": []}


def _calls(calls: Calls) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]


def _usage(usage: tuple[int, int], cached: int) -> dict[str, Any]:
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage),
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0}}  # fmt: skip


WIRES = {
    "openai": Wire(
        "openai", "openai/gpt-4o-mini", OpenAIServer,
        openai_plain, openai_streamed, openai_error, openai_failing,
    ),
    "openrouter": Wire(
        "openrouter", "openrouter/openai/gpt-4.1-mini", OpenAIServer,
        openai_plain, openai_streamed, openai_error, openai_failing,
    ),
    "anthropic": Wire(
        "anthropic", "anthropic/claude-sonnet-4-6", anthropic_server.AnthropicServer,
        anthropic_server.message, anthropic_server.streamed, anthropic_server.error, anthropic_server.failure,
    ),
    "gemini": Wire(
        "gemini", "gemini/gemini-2.5-pro", gemini_server.GeminiServer,
        gemini_server.message, gemini_server.streamed, gemini_server.error, gemini_server.failure,
    ),
}  # fmt: skip
