"""A function as a tool: its JSON Schema from signature and docstring, and the strict reading of arguments."""
from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_type_hints

from agents.contract import Effect, Probe
from llm.messages import ToolSpec

if TYPE_CHECKING:
    from pydantic import BaseModel

ARGS = re.compile(r"^Args:\s*$", re.MULTILINE)
ARGUMENT = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)  # Google style, continued lines indented

WANTED = {
    "missing": "is required",
    "int_type": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
}


class ArgumentsInvalid(Exception):
    """The arguments do not fit the tool; the message names each of them."""


@dataclass(frozen=True)
class Tool:
    """A registered function. Its schema is built at first use, so that listing tools costs no pydantic."""

    function: Callable[..., Any]
    effect: Effect
    timeout_seconds: float
    untrusted: bool
    probe: Probe | None = None

    def __post_init__(self) -> None:
        """Refuse what no schema can be made of: no docstring, *args, **kwargs, an argument without a type."""
        if not self.description:
            raise TypeError(f"{self.name} has no docstring: it is what the model reads.")
        for name, parameter in inspect.signature(self.function).parameters.items():
            loose = parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if loose or parameter.annotation is parameter.empty:
                raise TypeError(f"Argument {name!r} of {self.name} needs a name of its own and a type.")

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def description(self) -> str:
        return ARGS.split(inspect.getdoc(self.function) or "")[0].strip()

    @cached_property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, _plain(self._model.model_json_schema()))

    @cached_property
    def _model(self) -> type[BaseModel]:
        from pydantic import ConfigDict, Field, create_model

        told = dict(ARGUMENT.findall(inspect.getdoc(self.function) or ""))
        types = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            description = " ".join(told[name].split()) if name in told else None
            fields[name] = (types[name], Field(default, description=description))
        strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
        return create_model(self.name, __config__=strict, **fields)

    def read(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that were given, checked without converting any. Raises ArgumentsInvalid."""
        from pydantic import ValidationError

        try:
            model = self._model.model_validate(arguments)
        except ValidationError as error:
            known = ", ".join(self._model.model_fields) or "none"
            raise ArgumentsInvalid(_in_words(error.errors(include_url=False), known)) from None
        return {name: getattr(model, name) for name in model.model_fields_set}


def _plain(schema: Any) -> Any:
    """The schema without pydantic's titles, which only cost tokens; a property called `title` stays."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _plain(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}


def _in_words(errors: list[Any], known: str) -> str:
    """One phrase an argument; the branches of a union (`int | float`) are told as one."""
    wanted: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for error in errors:
        name = str(error["loc"][0]) if error["loc"] else ""  # none: a name that is no valid Unicode
        wanted.setdefault(name, []).append(_wanted(error, known))
        given[name] = error
    return "; ".join(f"argument {name[:100]!r} {_joined(said, given[name])}" for name, said in wanted.items())


def _wanted(error: Any, known: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"is not known (known: {known})"
    place = f"at {'/'.join(map(str, error['loc'][1:]))}: " if len(error["loc"]) > 2 else ""
    return WANTED.get(error["type"], f"is not valid: {place}{error['msg']}")


def _joined(said: list[str], error: Any) -> str:
    words = " or ".join(dict.fromkeys(said))
    return words if error["type"] in ("missing", "extra_forbidden") else f"{words}, not {_shown(error['input'])}"


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # a whole number of more than 4300 digits among them
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."
