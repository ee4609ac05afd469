"""What the planners take for a reply that brings nothing: each gets one turn to be mended."""
from __future__ import annotations

from agents.contract import Unplannable
from llm.messages import Message, Reply, ToolRequest


def lost(requests: tuple[ToolRequest, ...], names: frozenset[str]) -> bool:
    """Whether none of these calls can be carried out: each names no tool, or its arguments could not be read."""
    return all(request.arguments is None or request.name not in names for request in requests)


def last_requests(conversation: tuple[Message, ...]) -> tuple[ToolRequest, ...]:
    """What the model called in its last turn, when the conversation ends with the results."""
    for message in reversed(conversation):
        if message.role != "tool":
            return message.tool_requests
    return ()


def filtered(reply: Reply) -> Unplannable | None:
    """The end of a run whose reply the provider's filter withheld."""
    if reply.finish_reason != "content_filter" or reply.text.strip():
        return None
    return Unplannable("content_filtered", "The provider's content filter withheld the model's answer.")
