"""Rows of tasks by prepared statements, for what runs for every task: the ORM words each statement anew."""
from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import connection, models

from llm.prepared import row, rows

__all__ = ["fields_of", "made", "named", "row", "rows", "stored"]

Made = TypeVar("Made", bound=models.Model)


@cache
def fields_of(model: type[models.Model], *without: str) -> tuple[models.Field[Any, Any], ...]:
    """The fields of a model that are columns, in their order."""
    return tuple(field for field in model._meta.concrete_fields if field.name not in without)


def named(model: type[models.Model], *names: str) -> tuple[models.Field[Any, Any], ...]:
    """Those fields of a model, in that order."""
    return tuple(model._meta.get_field(name) for name in names)  # type: ignore[misc]


def made(model: type[Made], fields: Sequence[models.Field[Any, Any]], values: Sequence[Any]) -> Made:
    """An instance as the ORM would have read it; fields that are left out are read when they are asked for.

    Both have to be in the order of the model's own fields.
    """
    read = [_read(field, value) for field, value in zip(fields, values, strict=True)]
    return model.from_db("default", [field.attname for field in fields], read)


def stored(instance: models.Model, fields: Sequence[models.Field[Any, Any]]) -> list[Any]:
    """The values as they are bound for an INSERT."""
    return [_bound(field.get_db_prep_save(getattr(instance, field.attname), connection)) for field in fields]


def _bound(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _read(field: models.Field[Any, Any], value: Any) -> Any:
    return json.loads(value) if value is not None and isinstance(field, models.JSONField) else value
