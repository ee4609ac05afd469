"""The scripted model: plays written answers, so that demos and tests need no key and are the same every time."""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm import arguments, prices, providers, tokens
from llm.errors import (
    Abandoned,
    AuthRefused,
    BadOptions,
    Malformed,
    ModelError,
    ModelTimeout,
    RateLimited,
    ServerFailed,
    UnknownModel,
)
from llm.messages import Delta, Message, ModelCall, Reply, Usage
from llm.pause import pause
from llm.storable import clean

NAMES = ("list", "echo")
ERRORS: dict[str, type[ModelError]] = {
    "rate_limited": RateLimited,
    "timeout": ModelTimeout,
    "server": ServerFailed,
    "auth": AuthRefused,
    "malformed": Malformed,
}
MAX_DELAY_SECONDS = 3600
PIECES = 8


class ScriptEnded(ModelError):
    """The script has no more entries."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one model call answers: a text, tool calls as (name, arguments), or an error."""

    text: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    error: str = ""
    delay_seconds: float = 0.0


def entries(name: str, options: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The checked script of `scripted/<name>`. Raises UnknownModel, or BadOptions naming the entry."""
    if name not in NAMES:
        raise UnknownModel(f"model 'scripted/{name}' does not exist: there are scripted/list and scripted/echo")
    for option in options:
        if option != "script":
            raise BadOptions(f"provider_options.{option}: scripted/{name} does not know it")
    if name == "echo":  # a task may echo on an agent that has a script
        return ()
    script = options.get("script")
    if not isinstance(script, Sequence) or isinstance(script, str):
        raise BadOptions("provider_options.script: scripted/list needs a list of entries")
    return tuple(_entry(written, f"provider_options.script[{index}]") for index, written in enumerate(script))


def play(
    call: ModelCall,
    script: tuple[Entry, ...],
    made: int,
    timeout_seconds: float,
    should_stop: Callable[[], bool],
    on_delta: Callable[[Delta], None] | None = None,
) -> Reply:
    """One attempt, the `made`-th (from 0) of this call. Raises the ModelError that the entry asks for.

    Its text is said to `on_delta` in a few pieces, spread over the entry's delay.
    """
    echoes = providers.split(call.settings.model)[1] == "echo"
    entry = Entry(_last_user_text(call.messages)) if echoes else _chosen(script, call.tried, made)
    pieces = _pieces(clean(entry.text)) if on_delta and not entry.error else [""]
    for piece in pieces:
        if not pause(min(entry.delay_seconds, timeout_seconds) / len(pieces), should_stop):
            raise Abandoned
        if piece and on_delta:
            on_delta(Delta(piece))
    if entry.delay_seconds > timeout_seconds:
        raise ModelTimeout(f"{call.settings.model} did not answer within {timeout_seconds:g} seconds")
    if entry.error:
        raise ERRORS[entry.error](f"{call.settings.model} was told to fail with {entry.error!r}")
    return _reply(call, entry)


def _pieces(text: str) -> list[str]:
    """At most PIECES of about the same length, cut before spaces; at least one."""
    words = re.findall(r"\s*\S+|\s+$", text) or [""]
    size = -(-len(words) // PIECES)
    return ["".join(words[at : at + size]) for at in range(0, len(words), size)]


def _chosen(script: tuple[Entry, ...], tried: int, made: int) -> Entry:
    """Each attempt plays the next entry; a retry past the end repeats the last one, which is the error retried."""
    if tried >= len(script):
        entries_said = f"{len(script)} {'entry' if len(script) == 1 else 'entries'}"
        raise ScriptEnded(f"the script has {entries_said}: there is none for call {tried + 1}")
    return script[min(tried + made, len(script) - 1)]


def _reply(call: ModelCall, entry: Entry) -> Reply:
    requests = tuple(
        arguments.request(f"call_{call.tried}_{index}", name, given) for index, (name, given) in enumerate(entry.calls)
    )
    text = clean(entry.text)
    counted = Usage(tokens.of_input(call.messages, call.tools), tokens.of_output(text, requests))
    usage = replace(counted, cost_usd=prices.cost_usd(call.settings.model, counted))
    finish = "tool_calls" if requests else "stop"
    return Reply(text, requests, finish, usage, call.settings.model, simulated=True)


def _last_user_text(messages: Sequence[Message]) -> str:
    said = [message.content for message in messages if message.role == "user"]
    if not said or isinstance(said[-1], str):
        return said[-1] if said else ""  # type: ignore[return-value]
    return "\n".join(part.get("text", "") for part in said[-1] if part.get("type") == "text")


def _entry(written: Any, where: str) -> Entry:
    if not isinstance(written, Mapping):
        raise BadOptions(f"{where}: an entry is an object with text, tool_calls or error")
    unknown = set(written) - {"text", "tool_calls", "error", "delay_seconds"}
    if unknown:
        raise BadOptions(f"{where}: {sorted(unknown)[0]!r} is unknown; use text, tool_calls, error, delay_seconds")
    if ("error" in written) == bool({"text", "tool_calls"} & set(written)):
        raise BadOptions(f"{where}: give text, tool_calls or error")
    delay = _delay(written.get("delay_seconds", 0), where)
    if "error" in written:
        if written["error"] not in ERRORS:
            raise BadOptions(f"{where}.error: {written['error']!r} is not one of {', '.join(ERRORS)}")
        return Entry(error=written["error"], delay_seconds=delay)
    text = written.get("text", "")
    if not isinstance(text, str):
        raise BadOptions(f"{where}.text: {text!r} is not a string")
    return Entry(text, _calls(written, where), delay_seconds=delay)


def _delay(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_DELAY_SECONDS:
        raise BadOptions(f"{where}.delay_seconds: {value!r} is not a number from 0 to {MAX_DELAY_SECONDS}")
    return float(value)


def _calls(written: Mapping[str, Any], where: str) -> tuple[tuple[str, Any], ...]:
    if "tool_calls" not in written:
        return ()
    listed = written["tool_calls"]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise BadOptions(f"{where}.tool_calls: write a list of {{name, arguments}}")
    return tuple(_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(listed))


def _call(call: Any, where: str) -> tuple[str, Any]:
    """One tool call; arguments in a string are read as a provider's would be, so that a cut-off can be scripted."""
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or set(call) - {"name", "arguments"}:
        raise BadOptions(f"{where}: write {{name, arguments}}, the name a string")
    given = call.get("arguments", {})
    if not isinstance(given, str | Mapping):
        raise BadOptions(f"{where}.arguments: write an object, or a string to be read like a provider's")
    return call["name"], given
