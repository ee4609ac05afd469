"""Which tasks a list shows: query parameters, several values of one separated by commas."""
from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field

from agents.requests import parse_instant
from tasks.models import Task
from tasks.states import Status

MAX_VALUES = 100
MAX_VERSION = 2**31 - 1


class ValuesField(forms.CharField):
    """`a,b`: one or more values without empty ones. `allowed` bounds them."""

    def __init__(self, *, allowed: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self.allowed = allowed

    def clean(self, value: Any) -> list[str] | None:
        if value is None:
            return None
        values = super().clean(value).split(",")
        if "" in values or len(values) > MAX_VALUES:
            raise ValidationError(f"Use 1 to {MAX_VALUES} values separated by commas.", "invalid")
        if unknown := [one for one in values if self.allowed and one not in self.allowed]:
            raise ValidationError(f"{unknown[0][:40]!r} is not one of {', '.join(self.allowed)}.", "invalid_choice")
        return values


class VersionsField(ValuesField):
    def clean(self, value: Any) -> list[int] | None:  # type: ignore[override]
        values = super().clean(value)
        if values is None:
            return None
        for one in values:
            if not (one.isascii() and one.isdigit() and len(one) <= 10 and 1 <= int(one) <= MAX_VERSION):
                raise ValidationError(f"{one[:40]!r} is no version; use whole numbers from 1.", "invalid")
        return [int(one) for one in values]


class InstantField(forms.CharField):
    def clean(self, value: Any) -> datetime | None:
        if value is None:
            return None
        instant = parse_instant(value.replace(" ", "+"))  # an unescaped `+` arrives as a space
        if instant is None:
            raise ValidationError("Use an RFC 3339 time with its offset, like 2026-01-31T09:30:00Z.", "invalid_time")
        return instant


@extend_schema_field({"type": "string", "description": "One or more, separated by commas."})
class Values(filters.Filter):
    field_class = ValuesField

    def filter(self, queryset: QuerySet[Task], value: Any) -> QuerySet[Task]:
        return queryset if value is None else queryset.filter(**{f"{self.field_name}__in": value})


@extend_schema_field({"type": "string", "pattern": r"^\d+(,\d+)*$", "description": "One or more, separated by commas."})
class Versions(Values):
    field_class = VersionsField


@extend_schema_field({"type": "string", "format": "date-time"})
class Moment(filters.Filter):
    field_class = InstantField


class TaskFilters(filters.FilterSet):
    """All of them must hold. `metadata.<key>=a,b` is read from the query itself, since its names are free."""

    status = Values(field_name="status", allowed=tuple(Status.values))
    agent = Values(field_name="agent__slug")
    version = Versions(field_name="version__version")
    session_id = Values(field_name="session_id")
    parent_task_id = Values(field_name="parent_id")
    created_after = Moment(field_name="created_at", lookup_expr="gt")
    created_before = Moment(field_name="created_at", lookup_expr="lt")

    def filter_queryset(self, queryset: QuerySet[Task]) -> QuerySet[Task]:
        found = super().filter_queryset(queryset)
        for name, value in self.data.items():
            if name.startswith("metadata."):
                found = found.filter(labelled(name.removeprefix("metadata."), value))
        return found


def labelled(key: str, value: str) -> Q:
    """Tasks whose metadata has one of the comma-separated values under that key (`@>`, which the index serves)."""
    anyone = Q(metadata__contains={key: value})  # also a value that itself holds a comma
    for one in value.split(",") if "," in value else ():
        anyone |= Q(metadata__contains={key: one})
    return anyone
