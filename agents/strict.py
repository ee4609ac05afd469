"""Strict rules for JSON values: nothing is converted, and every problem has its pointer, its value and its cure."""
from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from agents.errors import FieldProblem

MAX_DEPTH = 100
MAX_INTEGER_BITS = 13_000  # 3913 digits; Python refuses to write more than 4300
MAX_PROBLEMS = 100
MOST_DOLLARS = 10**9
DOLLARS = re.compile(r"\d{1,10}(\.\d{1,10})?\Z", re.ASCII)

Problems = list[FieldProblem]
Path = tuple[Any, ...]  # linked: (path of the parent, key), () at the root


@dataclass(frozen=True)
class Rule:
    """What a value must be: a JSON Schema to show, and the check that finds what is wrong."""

    schema: Mapping[str, Any]
    check: Callable[[Any, str], Problems]


def text(least: int = 0, most: int | None = None, needs: str = "") -> Rule:
    """A string of `least` to `most` characters; with `needs`, the cure to name, it must not be blank either."""
    schema = {"type": "string"} | ({"minLength": least} if least else {}) | ({"maxLength": most} if most else {})

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, str):
            return wrong_type(pointer, value, "a string")
        if len(value) < least or (needs and not value.strip()):
            return [FieldProblem(pointer, "blank", f"It is empty; {needs or 'write something'}.")]
        if most is not None and len(value) > most:
            return [FieldProblem(pointer, "too_long", f"It has {len(value)} characters; use at most {most}.")]
        return []

    return Rule(schema, check)


def whole(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`; true, false and 1.0 are none."""
    return _ranged("integer", "a whole number", lambda value: type(value) is int, low, high)


def number(low: float, high: float) -> Rule:
    """A number from `low` to `high`; true, false and NaN are none."""
    return _ranged("number", "a number", lambda value: type(value) in (int, float), low, high)


def _ranged(kind: str, words: str, fits: Callable[[Any], bool], low: float, high: float) -> Rule:
    cure = f"{words} from {low} to {high}"

    def check(value: Any, pointer: str) -> Problems:
        if not fits(value):
            return wrong_type(pointer, value, cure)
        if not low <= value <= high:
            return [FieldProblem(pointer, "out_of_range", f"{shown(value)} is out of range; use {cure}.")]
        return []

    return Rule({"type": kind, "minimum": low, "maximum": high}, check)


def money(least: Decimal = Decimal("0.0000000001")) -> Rule:
    """US dollars with at most ten decimal places, as a string such as "1.50" or as a number."""
    cure = f'dollars from {least:f} to {MOST_DOLLARS} with at most ten decimal places, such as "1.50"'
    pattern = {"type": "string", "pattern": r"^\d{1,10}(\.\d{1,10})?$"}

    def check(value: Any, pointer: str) -> Problems:
        amount = dollars(value)
        if amount is None:
            return wrong_type(pointer, value, cure)
        if not least <= amount <= MOST_DOLLARS:
            return [FieldProblem(pointer, "out_of_range", f"{shown(value)} is out of range; use {cure}.")]
        return []

    schema = {"anyOf": [pattern, {"type": "number", "minimum": float(least), "maximum": MOST_DOLLARS}]}
    return Rule(schema, check)


def dollars(value: Any) -> Decimal | None:
    """The amount that a string such as "1.50" or a number says, exactly; None when it says none."""
    if isinstance(value, str):
        return Decimal(value) if DOLLARS.match(value) else None
    if type(value) not in (int, float) or value != value:
        return None
    amount = Decimal(str(max(-1, min(value, 2 * MOST_DOLLARS))))  # what is further out of range is as wrong
    return amount if amount == round(amount, 10) else None


def flag() -> Rule:
    return Rule({"type": "boolean"}, lambda value, pointer: (
        [] if isinstance(value, bool) else wrong_type(pointer, value, "true or false")))  # fmt: skip


def choice(options: Iterable[str]) -> Rule:
    known = list(options)

    def check(value: Any, pointer: str) -> Problems:
        if isinstance(value, str) and value in known:
            return []
        return [FieldProblem(pointer, "unknown_value", f"{shown(value)} is not known; use {' or '.join(known)}.")]

    return Rule({"type": "string", "enum": known}, check)


def either(single: Rule, several: Rule) -> Rule:
    """One value, or a list of them."""
    schema = {"anyOf": [dict(single.schema), dict(several.schema)]}
    return Rule(schema, lambda value, pointer: (several if isinstance(value, list) else single).check(value, pointer))


def each(item: Rule, least: int, most: int) -> Rule:
    """A list of `least` to `most` values."""
    schema = {"type": "array", "items": dict(item.schema), "minItems": least, "maxItems": most}

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, list):
            return wrong_type(pointer, value, "a list")
        if not least <= len(value) <= most:
            detail = f"It has {len(value)} entries; use {least} to {most}."
            return [FieldProblem(pointer, "wrong_length", detail)]
        return [problem for n, entry in enumerate(value) for problem in item.check(entry, at(pointer, n))]

    return Rule(schema, check)


def anything() -> Rule:
    """An object with whatever keys."""
    return Rule({"type": "object", "additionalProperties": True}, lambda value, pointer: (
        [] if isinstance(value, dict) else wrong_type(pointer, value, "an object")))  # fmt: skip


def table(fields: Mapping[str, Rule], required: tuple[str, ...] = ()) -> Rule:
    """An object with these keys and no others."""
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
    schema["properties"] = {name: dict(rule.schema) for name, rule in fields.items()}
    if required:
        schema["required"] = list(required)

    def check(value: Any, pointer: str) -> Problems:
        if not isinstance(value, dict):
            return wrong_type(pointer, value, "an object")
        missing = [name for name in required if name not in value]
        problems = [FieldProblem(at(pointer, name), "required", f"{name!r} is missing.") for name in missing]
        for key, inner in value.items():
            rule = fields.get(key)
            problems += rule.check(inner, at(pointer, key)) if rule else unknown(pointer, key, fields)
        return problems

    return Rule(schema, check)


def wrong_type(pointer: str, value: Any, wanted: str) -> Problems:
    return [FieldProblem(pointer, "wrong_type", f"{shown(value)} is not right here; use {wanted}.")]


def unknown(pointer: str, key: Any, known: Iterable[str]) -> Problems:
    detail = f"{shown(key)} is not known here; known are {', '.join(known)}."
    return [FieldProblem(at(pointer, key), "unknown_field", detail)]


def at(pointer: str, key: object) -> str:
    """The pointer one level down (RFC 6901: `~` is written `~0`, `/` is `~1`), as Unicode that can be stored."""
    name = str(key).replace("~", "~0").replace("/", "~1").replace("\0", "\ufffd")
    return f"{pointer}/{name.encode('utf-8', 'replace').decode()}"


def shown(value: Any) -> str:
    """A value as a message quotes it: JSON in at most 80 characters, containers by their kind."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    quoted = json.dumps(value[:80] if isinstance(value, str) else value, default=lambda odd: type(odd).__name__)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def report(problems: Iterable[FieldProblem]) -> Problems:
    """The first problem of each pointer, at most 100 of them."""
    first: dict[str, FieldProblem] = {}
    for problem in problems:
        first.setdefault(problem.pointer, problem)
    return list(first.values())[:MAX_PROBLEMS]


def storable(value: Any, pointer: str) -> Problems:
    """What PostgreSQL and JSON cannot hold: NUL and lone surrogates, NaN, over 100 levels, what is no JSON at all."""
    return list(islice(_unstorable(value, pointer), MAX_PROBLEMS))


def _unstorable(value: Any, pointer: str) -> Iterator[FieldProblem]:
    if not isinstance(value, (dict, list)):
        if reason := _reason(value):
            yield _problem(pointer, (), reason)
        return
    todo: list[tuple[Any, Path, int]] = [(value, (), 1)]  # containers only, with their level
    while todo:
        container, path, level = todo.pop()
        if level > MAX_DEPTH:
            yield _problem(pointer, path, f"It is nested deeper than {MAX_DEPTH} levels; flatten it.")
            continue
        for key, inner in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(container, dict) and (not isinstance(key, str) or _reason(key)):
                yield _problem(pointer, (path, key), f"The name of the key {shown(key)} is not valid text.")
            if isinstance(inner, (dict, list)):
                todo.append((inner, (path, key), level + 1))
            elif reason := _reason(inner):
                yield _problem(pointer, (path, key), reason)


def _problem(pointer: str, path: Path, detail: str) -> FieldProblem:
    keys = []
    while path:
        path, key = path
        keys.append(key)
    for key in reversed(keys):
        pointer = at(pointer, key)
    return FieldProblem(pointer, "not_storable", detail)


def _reason(value: Any) -> str:
    """Why a single value cannot be stored, or ''."""
    if isinstance(value, str):
        if "\0" in value:
            return "It holds the character NUL; take it out."
        return "" if _is_unicode(value) else "It holds half of a surrogate pair; send valid Unicode."
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return "" if value.bit_length() <= MAX_INTEGER_BITS else f"{shown(value)} is too large; send it as a string."
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{shown(value)} is not a JSON number; leave it out."
    return f"{type(value).__name__} is not a JSON value."


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
