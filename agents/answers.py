"""A final answer that has to fit a JSON Schema: read from what the model wrote, and checked within bounds.

Nothing is fetched: a schema refers only into itself. Every keyword looked at and every step of a regular
expression is counted, so that no schema and no answer holds a worker, and the same pair is judged the same anywhere.
"""
from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from agents.patterns import automaton
from llm.messages import Message

MAX_ANSWER_CHARS = 1_000_000
MAX_DEPTH = 100
MOST_STEPS = 1_000_000  # two or three seconds at worst
STEPS_OF_A_REFERENCE = 5  # following one takes longer than any other keyword
MOST_TOLD = 10
DETAIL_CHARS = 200
UNFIT = "Your answer does not fit the JSON Schema it has to fit:"

_LANGUAGE = re.compile(r"[\w+-]*")
_left: ContextVar[list[int]] = ContextVar("steps left")


class TooMuch(Exception):
    """The check would take too long."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The value that was found, or what is wrong: a line each, with its JSON pointer."""

    value: Any = None
    problems: tuple[str, ...] = ()


def judge(text: str, schema: Mapping[str, Any]) -> Judged:
    """What the model answered, as JSON that fits the schema. Calls nothing; the same every time."""
    try:
        value = read(text)
    except ValueError as error:
        return Judged(problems=(f"the answer is not one JSON value: {error}",))
    from referencing.exceptions import Unresolvable

    try:
        found = [_told(error) for _, error in zip(range(MOST_TOLD), errors(value, schema), strict=False)]
    except TooMuch:
        return Judged(problems=("the answer takes too long to be checked against the schema; answer more briefly",))
    except (RecursionError, Unresolvable, ValueError, ArithmeticError, re.error) as error:
        return Judged(problems=(f"the schema cannot be followed ({type(error).__name__})",))
    return Judged(value) if not found else Judged(problems=tuple(found))


def read(text: str) -> Any:
    """The JSON value in a text: all of it, the content of its only or last fence, or what stands between words.

    Raises ValueError, saying what is wrong with the text.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise ValueError(f"it has {len(text)} characters, use at most {MAX_ANSWER_CHARS}")
    whole = text.strip()
    try:
        return _parsed(whole)
    except ValueError as error:
        first = error
    for inner in fenced(text)[::-1]:
        try:
            return _parsed(inner.strip())
        except ValueError as error:
            first = error
    start = re.search(r"[{\[]", whole)
    if start is None:
        raise first
    try:
        return _flat(_DECODER.raw_decode(whole, start.start())[0])
    except (ValueError, RecursionError):
        raise first from None


def is_repair(message: Message) -> bool:
    """Whether it is the repair turn."""
    return isinstance(message.content, str) and message.content.startswith(UNFIT)


def fenced(text: str) -> list[str]:
    """What stands in each fence, in order: between a line of three or more backticks, with or without a language,
    and the next line of as many without one. A fence that nothing closes is none. Linear in the text.
    """
    lines = text.split("\n")
    marks = {at: mark for at, line in enumerate(lines) if "```" in line and (mark := _mark(line))}
    last = {ticks: at for at, (ticks, language) in marks.items() if not language}
    found, opened, wanted = [], -1, 0
    for at, (ticks, language) in marks.items():
        if opened < 0 and last.get(ticks, -1) > at:
            opened, wanted = at, ticks
        elif opened >= 0 and ticks == wanted and not language:
            found.append("\n".join(lines[opened + 1 : at]))
            opened = -1
    return found


def _mark(line: str) -> tuple[int, str] | None:
    """How many backticks a line starts with, three at least, and the one word after them."""
    bare = line.strip(" \t\r")
    language = bare.lstrip("`")
    ticks, language = len(bare) - len(language), language.strip(" \t")
    return (ticks, language) if ticks >= 3 and _LANGUAGE.fullmatch(language) else None


def repair(problems: tuple[str, ...]) -> Message:
    """The one repair turn: what was wrong, by pointer."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return Message("user", f"{UNFIT}\n{listed}\n"
                   "Answer again with one JSON value that does, and nothing else.")  # fmt: skip


def errors(value: Any, schema: Mapping[str, Any], most_steps: int = MOST_STEPS) -> Iterator[Any]:
    """jsonschema's errors, in its order. Raises TooMuch, RecursionError, and what jsonschema raises for a reference
    that leads nowhere.
    """
    import referencing.jsonschema

    _left.set([most_steps])
    registry = referencing.jsonschema.EMPTY_REGISTRY  # it fetches nothing
    yield from _validator()(schema, registry=registry).iter_errors(value)


def spend(steps: int) -> None:
    """Raises TooMuch when all steps of the present check are spent."""
    left = _left.get()
    left[0] -= steps
    if left[0] < 0:
        raise TooMuch


@cache
def _validator() -> Any:
    """Draft 2020-12 with each keyword counted, and its expressions and `uniqueItems` bounded."""
    from jsonschema import Draft202012Validator, validators

    bounded = {**Draft202012Validator.VALIDATORS, **OWN}
    return validators.extend(Draft202012Validator, {name: _counted(name, check) for name, check in bounded.items()})


def _counted(name: str, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    steps = STEPS_OF_A_REFERENCE if name in ("$ref", "$dynamicRef") else 1

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        spend(steps + (len(value) if isinstance(value, dict | list) else 0))
        for error in check(validator, value, instance, schema) or ():
            spend(len(error.message) // 16)  # it quotes the instance, at each level anew
            yield error

    return counted


def _pattern(validator: Any, expression: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not automaton(expression).found_in(instance, spend):
        yield ValidationError(f"{instance!r} does not match {expression!r}")


def _pattern_properties(validator: Any, table: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for expression, inner in table.items():
        for key, value in instance.items():
            if automaton(expression).found_in(key, spend):
                yield from validator.descend(value, inner, path=key, schema_path=expression)


def _additional_properties(validator: Any, inner: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not isinstance(instance, dict):
        return
    named = schema.get("properties", {})
    expressions = [automaton(one) for one in schema.get("patternProperties", {})]
    extra = [key for key in instance if key not in named and not any(one.found_in(key, spend) for one in expressions)]
    if inner is False and extra:
        yield ValidationError(f"unknown keys: {', '.join(map(repr, extra[:5]))}")
    elif isinstance(inner, dict):
        for key in extra:
            yield from validator.descend(instance[key], inner, path=key)


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if wanted and isinstance(instance, list):
        texts = [_canonical(item) for item in instance]
        spend(sum(map(len, texts)) // 16)
        if len(set(texts)) < len(texts):
            yield ValidationError("it holds the same item twice")


OWN: dict[str, Callable[..., Any]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}


def _canonical(item: Any) -> str:
    """The same text for values that JSON Schema takes for equal: 1 and 1.0 are, true and 1 are not."""
    return json.dumps(_plain(item), sort_keys=True)


def _plain(item: Any) -> Any:
    if isinstance(item, float) and item.is_integer():
        return int(item)
    if isinstance(item, list):
        return [_plain(one) for one in item]
    return {key: _plain(one) for key, one in item.items()} if isinstance(item, dict) else item


def _told(error: Any) -> str:
    pointer = "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in error.absolute_path)
    detail = " ".join(str(error.message).split())
    shown = detail if len(detail) <= DETAIL_CHARS else f"{detail[:DETAIL_CHARS - 1]}…"
    return f"at {pointer}: {shown}" if pointer else f"at the root: {shown}"


def _parsed(text: str) -> Any:
    if not text:
        raise ValueError("it is empty")
    try:
        return _flat(_DECODER.decode(text))
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None


def _flat(value: Any) -> Any:
    """The value. Raises ValueError when it is nested too deep."""
    level, todo = 0, [value]
    while todo:
        level += 1
        if level > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        inner = (one.values() if isinstance(one, dict) else one for one in todo if isinstance(one, dict | list))
        todo = [item for items in inner for item in items]
    return value


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refused, parse_float=_finite)
