"""JSON as RFC 8259 has it, and stricter: what PostgreSQL or the next reader cannot hold is refused with its place."""
from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from agents.errors import FieldProblem
from agents.strict import MAX_DEPTH, Problems, at, storable
from opspawn_site.rest.problems import Invalid


class StrictJSONParser(BaseParser):
    """An object in UTF-8 without repeated keys, NaN, infinities, NUL, lone surrogates or bottomless nesting."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        repeated: dict[int, str] = {}
        data = load(stream.read(), repeated)
        if not isinstance(data, dict):
            raise Invalid([FieldProblem("", "wrong_type", "The body must be a JSON object.")])
        if problems := [*storable(data, ""), *(doubled(data, repeated) if repeated else ())]:
            raise Invalid(problems)
        return data


def load(raw: bytes, repeated: dict[int, str]) -> Any:
    """The JSON value. `repeated` gets, by the identity of the object, a key that it held twice."""

    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            repeated[id(found)] = next(name for name in found if names.count(name) > 1)
        return found

    try:
        return json.loads(raw.decode(), object_pairs_hook=whole, parse_constant=no_constant, parse_float=finite)
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not valid UTF-8 (byte {error.start}).") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ParseError(f"The body is not valid JSON: {error.msg} ({place}).") from None
    except RecursionError:
        raise Invalid([FieldProblem("", "too_deep", f"Use at most {MAX_DEPTH} levels of nesting.")]) from None
    except ValueError:  # int() takes 4300 digits at most
        raise ParseError("The body holds a whole number with too many digits; send it as a string.") from None


def no_constant(name: str) -> Any:
    raise ParseError(f"{name} is not JSON; use a number or null.")


def finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ParseError(f"The number {text[:40]} is too large for a double; send it as a string.")
    return number


def doubled(data: Any, repeated: dict[int, str]) -> Problems:
    """Where the repeated keys are."""
    found: Problems = []
    waiting = [(data, "")]
    while waiting:
        value, pointer = waiting.pop()
        if id(value) in repeated:
            name = repeated[id(value)]
            found.append(FieldProblem(at(pointer, name), "repeated", f"The key {name[:80]!r} is there more than once."))
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        waiting += [(inner, at(pointer, key)) for key, inner in pairs if isinstance(inner, dict | list)]
    return found
