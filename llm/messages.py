"""What goes to a model and what comes back: the words that every provider's dialect is translated into."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Content = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One tool call that a model asks for.

    `arguments` is None when what the model wrote could not be read as a JSON object; then `error` says why
    and `raw` holds what it wrote.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    error: str = ""
    raw: str = ""

    def to_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": self.id, "name": self.name, "arguments": self.arguments}
        if self.arguments is None:
            shown |= {"error": self.error, "raw": self.raw}
        return shown

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolRequest:
        return cls(data["id"], data["name"], data["arguments"], data.get("error", ""), data.get("raw", ""))


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation. `tool_call_id` names the request that a `tool` message answers.

    `failed` says to the planner, and to nobody else, that the call it tells of failed.
    """

    role: Role
    content: Content
    tool_requests: tuple[ToolRequest, ...] = ()
    tool_call_id: str = ""
    failed: bool = False

    def to_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_requests:
            shown["tool_calls"] = [request.to_json() for request in self.tool_requests]
        if self.tool_call_id:
            shown["tool_call_id"] = self.tool_call_id
        return shown

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        requests = tuple(ToolRequest.from_json(item) for item in data.get("tool_calls", ()))
        return cls(data["role"], data["content"], requests, data.get("tool_call_id", ""))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it; `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and money of one or more calls. `cost_usd` is None when a price is unknown, never 0 instead.

    `input_tokens` are all of the prompt; `cached_tokens` of them were read from the provider's prompt cache and
    `cache_write_tokens` of them written to it.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = Decimal(0)
    cached_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            None if unknown else self.cost_usd + other.cost_usd,  # type: ignore[operator]
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a model call: when (RFC 3339, UTC), how long, on which model, and why it failed, or None.

    `wait_seconds` is what was waited after it before the next one, 0 when another model was asked at once, None after
    the last. `skipped` counts how often the model was passed over without being asked, `error` says why; 0 is a try.
    `code` is the error's word in the ledger.
    """

    started_at: str
    seconds: float
    error: str | None = None
    model: str = ""
    wait_seconds: float | None = None
    skipped: int = 0
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        wait = None if self.wait_seconds is None else round(self.wait_seconds, 3)
        shown = {"started_at": self.started_at, "seconds": round(self.seconds, 3), "error": self.error,
                 "model": self.model, "wait_seconds": wait}  # fmt: skip
        return shown | ({"skipped": self.skipped} if self.skipped else {}) | ({"code": self.code} if self.code else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attempt:
        return cls(data["started_at"], data["seconds"], data["error"], data.get("model", ""),
                   data.get("wait_seconds"), data.get("skipped", 0), data.get("code", ""))  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is called, from an agent's configuration. None leaves the provider's default.

    `stop_if_known` are further stop sequences, left out for a model that has none or too few.
    """

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_if_known: tuple[str, ...] = ()
    call_timeout_seconds: float | None = None
    api_base: str = ""
    credential: str = ""  # the label of a provider row; '' takes the key from the environment
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    response_format: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call as the planner wants it.

    `tried` is the number of attempts that earlier calls of the same task have made: the scripted model plays
    entry `tried` next. `seconds_left` caps the call and all its attempts. `output_schema` is the JSON Schema of the
    final answer, sent where `llm.abilities.answers_by_schema`. `fallbacks` are asked in order when the first model
    cannot answer; those in `barred` are passed over, for the reason given there. `earlier` are attempts at this very
    call, made before it was put off: they count. `words_only`: tools are offered so that the conversation can be told,
    and none is to be called. `may_repeat(billed)` is asked before another attempt, when those that failed were billed:
    is the money there?
    """

    settings: ModelSettings
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tried: int = 0
    seconds_left: float = float("inf")
    output_schema: Mapping[str, Any] | None = None
    fallbacks: tuple[ModelSettings, ...] = ()
    earlier: tuple[Attempt, ...] = ()
    barred: Mapping[str, str] = field(default_factory=dict)
    words_only: bool = False
    may_repeat: Callable[[Usage], bool] = lambda billed: True


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text, as it comes."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered. `finish_reason`: stop, length, tool_calls, content_filter."""

    text: str
    tool_requests: tuple[ToolRequest, ...] = ()
    finish_reason: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    attempts: tuple[Attempt, ...] = ()
    simulated: bool = False

    def message(self) -> Message:
        return Message("assistant", self.text, self.tool_requests)
