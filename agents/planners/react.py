"""The react planner: thoughts, actions and observations in plain words, for models with and without tool calling."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agents.answers import is_repair
from agents.contract import Answer, AskModel, Decision, Observation, Planner, ToolUse, Unplannable
from agents.planners.faults import filtered, lost
from agents.planners.react_reply import Call, Final, Unreadable, read
from llm.messages import Message, Reply, ToolRequest

OBSERVATION = "Observation: "
UNREAD = "Your last reply could not be read: "  # a repair turn is known by it

WITH_TOOLS = """Work in turns, with these tools:

{tools}

In each turn write one of two things and nothing else. To call one tool:

Thought: what you know, and what you need next
Action: the tool's name
Action Input: its arguments, one JSON object

Its result comes back as "Observation: …"; never write an observation yourself. When you know the answer:

Thought: why this is the answer
Final Answer: the answer, over as many lines as it needs"""
WITHOUT_TOOLS = """You have no tools. Write this and nothing else:

Thought: your reasoning
Final Answer: the answer, over as many lines as it needs"""
SCHEMA = """

What follows "Final Answer:" must be one JSON value that is valid against this JSON Schema, without words around it:
{schema}"""
FORM = (
    'Write either "Action:" with a tool\'s name and "Action Input:" with one JSON object, or "Final Answer:" with the '
    "answer. {tools}"
)


class ReactPlanner(Planner):
    """One action a turn; a reply that cannot be read, or an action that cannot be carried out, gets one more turn."""

    in_words = True
    stop = ("\nObservation:",)

    def brief(self, output_schema: Mapping[str, Any] | None) -> str:
        told = "\n\n".join(f"{tool.name}: {tool.description}\nArguments (JSON Schema): {_json(tool.parameters)}"
                           for tool in self.tools)  # fmt: skip
        words = WITH_TOOLS.format(tools=told) if self.tools else WITHOUT_TOOLS
        return words if output_schema is None else words + SCHEMA.format(schema=_json(output_schema))

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        if reply is None:
            return AskModel()
        said = read(reply.text, cut=reply.finish_reason == "length")
        if isinstance(said, Final):
            return Answer(said.text)
        if isinstance(said, Unreadable):
            return self._unread(conversation, reply, said)
        if lost((said.request,), self.names) and self._was_faulty(conversation):
            return Unplannable("planner_error", f"The model called no tool that can be called, also after it was told: "
                               f"{said.request.error or f'there is no tool {said.request.name!r}'}.")  # fmt: skip
        return ToolUse((said.request,))

    def remember(self, conversation: tuple[Message, ...], reply: Reply) -> Message:
        """Without what follows an action: results that the model made up must not count as results."""
        said = read(reply.text, cut=reply.finish_reason == "length")
        return Message("assistant", reply.text[: said.end] if isinstance(said, Call) else reply.text)

    def observe(self, request: ToolRequest, observation: Observation) -> Message:
        return Message("user", OBSERVATION + observation.text, failed=observation.failed)

    def _unread(self, conversation: tuple[Message, ...], reply: Reply, said: Unreadable) -> Decision:
        if len(conversation) > 1 and is_repair(conversation[-2]) and reply.text.strip():
            return Answer(reply.text)  # it was told to answer with nothing but JSON
        if refused := filtered(reply):
            return refused
        reason = "it calls tools in another way than told" if reply.tool_requests else said.reason
        if self._was_faulty(conversation):
            return Unplannable("planner_error", f"The model's reply could not be read, also after a repair turn: "
                               f"{reason} (finish reason: {reply.finish_reason}).")  # fmt: skip
        listed = f"Your tools: {', '.join(sorted(self.names))}." if self.names else "You have no tools."
        return AskModel(Message("user", f"{UNREAD}{reason}. {FORM.format(tools=listed)}"))

    def _was_faulty(self, conversation: tuple[Message, ...]) -> bool:
        """Whether the last reply answers a repair turn, or a call that could not be carried out."""
        if len(conversation) < 3 or conversation[-3].role != "assistant":
            return False
        before, told = conversation[-3:-1]
        if isinstance(told.content, str) and told.content.startswith(UNREAD):
            return True
        said = read(str(before.content)) if told.failed else None
        return isinstance(said, Call) and lost((said.request,), self.names)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
