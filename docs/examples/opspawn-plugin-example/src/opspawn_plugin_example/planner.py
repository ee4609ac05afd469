"""A planner that has the model look at its answer once more."""
from __future__ import annotations

from agents.contract import Answer, AskModel, Decision
from agents.planners.native import NativePlanner
from llm.messages import Message, Reply

CHECK = Message("user", "Check your answer for mistakes, then give the answer again, corrected where it was wrong.")


class SecondOpinion(NativePlanner):
    """As `native`, but the first answer is sent back to be checked; the one after it counts."""

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        decision = super().decide(conversation, reply)
        if isinstance(decision, Answer) and CHECK not in conversation:
            return AskModel(CHECK)
        return decision
