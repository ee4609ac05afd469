"""The native planner: the provider's own tool calling decides what is done next."""
from __future__ import annotations

from agents.contract import Answer, AskModel, Decision, Observation, ToolUse, Unplannable
from llm.messages import Message, Reply, ToolRequest

NUDGE = Message("user", "Your last reply was empty. Answer in words, or call one of the tools you were given.")
NUDGE_CUT = Message("user", "Your last reply was cut off before it said anything. Answer briefly.")
NUDGES = (NUDGE, NUDGE_CUT)


class NativePlanner:
    """Tool requests are carried out, text is the answer, and an empty reply gets one repair turn."""

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        if reply is None:
            return AskModel()
        if reply.tool_requests:
            return ToolUse(reply.tool_requests)
        if reply.text.strip():
            return Answer(reply.text)
        if reply.finish_reason == "content_filter":
            return Unplannable("content_filtered", "The provider's content filter withheld the model's answer.")
        if _was_nudged(conversation):
            return Unplannable("planner_error", _empty_twice(reply))
        return AskModel(NUDGE_CUT if reply.finish_reason == "length" else NUDGE)

    def observe(self, request: ToolRequest, observation: Observation) -> Message:
        return Message("tool", observation.text, tool_call_id=request.id)


def _was_nudged(conversation: tuple[Message, ...]) -> bool:
    """Whether the last reply already answers a repair turn: empty reply, nudge, reply."""
    if len(conversation) < 3 or conversation[-2] not in NUDGES:
        return False
    before = conversation[-3]
    return before.role == "assistant" and not before.tool_requests


def _empty_twice(reply: Reply) -> str:
    said = f"The model's reply was empty, also after a repair turn (finish reason: {reply.finish_reason})."
    return f"{said} Raise max_output_tokens." if reply.finish_reason == "length" else f"{said} Try another model."
