"""The words of the thinking part: what a planner decides, what the world answers, how a run ends.

Nothing here knows Django, Celery or LiteLLM. The two doors to the world are handed in: `Ask` (one model
call) and `Act` (one tool call). Whoever hands them in journals them; a replayed step answers what it
answered before.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal

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
    """The planner wants a model call on this conversation, `nudge` added to it first.

    With `words_only` the reply is to be words, not the answer: no tool may be called and no schema binds it.
    """

    nudge: Message | None = None
    words_only: bool = False


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


class Planner(ABC):
    """Decides the next move from the conversation alone: pure functions, the same after a takeover.

    Made anew for each run, with the tools that its agent has. Whatever it keeps is lost with its worker: what it has
    to know stands in the conversation.
    """

    asks_model: ClassVar[bool] = True
    in_words: ClassVar[bool] = False  # `brief` tells the model its tools and the schema, not the provider's own means
    stop: ClassVar[tuple[str, ...]] = ()  # sequences that end a reply, where the model knows such

    def __init__(self, tools: tuple[ToolSpec, ...] = ()) -> None:
        self.tools = tools
        self.names = frozenset(tool.name for tool in tools)

    def brief(self, output_schema: Mapping[str, Any] | None) -> str:
        """What follows the agent's own instructions."""
        return ""

    @abstractmethod
    def decide(self, conversation: tuple[Message, ...], reply: Reply | None) -> Decision:
        """`reply` is the model's last reply when the conversation ends with it, else None."""

    def remember(self, conversation: tuple[Message, ...], reply: Reply) -> Message:
        """The reply as the conversation goes on with it; `conversation` ends before it."""
        return reply.message()

    def observe(self, request: ToolRequest, observation: Observation) -> Message:
        """The message that tells the model what its tool call brought."""
        return Message("tool", observation.text, tool_call_id=request.id, failed=observation.failed)


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
    """One model call as the loop wants it. `fresh` are the messages that no step has journaled yet.

    `tools` are offered by the provider's means, and not to be called in a turn of `words_only`; `output_schema` binds
    the reply.
    """

    messages: tuple[Message, ...]
    fresh: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    max_output_tokens: int | None
    seconds_left: float
    words_only: bool = False
    output_schema: Mapping[str, Any] | None = None


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

