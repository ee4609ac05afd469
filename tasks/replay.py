"""Between a step's row and what the loop speaks of: a recorded reply read back, one-line summaries."""
from __future__ import annotations

import json
from typing import Any

from agents.contract import Observation
from llm.messages import Attempt, Reply, ToolRequest, Usage
from tasks.models import Step

SUMMARY_CHARS = 200


def reply_of(step: Step) -> Reply:
    """The reply that a finished model step holds."""
    output = step.output
    return Reply(
        text=output["text"],
        tool_requests=tuple(ToolRequest.from_json(call) for call in output["tool_calls"]),
        finish_reason=output["finish_reason"],
        usage=Usage(step.input_tokens, step.output_tokens, step.cost_usd),
        model=step.model or "",
        attempts=tuple(Attempt.from_json(item) for item in step.attempts),
        simulated=step.simulated,
    )


def summary_of_reply(reply: Reply) -> str:
    """What the model answered, in one line: its tool calls, else its words."""
    calls = ", ".join(_call(request) for request in reply.tool_requests)
    return one_line(f"→ {calls}" if calls else reply.text)


def summary_of_call(request: ToolRequest, seen: Observation) -> str:
    """What a tool was given and gave, in one line: `add_numbers(a=5, b=3) → {"sum": 8}`."""
    return one_line(f"{_call(request)} → {seen.error or _json(seen.output)}")


def one_line(text: str) -> str:
    """The text with its white space folded, at most 200 characters."""
    folded = " ".join(text[: SUMMARY_CHARS * 4].split())
    return folded if len(folded) <= SUMMARY_CHARS else folded[: SUMMARY_CHARS - 1] + "…"


def _call(request: ToolRequest) -> str:
    if request.arguments is None:
        return f"{request.name}(unreadable arguments)"
    return f"{request.name}({', '.join(f'{key}={_json(value)}' for key, value in request.arguments.items())})"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
