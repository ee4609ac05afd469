"""Marks what a provider is to cache: the tools, the instructions, and the conversation up to its last message.

Three of the four marks that Anthropic takes. A prompt shorter than its least (1,024 to 4,096 tokens) is not cached and
costs what it would; writing costs a quarter more than reading anew, so the conversation is only marked where another
turn is likely: with tools. https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching
"""
from __future__ import annotations

from typing import Any

MARK = {"type": "ephemeral"}


def mark(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """Mark in place, in OpenAI's words as LiteLLM reads them."""
    if tools:
        tools[-1]["cache_control"] = MARK
        _mark(messages[-1])
    instructions = [message for message in messages if message["role"] == "system"]
    if instructions:
        _mark(instructions[-1])


def _mark(message: dict[str, Any]) -> None:
    """A tool's result is marked as a whole, other messages in their last part."""
    content = message["content"]
    if message["role"] == "tool" or not content:
        message["cache_control"] = MARK
        return
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    message["content"] = [*parts[:-1], {**parts[-1], "cache_control": MARK}]
