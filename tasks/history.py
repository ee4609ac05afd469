"""The conversation of a task, put together again from its steps."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agents.planners.react import OBSERVATION
from agents.tools.registry import text_of
from tasks.models import Step
from tasks.states import StepKind, StepStatus

SETTLED = (StepStatus.DONE, StepStatus.FAILED, StepStatus.DENIED)


def memory_history(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Messages `{role, content, tool_calls?, tool_call_id?}` in the order they were said.

    `steps` come by seq. A step that has no end yet adds only what was said to the model before it.
    """
    return [message for step in steps for message in messages_of(step)]


def messages_of(step: Step) -> Iterator[dict[str, Any]]:
    """A model step holds what was said since the step before and its reply; a tool step holds one result."""
    if step.kind == StepKind.LLM:
        yield from step.input["messages"]
        if step.output is not None:
            yield reply(step.output)
    elif step.status in SETTLED:
        yield result(text_of(step.output, step.error), step.call_id)


def result(text: str, call_id: str) -> dict[str, Any]:
    """A call without an id was asked for in words, and told in words."""
    if not call_id:
        return {"role": "user", "content": OBSERVATION + text}
    return {"role": "tool", "content": text, "tool_call_id": call_id}


def reply(output: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": output["text"]}
    return said | {"tool_calls": output["tool_calls"]} if output["tool_calls"] else said
