"""A task's steps as a person reads them: what was said, what the model wanted, what the tools brought."""
from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from tasks.models import Step, Task
from tasks.states import StepKind, StepStatus

SHOWN_CHARS = 900  # of a text before it is folded
SHORT_CHARS = 90  # of JSON that fits one line
KEPT_CHARS = 20_000  # of a folded text; the step's own page has the rest
WHO = {"system": "Instructions", "user": "User", "assistant": "Agent"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text that may be long: `head` is always shown, `rest` on demand; `cut` characters are left out."""

    head: str
    rest: str = ""
    cut: int = 0

    @classmethod
    def of(cls, text: str) -> Text:
        if len(text) <= SHOWN_CHARS:
            return cls(text)
        place = text.rfind("\n", SHOWN_CHARS // 2, SHOWN_CHARS)
        place = place if place > 0 else SHOWN_CHARS
        return cls(text[:place], text[place:KEPT_CHARS], max(0, len(text) - KEPT_CHARS))

    def __bool__(self) -> bool:
        return bool(self.head)


@dataclass(frozen=True, slots=True)
class Entry:
    """One turn of the transcript. `role`: system, user, assistant or tool. `calls` are (name, arguments)."""

    role: str
    who: str
    text: Text
    calls: tuple[tuple[str, Text], ...] = ()
    error: str = ""
    step: Step | None = None

    @property
    def running(self) -> bool:
        return self.step is not None and self.step.status == StepStatus.STARTED

    @property
    def cost(self) -> str:
        return money(self.step.cost_usd) if self.step else ""

    @property
    def tries(self) -> list[Try]:
        """The attempts of a call that was made more than once or failed."""
        attempts = self.step.attempts if self.step else []
        told = attempts if len(attempts) > 1 or (attempts and attempts[0].get("error")) else []
        return list(_tries(told))


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt in words: which and on what model, why it failed, how long it took and what was waited then."""

    title: str
    error: str
    after: str


def _tries(attempts: Iterable[Mapping[str, Any]]) -> Iterator[Try]:
    number = 0
    for made in attempts:
        model, wait = made.get("model", ""), made.get("wait_seconds")
        if made.get("skipped"):
            times = f", {made['skipped']} times" if made["skipped"] > 1 else ""
            title, took = f"Not asked: {model}{times}", ""
        else:
            number += 1
            title, took = f"Attempt {number}{f' on {model}' if model else ''}", f" ({made['seconds']} s)"
        waited = "" if wait is None else f"; then a wait of {wait:.1f} s" if wait else "; then the next model was asked"
        yield Try(title, made.get("error") or "", took + waited)


def entries(task: Task, steps: Iterable[Step]) -> Iterator[Entry]:
    """The transcript in reading order; before the first step it is what was asked. Does not query."""
    started = False
    for step in steps:
        if step.kind == StepKind.LLM:
            yield from _said(step.input, opening=not started)
            yield _reply(step)
        else:
            yield _result(step)
        started = True
    if not started:
        yield from _asked(task.input_data)


def indented(value: Any) -> str:
    """JSON to be read: without escapes, indented unless it is short, cut after `KEPT_CHARS`."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= SHORT_CHARS:
        return text
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return text if len(text) <= KEPT_CHARS else f"{text[:KEPT_CHARS]}\n… {len(text) - KEPT_CHARS:,} more characters"


def money(cost: Decimal | None) -> str:
    """Dollars to six places without trailing zeros: `$0.00142`; an unknown price is said, never shown as 0."""
    if cost is None:
        return "unknown"
    return f"${cost:.6f}".rstrip("0").rstrip(".")


def short(task_id: str) -> str:
    """The part of an id that people tell apart: when it was made, and its end."""
    return f"{task_id[5:13]}…{task_id[-4:]}"


def duration(start: datetime.datetime | None, end: datetime.datetime | None) -> str:
    """`4.2 s`, `3 min 12 s`, `2 h 5 min`; counts on while there is no end."""
    if start is None:
        return ""
    seconds = ((end or timezone.now()) - start).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def words_of(content: Any) -> str:
    """The text of a message: itself, or its parts with `[image]` and the like for what is not text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        return "" if content is None else indented(content)
    parts = (part if isinstance(part, Mapping) else {"type": "text", "text": str(part)} for part in content)
    return "\n".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]" for part in parts
    )  # fmt: skip


def _said(given: Any, *, opening: bool) -> Iterator[Entry]:
    """The messages that a model step brought into the conversation, but for those that other steps already show.

    What comes as the user's after the opening no person said: it is a repair turn, or a planner's own words.
    """
    messages = given.get("messages", ()) if isinstance(given, Mapping) else ()
    for message in messages:
        role = message.get("role", "user")
        if role in ("system", "user") or (opening and role == "assistant"):
            who = WHO[role] if opening or role != "user" else "Opspawn"
            yield Entry(role, who, Text.of(words_of(message.get("content"))))


def _reply(step: Step) -> Entry:
    output = step.output if isinstance(step.output, Mapping) else {}
    calls = tuple(
        (str(call.get("name", "")), Text.of(_arguments(call))) for call in output.get("tool_calls") or ()
    )
    return Entry("assistant", "Agent", Text.of(words_of(output.get("text"))), calls, step.error or "", step)


def _arguments(call: Mapping[str, Any]) -> str:
    if call.get("arguments") is None:
        return f"{call.get('error', 'unreadable')}\n{call.get('raw', '')}".strip()
    return json.dumps(call["arguments"], ensure_ascii=False)


def _result(step: Step) -> Entry:
    text = step.output if isinstance(step.output, str) else "" if step.output is None else indented(step.output)
    given = "" if step.input is None else json.dumps(step.input, ensure_ascii=False)
    return Entry("tool", step.name, Text.of(text), (("", Text.of(given)),), step.error or "", step)


def _asked(input_data: Mapping[str, Any]) -> Iterator[Entry]:
    messages = input_data.get("messages")
    if not isinstance(messages, list):
        messages = [{"role": "user", "content": input_data.get("prompt") or input_data.get("goal") or ""}]
    for message in messages:
        role = message.get("role", "user") if isinstance(message, Mapping) else "user"
        content = message.get("content") if isinstance(message, Mapping) else message
        yield Entry(role, WHO.get(role, role), Text.of(words_of(content)))
