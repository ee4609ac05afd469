"""Reads what a model writes under the `react` protocol: one tool call, a final answer, or neither.

`Thought:`, then `Action: NAME` and `Action Input: {JSON}`, or `Final Answer:` and everything after it. Models also
fence the JSON, print it over lines, set labels in bold, put everything on one line, and make up observations: the
first action or answer counts, and what follows an action is not read. The first Opspawn wrote
`Action: Tool Name: NAME Input: {JSON}` and `Action: Final Answer: …`.
"""
from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm.arguments import Unreadable as NotAnObject
from llm.arguments import read as read_arguments
from llm.arguments import request as requested
from llm.messages import ToolRequest

MAX_NAME_CHARS = 100
NO_TOOL = frozenset({"none", "n/a", "na", "no action", "nothing", "no tool"})
CUT_SHORT = "the reply was cut short before its arguments"

_LABELS = r"(thought|action[ _]input|action|observation|final[ _]answer)"
_LABEL = re.compile(rf"^[ \t>#*_-]*{_LABELS}[ \t\d*_]*:", re.I | re.M)
_INLINE = re.compile(r"\b(Action Input|Action|Observation|Final Answer):")  # all on one line; as it is written only
_INPUT = re.compile(r"(?:^[ \t>#*_-]*|(?<=\s))(?:action[ _])?input[ \t\d*_]*:", re.I | re.M)
_FINAL = re.compile(r"[\s*]*final[ _]answer\b[ \t*]*:?", re.I)
_TOOL_NAME = re.compile(r"\s*tool[ _]name[ \t]*:", re.I)
_FENCE = re.compile(r"\s*`{3,}[ \t]*[\w+-]*[ \t]*(?:\r?\n)?")
_FENCE_END = re.compile(r"\s*`{3,}")
_CALL = re.compile(r"([\w.-]+)\((.*)\)\s*\Z", re.S)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)|[{}\[\]]', re.S)

_NAMES = ("action", "tool", "tool_name", "name")
_INPUTS = ("action_input", "input", "tool_input", "arguments", "parameters", "args")


@dataclass(frozen=True, slots=True)
class Final:
    """The answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; the reply is taken up to `end`."""

    request: ToolRequest
    end: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Neither; `reason` is told to the model."""

    reason: str


Read = Final | Call | Unreadable


def read(text: str, *, cut: bool = False) -> Read:
    """What the reply asks for. `cut` says that the model was stopped by its length: what is missing is not guessed."""
    for label, start, end in _labels(text):
        if label == "final answer":
            return _final(text, start, end)
        if label == "action":
            return _action(text, end, cut)
        if label == "observation" and text[:start].strip():
            return Unreadable("it makes up an observation: results are given to you, never write them")
    return Unreadable("it has neither an Action nor a Final Answer" if text.strip() else "it is empty")


def _labels(text: str) -> Iterator[tuple[str, int, int]]:
    """Each label with its start and end; those at a line's beginning, or else those within a line."""
    found = list(_labelled(_LABEL, text))
    return iter(found if any(_decides(label) for label, _, _ in found) else list(_labelled(_INLINE, text)))


def _labelled(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, int, int]]:
    for match in pattern.finditer(text):
        yield match[1].lower().replace("_", " "), match.start(), match.end()


def _decides(label: str) -> bool:
    return label in ("action", "final answer")


def _final(text: str, start: int, end: int) -> Read:
    """Everything after the label. Of `**Final Answer: 8**` and `**Final Answer:** 8` the bold is the label's."""
    said = text[end:].strip()
    if "**" in text[start:end] and said.count("**") % 2:
        said = said.removeprefix("**") if said.startswith("**") else said.removesuffix("**")
    said = said.strip()
    return Final(said) if said else Unreadable("its Final Answer is empty")


def _action(text: str, start: int, cut: bool) -> Read:
    """What follows `Action:`."""
    if found := _FINAL.match(text, start):
        given = _INPUT.match(text, _skip(text, found.end()))
        return _final(text, start, given.end() if given else found.end())
    if found := _TOOL_NAME.match(text, start):
        start = found.end()
    start = _skip(text, start)
    fence = _FENCE.match(text, start)
    inside = _skip(text, fence.end() if fence else start)
    if text.startswith("{", inside):
        return _blob(text, inside, cut)
    return _named(text, start, cut)


def _named(text: str, start: int, cut: bool) -> Read:
    """`NAME`, and its input on the same line or a later one."""
    stop = next((begins for _, begins, _ in _labelled(_LABEL, text[start:]) if begins), len(text) - start) + start
    given = _INPUT.search(text, start)
    line = text.find("\n", start)
    ends = min(stop if line < 0 else line, given.start() if given else stop)
    name, written = _name(text[start:ends]), ""
    if given and _before_the_next(text, start, given):
        return _called(text, name, given.end(), cut)
    if found := _CALL.match(text[start:ends].strip()):
        name, written = found[1], found[2]
    elif name.lower() in NO_TOOL:
        return _answered_after(text, ends)
    elif cut:
        return Call(ToolRequest("", name, None, CUT_SHORT), ends)
    return _checked(name, Call(requested("", name, written), ends))


def _before_the_next(text: str, start: int, given: re.Match[str]) -> bool:
    """Whether the input belongs to this action: no other label stands between them."""
    return not any(label != "action input" for label, _, _ in _labelled(_LABEL, text[start : given.start()]))


def _answered_after(text: str, start: int) -> Read:
    """`Action: None` and then a final answer."""
    following = [(label, start + begins, start + ends) for label, begins, ends in _labelled(_LABEL, text[start:])]
    for label, begins, ends in following:
        if label == "final answer":
            return _final(text, begins, ends)
        if label in ("action", "observation"):
            break
    return Unreadable("its Action names no tool, and it has no Final Answer")


def _called(text: str, name: str, start: int, cut: bool) -> Read:
    """The input: the JSON value that it begins with, or all of it up to the next label."""
    if name.lower() in NO_TOOL:
        return _answered_after(text, start)
    start = _skip(text, start)
    fence = _FENCE.match(text, start)
    begins = _skip(text, fence.end() if fence else start)
    ends = _extent(text, begins)
    if ends is None:
        upto = next((at for _, at, _ in _labelled(_LABEL, text[begins:])), len(text) - begins) + begins
        brace = text.find("{", begins, upto)  # words before it
        begins = brace if brace >= 0 else begins
        ends = _extent(text, begins) or upto
    written = text[begins:ends].strip(" \t\r\n*`")
    if cut and not written:
        return Call(ToolRequest("", name, None, CUT_SHORT), ends)
    request = requested("", name, "{}" if written.lower() in NO_TOOL else written)
    closing = _FENCE_END.match(text, ends) if fence else None
    return _checked(name, Call(request, closing.end() if closing else ends))


def _blob(text: str, start: int, cut: bool) -> Read:
    """`{"action": NAME, "action_input": {…}}` in place of both lines."""
    ends = _extent(text, start)
    try:
        value = read_arguments(text[start : ends or len(text)])
    except NotAnObject as error:
        return Unreadable(f"its Action is not readable: {error}")
    name, given = _first(value, _NAMES), _first(value, _INPUTS)
    if not isinstance(name, str):
        return Unreadable("its Action names no tool")
    if _FINAL.fullmatch(name):
        said = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        return Final(said) if said.strip() else Unreadable("its Final Answer is empty")
    return _checked(name, Call(requested("", name, given), ends or len(text)))


def _checked(name: str, call: Call) -> Read:
    if not name or len(name) > MAX_NAME_CHARS or len(name.split()) > 1:
        return Unreadable("its Action names no tool")
    return call


def _first(value: Mapping[str, object], keys: tuple[str, ...]) -> object:
    return next((value[key] for key in keys if key in value), None)


def _name(written: str) -> str:
    return written.strip().strip("`\"'*[]<>").strip().removesuffix("()").rstrip(".:,")


def _skip(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \t\r\n*":
        start += 1
    return start


def _extent(text: str, start: int) -> int | None:
    """Where the JSON object, list or string that begins here ends; None when none does, or it does not end."""
    if not text.startswith(("{", "[", '"'), start):
        return None
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in ("{", "["):
            depth += 1
        elif token[0] in ("}", "]"):
            depth -= 1
        if depth == 0:
            return token.end()
    return None
