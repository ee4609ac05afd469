"""How a task begins: what its input may say, and the first messages that it becomes."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.errors import FieldProblem
from agents.strict import Problems, Rule, at, choice, each, either, shown, table, text, wrong_type
from llm.messages import Message

WAYS = ("prompt", "goal", "messages")
MAX_MESSAGES = 10_000
IMAGE_STARTS = ("https://", "data:image/")


def _picture() -> Rule:
    words = text(1, needs="give an address")

    def check(value: Any, pointer: str) -> Problems:
        if problems := words.check(value, pointer):
            return problems
        if value.startswith(IMAGE_STARTS):
            return []
        return wrong_type(pointer, value, "an address that begins with https:// or data:image/")

    return Rule({**words.schema, "format": "uri"}, check)


_SAID = text(1, needs="say something")
_IMAGE = table({"url": _picture(), "detail": choice(("auto", "low", "high"))}, ("url",))
PARTS = {
    "text": table({"type": choice(("text",)), "text": _SAID}, ("type", "text")),
    "image_url": table({"type": choice(("image_url",)), "image_url": _IMAGE}, ("type", "image_url")),
}


def _part() -> Rule:
    """A part of a message as OpenAI's chat API has it: text, or an image by its address."""

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, dict):
            return wrong_type(pointer, value, "an object with a type")
        kind = value.get("type")
        if isinstance(kind, str) and kind in PARTS:
            return PARTS[kind].check(value, pointer)
        detail = f"{shown(kind)} is not a type of part; use {' or '.join(PARTS)}."
        return [FieldProblem(at(pointer, "type"), "unknown_value", detail)]

    return Rule({"anyOf": [dict(part.schema) for part in PARTS.values()]}, check)


_MESSAGE = table(
    {"role": choice(("user", "assistant", "system")), "content": either(_SAID, each(_part(), 1, 1000))},
    ("role", "content"),
)
RULES = {"prompt": _SAID, "goal": _SAID, "messages": each(_MESSAGE, 1, MAX_MESSAGES)}


def schema(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of `input_data`, given that of the `agent_config` inside it."""
    properties = {name: dict(rule.schema) for name, rule in RULES.items()} | {"agent_config": dict(overrides)}
    one = [{"required": [way]} for way in WAYS]
    return {"type": "object", "properties": properties, "oneOf": one, "additionalProperties": True}


def check(input_data: Any, pointer: str) -> Problems:
    """What is wrong with the way a task begins; further keys are the agent's."""
    if not isinstance(input_data, dict):
        return wrong_type(pointer, input_data, "an object with a prompt, a goal or messages")
    given = [way for way in WAYS if way in input_data]
    if not given:
        return [FieldProblem(pointer, "required", f"It says nothing; give one of {', '.join(WAYS)}.")]
    if len(given) > 1:
        return [FieldProblem(at(pointer, way), "ambiguous", f"Give one of {', '.join(given)}, not several.")
                for way in given[1:]]  # fmt: skip
    return RULES[given[0]].check(input_data[given[0]], at(pointer, given[0]))


def messages(instructions: str, input_data: Mapping[str, Any]) -> tuple[Message, ...]:
    """The agent's instructions, when it has some, and then what the task says. Expects checked input."""
    system = (Message("system", instructions),) if instructions.strip() else ()
    if "messages" in input_data:
        return system + tuple(Message(said["role"], said["content"]) for said in input_data["messages"])
    return (*system, Message("user", input_data["prompt"] if "prompt" in input_data else input_data["goal"]))
