"""The JSON Schema of an answer, checked when it is saved: that it is one, and that following it ends."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from agents import answers, patterns
from agents.errors import FieldProblem
from agents.strict import Problems, Rule, at, shown, wrong_type

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
MOST_STEPS = 50_000  # for the simplest values; a tenth of a second
DRAFT = "https://json-schema.org/draft/2020-12/schema"
SAMPLES: tuple[Any, ...] = (None, True, 0, "", [], {})


def schema_rule() -> Rule:
    """A JSON Schema, draft 2020-12, that refers only into itself."""
    return Rule({"type": "object", "additionalProperties": True}, check)


def check(schema: Any, pointer: str) -> Problems:
    """What is wrong with the schema, each with its pointer; the first kind of trouble hides the others."""
    if not isinstance(schema, dict):
        return wrong_type(pointer, schema, "a JSON Schema, which is an object")
    for look in (_size, _meta, _places, _ends):
        if problems := list(look(schema, pointer)):
            return problems
    return []


def _size(schema: dict[str, Any], pointer: str) -> Iterator[FieldProblem]:
    try:
        size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "replace"))
    except (RecursionError, ValueError, TypeError):
        size = MAX_BYTES + 1
    if size > MAX_BYTES:
        detail = f"The schema is larger than {MAX_BYTES} bytes of JSON; make it smaller."
        yield FieldProblem(pointer, "too_large", detail)
        return
    for place, _, level in _walk(schema, pointer):
        if level > MAX_DEPTH:
            detail = f"It is nested deeper than {MAX_DEPTH} levels; use $defs and $ref."
            yield FieldProblem(place, "too_deep", detail)
            return


def _meta(schema: dict[str, Any], pointer: str) -> Iterator[FieldProblem]:
    """By the draft's own schema."""
    from jsonschema import Draft202012Validator

    said = schema.get("$schema", DRAFT)
    if said not in (DRAFT, DRAFT + "#"):
        detail = f"{shown(said)} is another draft; write draft 2020-12 and leave $schema out."
        yield FieldProblem(at(pointer, "$schema"), "unknown_value", detail)
        return
    try:
        for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema):
            place = pointer
            for key in error.absolute_path:
                place = at(place, key)
            words = " ".join(error.message.split())[:300]
            yield FieldProblem(place, "no_json_schema", f"That is no JSON Schema: {words}.")
    except RecursionError:
        yield FieldProblem(pointer, "too_deep", "It is nested too deep; use $defs and $ref.")


def _places(schema: dict[str, Any], pointer: str) -> Iterator[FieldProblem]:
    """References out of it, and expressions that cannot be bounded, wherever they stand."""
    for place, value, _ in _walk(schema, pointer):
        key = place.rpartition("/")[2]
        if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            detail = f"{shown(value)} leads out of the schema, and nothing is fetched; put it under $defs."
            yield FieldProblem(place, "remote_reference", detail)
        elif key in ("unevaluatedProperties", "unevaluatedItems"):
            yield FieldProblem(place, "unbounded", f"{key} takes unbounded time; use additionalProperties, or items.")
        elif key == "$id" and isinstance(value, str):
            yield FieldProblem(place, "remote_reference", "References are counted from the root; leave $id out.")
        elif key == "pattern" and isinstance(value, str):
            yield from _expression(value, place)
        elif key == "patternProperties" and isinstance(value, dict):
            for expression in value:
                yield from _expression(expression, at(place, expression))


def _expression(expression: str, place: str) -> Iterator[FieldProblem]:
    try:
        patterns.automaton(expression)
    except patterns.Unbounded as error:
        yield FieldProblem(place, "unbounded", f"{shown(expression)} cannot be used: {error}.")
    except (re.error, RecursionError, OverflowError) as error:
        yield FieldProblem(place, "no_json_schema", f"{shown(expression)} is no regular expression: {error}.")


def _ends(schema: dict[str, Any], pointer: str) -> Iterator[FieldProblem]:
    """Tries it on the simplest values: a reference that leads nowhere, or in a circle without end, shows."""
    import referencing.exceptions

    for sample in SAMPLES:
        try:
            list(answers.errors(sample, schema, MOST_STEPS))
        except (RecursionError, answers.TooMuch):
            yield FieldProblem(pointer, "endless", "Following its references never ends; let each lead further down.")
            return
        except referencing.exceptions.Unresolvable as error:
            yield FieldProblem(pointer, "unknown_reference", f"{shown(error.ref)} leads nowhere; put it under $defs.")
            return


def _walk(schema: Any, pointer: str) -> Iterator[tuple[str, Any, int]]:
    """Every value inside, with its pointer and level."""
    todo = [(schema, pointer, 1)]
    while todo:
        container, place, level = todo.pop()
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            inner = at(place, key)
            yield inner, value, level
            if isinstance(value, dict | list) and level <= MAX_DEPTH:
                todo.append((value, inner, level + 1))
