"""The tools that every agent can be given: arithmetic and the time."""
from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agents.tools import arithmetic
from agents.tools.registry import ToolError, tool


@tool(effect="none", timeout_seconds=5, in_worker=True)
def calculator(expression: str) -> int | float:
    """Work out an arithmetic expression and return the number.

    Knows + - * / // % **, parentheses, pi, e, tau and functions such as sqrt, round, min, max, log and sin.

    Args:
        expression: For example "(2 + 3) * 4 / 7" or "sqrt(2) ** 3".
    """
    return arithmetic.evaluate(expression)


@tool(effect="none", timeout_seconds=5, in_worker=True)
def add_numbers(a: int | float, b: int | float) -> dict[str, int | float]:
    """Add two numbers.

    Args:
        a: The first number.
        b: The number added to it.
    """
    return {"sum": arithmetic.guarded(lambda: a + b)}


@tool(effect="none", timeout_seconds=5, in_worker=True)
def subtract_numbers(a: int | float, b: int | float) -> dict[str, int | float]:
    """Subtract one number from another.

    Args:
        a: The number to subtract from.
        b: The number taken away.
    """
    return {"difference": arithmetic.guarded(lambda: a - b)}


@tool(effect="none", timeout_seconds=5, in_worker=True)
def current_time(timezone: str = "UTC") -> str:
    """Tell the current date and time (RFC 3339).

    Args:
        timezone: An IANA time zone such as "UTC" or "Europe/Berlin".
    """
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder, or one that is too long
        raise ToolError(f"there is no time zone called {timezone[:100]!r}; use one such as 'Europe/Berlin'") from None
    return datetime.now(zone).isoformat(timespec="seconds")
