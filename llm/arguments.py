"""Reads the arguments of a tool call as models write them: mends what is safe to mend, refuses the rest."""
from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from llm.messages import ToolRequest
from llm.storable import clean, clean_json

RAW_MAX_CHARS = 20_000  # of what could not be read, kept for people to look at
MENDED_MAX_CHARS = 1_000_000  # longer text is read as it is, or not at all

# A string, closed or not, or a comma before the end. Possessive, so that nothing is looked at twice.
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]++|\\.?+)*+"?+)|,(\s*+[}\]])', re.S)


class Unreadable(Exception):
    """The arguments are not a JSON object."""


def request(call_id: str, name: str, arguments: Any) -> ToolRequest:
    """A tool call as the loop wants it; one that cannot be read says why instead of holding arguments."""
    try:
        return ToolRequest(clean(call_id), clean(name), read(arguments))
    except Unreadable as unreadable:
        raw = arguments if isinstance(arguments, str) else repr(arguments)
        return ToolRequest(clean(call_id), clean(name), None, clean(str(unreadable)), clean(raw)[:RAW_MAX_CHARS])


def read(arguments: Any) -> dict[str, Any]:
    """The arguments as an object: given as one, as its JSON text, or as that text in a JSON string once more.

    Nothing at all is `{}`; a trailing comma is mended in up to MENDED_MAX_CHARS characters; NUL and lone surrogates
    become U+FFFD. Text that is cut short, and any value that is no object, raises Unreadable.
    """
    value = _parse(arguments) if isinstance(arguments, str) else arguments
    if isinstance(value, str):
        value = _parse(value)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"the arguments are {_kind(value)}; write one JSON object")
    try:
        cleaned: dict[str, Any] = clean_json(value)
    except RecursionError:
        raise Unreadable("the arguments are nested too deep; write a flatter JSON object") from None
    return cleaned


def _parse(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return _loads(text)
    except ValueError as first:
        try:
            return _loads(_mended(text))
        except ValueError:
            message = f"the arguments are not valid JSON or were cut short ({first}); write one complete JSON object"
            raise Unreadable(message) from None
    except RecursionError:
        raise Unreadable("the arguments are nested too deep; write a flatter JSON object") from None


def _loads(text: str) -> Any:
    """Strict JSON but for raw line breaks inside strings, which models write; NaN and Infinity cannot be stored."""
    return json.loads(text, strict=False, parse_constant=_refused, parse_float=_finite)


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _mended(text: str) -> str:
    """Without trailing commas. Linear in the text."""
    return _TRAILING_COMMA.sub(_without_comma, text) if len(text) <= MENDED_MAX_CHARS else text


def _without_comma(match: re.Match[str]) -> str:
    return match.group(1) or match.group(2)


def _kind(value: Any) -> str:
    return {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}.get(
        type(value), type(value).__name__
    )
