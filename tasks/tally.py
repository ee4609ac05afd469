"""What steps add up to: on their task's row, and on a step that is made again after an earlier try."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tasks.models import Step
from tasks.moves import Begun, Ended, Plus
from tasks.states import StepStatus


def to_repeat(row: Step) -> bool:
    """A model call that failed without ending its task is made again."""
    return row.kind == "llm" and row.status == StepStatus.FAILED


def is_made_again(row: Step) -> bool:
    """A model step that an earlier try left without an answer: it failed, was put off, or its worker was lost."""
    return row.kind == "llm" and row.status in (StepStatus.FAILED, StepStatus.STARTED)


def with_earlier(recorded: Mapping[int, Step], ended: Ended) -> Ended:
    """A model step that is made again keeps what its earlier tries used."""
    row = recorded.get(ended.seq)
    if row is None or not is_made_again(row):
        return ended
    unknown = ended.cost_usd is None or row.cost_usd is None
    return replace(
        ended, input_tokens=ended.input_tokens + row.input_tokens,
        output_tokens=ended.output_tokens + row.output_tokens,
        cost_usd=None if unknown else format(Decimal(ended.cost_usd or 0) + (row.cost_usd or 0), "f"),
    )  # fmt: skip


def tally(ended: tuple[Ended, ...], begun: tuple[Begun, ...], recorded: Mapping[int, Step]) -> dict[str, Any]:
    """The task's own columns that follow from its steps. `steps_count` is the highest step begun.

    What a step that is made again had used before is in these columns already.
    """
    assign: dict[str, Any] = {}
    if begun:
        assign["steps_count"] = begun[-1].seq
    if ended:
        assign["takeovers"] = 0  # progress was made
    before = [row for step in ended if (row := recorded.get(step.seq)) is not None and is_made_again(row)]
    for column in ("input_tokens", "output_tokens"):
        if total := sum(getattr(step, column) for step in ended) - sum(getattr(row, column) for row in before):
            assign[column] = Plus(total)
    costs = [step.cost_usd for step in ended]
    if None in costs:
        assign["cost_usd"] = None
    elif cost := sum(Decimal(cost) for cost in costs if cost) - sum(row.cost_usd or 0 for row in before):
        assign["cost_usd"] = Plus(cost)
    return assign
