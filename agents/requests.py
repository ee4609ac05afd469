"""Strict reading of requests: unknown fields, unknown query parameters and loose types are refused, never converted."""
from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import unquote, unquote_to_bytes

from drf_spectacular.utils import extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
JSON_TYPES = {
    str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "an array", dict: "an object",
}  # fmt: skip


def wrong_type(expected: str, data: Any) -> ValidationError:
    return ValidationError(f"Expected {expected}, got {JSON_TYPES.get(type(data), 'null')}.", "wrong_type")


def refuse(name: str, code: str, detail: str) -> NoReturn:
    raise ValidationError({name: [ErrorDetail(detail, code)]})


class Text(serializers.CharField):
    """A JSON string, taken as it is: nothing is trimmed, no number becomes a string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise wrong_type("a string", data)
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A JSON integer: neither "5" nor 5.0 nor true is one."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            raise wrong_type("an integer", data)
        return data


class Truth(serializers.BooleanField):
    """JSON true or false, nothing else."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise wrong_type("true or false", data)
        return data


@extend_schema_field({"type": "object", "additionalProperties": {}})
class JsonObject(serializers.Field[dict[str, Any], Any, dict[str, Any], Any]):
    """A JSON object, kept as it is; what it means is checked elsewhere."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise wrong_type("an object", data)
        return data

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


class Instant(serializers.DateTimeField):
    """An RFC 3339 time with its offset; shown in UTC with microseconds and `Z`."""

    def to_internal_value(self, data: Any) -> datetime:
        if not isinstance(data, str):
            raise wrong_type("a string", data)
        instant = parse_instant(data)
        if instant is None:
            raise ValidationError("Use an RFC 3339 time with its offset, like 2026-01-31T09:30:00Z.", "invalid_time")
        return instant

    def to_representation(self, value: datetime) -> str:
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime | None:
    """The instant in UTC, or None when the text is no RFC 3339 time or lies outside the years 1 to 9999."""
    if not RFC3339.match(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class StrictSerializer(serializers.Serializer[Any]):
    """A body in which every field that is not declared is an error of its own, beside the others."""

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, Any] = {}
        try:
            value = super().to_internal_value(data)
        except ValidationError as invalid:
            errors = dict(invalid.detail)  # type: ignore[arg-type]
        known = [str(field.field_name) for field in self._writable_fields]
        for name in data if isinstance(data, Mapping) else ():
            if name not in known:
                cure = f"use {', '.join(known)}" if known else "this body takes none"
                errors[name] = [ErrorDetail(f"There is no field `{name}`; {cure}.", "unknown_field")]
        if errors:
            raise ValidationError(errors)
        return value


class Nothing(StrictSerializer):
    """An empty body."""


def not_utf8(query: str) -> str | None:
    """The name of the first parameter that is not UTF-8: Django would put U+FFFD for what it cannot read."""
    for parameter in query.split("&"):
        try:
            unquote_to_bytes(parameter).decode()
        except UnicodeDecodeError:
            return unquote(parameter.partition("=")[0])
    return None


class StrictView(APIView):
    """Query parameters that the view does not declare, or that are given twice, are refused.

    `query_parameters` are the view's own beside those of its filters and its pages; a name that ends with a dot
    stands for all that start with it.
    """

    http_method_names = ["get", "head", "post", "patch", "delete"]
    query_parameters: tuple[str, ...] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if name := not_utf8(request.META["QUERY_STRING"]):
            refuse(name, "not_storable", f"The query parameter `{name}` is not valid UTF-8; percent-encode its bytes.")
        known = self.known_parameters() if request.method in ("GET", "HEAD") else ()
        for name, values in request.query_params.lists():
            if not any(name.startswith(one) and name != one if one.endswith(".") else name == one for one in known):
                cure = f"use {', '.join(known)}" if known else "there are none here"
                refuse(name, "unknown_parameter", f"There is no query parameter `{name}`; {cure}.")
            if len(values) > 1:
                refuse(name, "repeated", f"The query parameter `{name}` is given twice; separate values by commas.")
            if "\0" in name + values[0]:
                refuse(name, "not_storable", f"The query parameter `{name}` holds the character NUL; take it out.")

    def known_parameters(self) -> tuple[str, ...]:
        filters = getattr(getattr(self, "filterset_class", None), "base_filters", {})
        paginator = getattr(self, "paginator", None) if isinstance(self, mixins.ListModelMixin) else None
        return (*self.query_parameters, *filters, *getattr(paginator, "parameters", ()))
