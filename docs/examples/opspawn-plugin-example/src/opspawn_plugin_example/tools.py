"""Importing this module registers its tools."""
from __future__ import annotations

from agents.tools.registry import ToolError, tool

MAX_CHARS = 100_000


@tool(effect="none", timeout_seconds=5, in_worker=True)
def count_words(text: str) -> dict[str, int]:
    """Count the words of a text.

    Args:
        text: What is counted; words are what white space separates.
    """
    if len(text) > MAX_CHARS:
        raise ToolError(f"the text has {len(text)} characters; give at most {MAX_CHARS}")
    return {"words": len(text.split())}
