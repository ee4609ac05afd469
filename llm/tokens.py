"""An estimate of tokens, for models that do not count them."""
from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llm.messages import Message, ToolRequest, ToolSpec

BYTES_PER_TOKEN = 4  # OpenAI's rule of thumb for English text: https://help.openai.com/en/articles/4936856


def of_input(messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
    """Tokens of a conversation and the tools offered with it."""
    offered = [{"name": t.name, "description": t.description, "parameters": t.parameters} for t in tools]
    return sum(_count(message.to_json()) for message in messages) + sum(_count(tool) for tool in offered)


def of_output(text: str, requests: Sequence[ToolRequest] = ()) -> int:
    """Tokens of an answer: its text and its tool calls."""
    said = -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
    return said + sum(_count(request.to_json()) for request in requests)


def _count(value: Any) -> int:
    """UTF-8 bytes of the compact JSON, divided by 4, rounded up: {"a":1} is 7 bytes, 2 tokens."""
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return -(-len(shown.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
