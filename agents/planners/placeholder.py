"""The placeholder planner: answers at once without a model, to try the way through the fleet."""
from __future__ import annotations

from agents.contract import Answer, Decision, Planner
from llm.messages import Content, Message, Reply

LABEL = "[placeholder answer, no model was called]"


class PlaceholderPlanner(Planner):
    """Completes with a labelled text that repeats the goal: the last thing the user said."""

    asks_model = False

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        asked = [message.content for message in conversation if message.role == "user"]
        return Answer(f"{LABEL} Goal: {_words(asked[-1]) if asked else '(none given)'}")


def _words(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part["text"]) if part.get("type") == "text" else f"({part.get('type')})" for part in content)
