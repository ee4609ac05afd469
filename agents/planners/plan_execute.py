"""The plan_execute planner: a plan in plain words first, then its steps by tool calling; a failed step revises it."""
from __future__ import annotations

import re

from agents.contract import Answer, AskModel, Decision, ToolUse, Unplannable
from agents.planners.faults import filtered, last_requests, lost
from agents.planners.native import NativePlanner
from llm.messages import Message, Reply

PLAN = Message("user", (
    "Before you begin, write your plan: a numbered list of short steps, each of them one tool call or one thought. "
    "Write only the list; call no tool yet, and do not answer yet."
))  # fmt: skip
PLAN_AGAIN = Message("user", (
    "That is not a plan. Write a numbered list of steps, one a line, beginning with 1., and nothing else. For a "
    "simple task one step is enough."
))  # fmt: skip
GO = Message("user", (
    "Carry out the plan step by step, with the tools. When it is done, write the answer, and nothing else: words "
    "without a tool call end the task."
))  # fmt: skip
REVISE = Message("user", (
    "A step of the plan failed, as you see above. Revise the plan: write, as a numbered list, the steps that are now "
    "left. Write only the list; call no tool yet, and do not answer yet."
))  # fmt: skip
REVISE_AGAIN = Message("user", (
    "That is not a plan. Write the steps that are now left as a numbered list; or, when nothing is left to do or "
    "nothing can be done, the answer: whatever is no list is taken as the answer."
))  # fmt: skip
FOR_THE_FIRST = (PLAN, PLAN_AGAIN)
FOR_A_PLAN = (*FOR_THE_FIRST, REVISE, REVISE_AGAIN)

_STEP = re.compile(r"^[ \t>#*_-]*(?:step[ \t]*)?\(?\d{1,3}[ \t*_]*[.):][*_]*[ \t]+\S", re.I | re.M)


class PlanExecutePlanner(NativePlanner):
    """What a reply is, is told by the message before it: a plan after a message that asks for one, else as `native`."""

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        if reply is None:
            return self._next(conversation)
        if len(conversation) > 1 and conversation[-2] in FOR_A_PLAN:
            return self._planned(conversation[-2], reply)
        return super().decide(conversation, reply)

    def remember(self, conversation: tuple[Message, ...], reply: Reply) -> Message:
        """Calls in place of a plan are not carried out, and a provider wants no call without its result."""
        if conversation[-1] in FOR_THE_FIRST and not is_plan(reply.text):
            return Message("assistant", reply.text)
        return reply.message()

    def _next(self, conversation: tuple[Message, ...]) -> Decision:
        """At the beginning, and after the results of tools."""
        if conversation[-1].role != "tool":
            return AskModel(PLAN, words_only=True)
        requests = last_requests(conversation)
        failed = any(message.failed for message in conversation[-len(requests) :])
        if failed and not lost(requests, self.names):
            return AskModel(REVISE, words_only=True)
        return AskModel()

    def _planned(self, asked: Message, reply: Reply) -> Decision:
        if reply.tool_requests and (is_plan(reply.text) or asked not in FOR_THE_FIRST):
            return ToolUse(reply.tool_requests)
        if is_plan(reply.text):
            return AskModel(GO)
        if refused := filtered(reply):
            return refused
        if asked in (PLAN, REVISE):
            return AskModel(PLAN_AGAIN if asked == PLAN else REVISE_AGAIN, words_only=True)
        if asked == REVISE_AGAIN and reply.text.strip():
            return Answer(reply.text)
        return Unplannable("planner_error", "The model wrote no plan, a numbered list, also after a repair turn. Try "
                           "another model, or the planner native.")  # fmt: skip


def is_plan(text: str) -> bool:
    """Whether a numbered list is in it: `1. …`, `1) …`, `Step 1: …`, also in bold."""
    return _STEP.search(text) is not None
