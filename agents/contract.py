"""The words of the thinking part: what a planner decides, what the world answers, how a run ends.

Nothing here knows Django, Celery or LiteLLM. The two doors to the world are handed in: `Ask` (one model
call) and `Act` (one tool call). Whoever hands them in journals them; a replayed step answers what it
answered before.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from llm.messages import Message, ModelSettings, Reply, ToolRequest, ToolSpec

Effect = Literal["none", "idempotent", "keyed", "once"]

Probe = Callable[[dict[str, Any], str], tuple[bool, Any]]
"""Given the arguments and the key of an interrupted call: whether it happened, and its result. Raises when unsure."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one run. `max_steps` counts steps of both kinds; None is no bound."""

    max_steps: int = 50
    timeout_seconds: float = 600.0
    max_tool_calls: int | None = None
    max_tokens: int | None = None
    max_cost_usd: Decimal | None = None
    on_budget: Literal["wait", "fail"] = "wait"  # what a budget that is spent does to the task


@dataclass(frozen=True, slots=True)
class AskModel:
    """The planner wants a model call on this conversation. `nudge` is added to it first (a repair turn)."""

    nudge: Message | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The planner wants these tools called; results are observed in this order."""

    requests: tuple[ToolRequest, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The planner is done."""

    text: str


@dataclass(frozen=True, slots=True)
class Unplannable:
    """The planner cannot go on: the reply is unreadable or empty after one repair turn, or was filtered."""

    error_code: str
    detail: str


Decision = AskModel | ToolUse | Answer | Unplannable


class Planner(Protocol):
    """Decides the next move from the conversation alone: a pure function, the same after a takeover."""

    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        """`reply` is the model's last reply when the conversation ends with it, else None."""
        ...

    def observe(self, request: ToolRequest, observation: Observation) -> Message:
        """The message that tells the model what its tool call brought."""
        ...


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tool call brought. `output` is any JSON value; `error` is set when the call failed.

    `text` is what the model reads.
    """

    output: Any = None
    error: str = ""
    text: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. Nothing is inferred from text: `status` says it."""

    status: Literal["completed", "failed"]
    answer: Any = None
    error_code: str = ""
    detail: str = ""

    @classmethod
    def failed(cls, error_code: str, detail: str) -> Outcome:
        return cls("failed", None, error_code, detail)


@dataclass(frozen=True, slots=True)
class Turn:
    """One model call as the loop wants it. `fresh` are the messages that no step has journaled yet."""

    messages: tuple[Message, ...]
    fresh: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    max_output_tokens: int | None
    seconds_left: float


Ask = Callable[[Turn], Reply]
"""One model call. Raises llm.errors.ModelError when it failed for good."""

Act = Callable[[ToolRequest, float], Observation]
"""One tool call with the seconds left to the task. A tool's own failure is an Observation, never an exception."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything the loop needs: who plans, what is said first, the doors, the bounds.

    `seconds_left()` is the task's remaining running time; `check()` raises when the run must stop here
    (cancelled, taken over, released), and is called at each step boundary. The answer has to fit `output_schema`.
    """

    planner: Planner
    opening: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    ask: Ask
    act: Act
    limits: Limits
    seconds_left: Callable[[], float]
    check: Callable[[], None]
    max_output_tokens: int | None = None
    output_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Assembled:
    """An agent ready to run: its planner, opening words, model and tools, from a version and a task's overrides.

    `fallbacks` are asked in order when the model cannot answer; `output_schema` is the JSON Schema of the answer.
    """

    planner: Planner
    opening: tuple[Message, ...]
    settings: ModelSettings
    tools: tuple[ToolSpec, ...]
    limits: Limits
    fallbacks: tuple[ModelSettings, ...] = ()
    output_schema: Mapping[str, Any] | None = None


class AgentInvalid(Exception):
    """The agent's configuration cannot be run."""

