"""Planners of installed packages: the entry points `opspawn.planners`, each loaded when an agent first names it."""
from __future__ import annotations

import inspect

from agents.contract import Planner
from agents.plugins import PLANNERS, Refused, claims, entry, refuse


def names(taken: frozenset[str]) -> list[str]:
    """Those that are not refused so far."""
    return [name for name, added in claims(PLANNERS, taken).items() if not isinstance(added, Refused)]


def load(name: str, taken: frozenset[str]) -> type[Planner] | None:
    """The class that a package adds under this name; None when none does. Raises Refused."""
    added = claims(PLANNERS, taken).get(name)
    if added is None:
        return None
    if isinstance(added, Refused):
        raise Refused(str(added))
    kind = entry(added)
    if not inspect.isclass(kind) or not issubclass(kind, Planner):
        raise refuse(added, "it is no subclass of agents.contract.Planner")
    if inspect.isabstract(kind):
        raise refuse(added, "it has no method decide")
    return kind
