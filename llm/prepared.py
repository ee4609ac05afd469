"""Statements that are prepared on the server: Django's own cursor sends the values in the text, and each is planned
anew.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from django.db import NotSupportedError, connection

Row = tuple[Any, ...]


def rows(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
    """What the statement returns; commits outside a transaction. Raises Django's database errors.

    Bind whole numbers as text: a number's type would depend on its size, and each type has a plan of its own.
    """
    try:
        return _execute(statement, values)
    except NotSupportedError:  # "cached plan must not change result type": a migration changed a column under it
        if connection.in_atomic_block:
            raise
        _throw_away()
        return _execute(statement, values)


def row(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> Row | None:
    """The first row, or None."""
    return next(iter(rows(statement, values)), None)


def _execute(statement: str, values: Sequence[Any] | Mapping[str, Any]) -> list[Row]:
    connection.ensure_connection()
    cursor: Any = psycopg.Cursor(connection.connection)
    with connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor) as made:
        made.execute(statement, values)
        found: list[Row] = made.fetchall() if made.description else []
        return found


def _throw_away() -> None:
    """The connection with its plans: the pool makes another one. Nothing was done yet: plans are checked first."""
    connection.connection.close()
    connection.close()
