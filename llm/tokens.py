"""An estimate of tokens, for models that do not count them; and a bound of those that a provider will count."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm.messages import Message, ToolRequest, ToolSpec

BYTES_PER_TOKEN = 4  # OpenAI's rule of thumb for English text: https://help.openai.com/en/articles/4936856

# Beside the text, providers count a few tokens for each call, and a prompt of their own when tools are offered: up to
# 530 at Anthropic (https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview).
OF_A_CALL, OF_TOOLS = 32, 600
# gpt-4o-mini counts 2,833 for an image and 5,667 for each of its tiles, at most 8: no provider's page says more.
# https://platform.openai.com/docs/guides/images-vision
OF_AN_IMAGE = 50_000


def of_input(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
    """Tokens of a conversation and the tools offered with it."""
    offered = [{"name": t.name, "description": t.description, "parameters": t.parameters} for t in tools]
    return sum(_count(message.to_json()) for message in messages) + sum(_count(tool) for tool in offered)


def most_of_input(
    messages: Sequence[Message], tools: Sequence[ToolSpec] = (), options: Mapping[str, Any] | None = None
) -> int:
    """A bound of what the provider will count as input: no tokenizer makes two tokens of one byte.

    Four times the estimate for English, so that a reservation by it holds. Each image counts as OF_AN_IMAGE.
    """
    images = 0
    size = OF_A_CALL + (OF_TOOLS if tools else 0) + (_bytes(dict(options)) if options else 0)
    for message in messages:
        shown = message.to_json()
        if not isinstance(message.content, str):
            shown["content"] = [part for part in message.content if part.get("type") == "text"]
            images += len(message.content) - len(shown["content"])
        size += _bytes(shown)
    for tool in tools:
        size += _bytes({"name": tool.name, "description": tool.description, "parameters": tool.parameters})
    return size + images * OF_AN_IMAGE


def of_output(text: str, requests: Sequence[ToolRequest] = ()) -> int:
    """Tokens of an answer: its text and its tool calls."""
    said = -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
    return said + sum(_count(request.to_json()) for request in requests)


def _count(value: Any) -> int:
    """UTF-8 bytes of the compact JSON, divided by 4, rounded up: {"a":1} is 7 bytes, 2 tokens."""
    return -(-_bytes(value) // BYTES_PER_TOKEN)


def _bytes(value: Any) -> int:
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return len(shown.encode("utf-8", "replace"))
