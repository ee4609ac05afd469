"""The native planner: the provider's own tool calling decides what is done next."""
from __future__ import annotations

from agents.contract import Answer, AskModel, Decision, Planner, ToolUse, Unplannable
from agents.planners.faults import filtered, last_requests, lost
from llm.messages import Message, Reply, ToolRequest

NUDGE = Message("user", "Your last reply was empty. Answer in words, or call one of the tools you were given.")
NUDGE_CUT = Message("user", "Your last reply was cut off before it said anything. Answer briefly.")
NUDGES = (NUDGE, NUDGE_CUT)


class NativePlanner(Planner):
    """Tool requests are carried out, text is the answer; an empty reply, or calls of which none can be carried out,
    get one more turn.
    """

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        if reply is None:
            return AskModel()
        if reply.tool_requests:
            return self._calls(conversation, reply.tool_requests)
        if reply.text.strip():
            return Answer(reply.text)
        if refused := filtered(reply):
            return refused
        if _was_nudged(conversation):
            return Unplannable("planner_error", _empty_twice(reply))
        return AskModel(NUDGE_CUT if reply.finish_reason == "length" else NUDGE)

    def _calls(self, conversation: tuple[Message, ...], requests: tuple[ToolRequest, ...]) -> Decision:
        """Each call that cannot be carried out is told so as its result; when it was so last time too, that is it."""
        before = last_requests(conversation[:-1])
        if before and lost(requests, self.names) and lost(before, self.names):
            called = ", ".join(dict.fromkeys(request.name[:100] for request in requests))
            return Unplannable("planner_error", f"The model called no tool that can be called, also after it was told: "
                               f"{called}. Its tools: {', '.join(sorted(self.names)) or 'none'}.")  # fmt: skip
        return ToolUse(requests)


def _was_nudged(conversation: tuple[Message, ...]) -> bool:
    """Whether the last reply already answers a repair turn: empty reply, nudge, reply."""
    if len(conversation) < 3 or conversation[-2] not in NUDGES:
        return False
    before = conversation[-3]
    return before.role == "assistant" and not before.tool_requests


def _empty_twice(reply: Reply) -> str:
    said = f"The model's reply was empty, also after a repair turn (finish reason: {reply.finish_reason})."
    return f"{said} Raise max_output_tokens." if reply.finish_reason == "length" else f"{said} Try another model."
