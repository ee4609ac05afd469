"""Planners of installed packages: the entry points `opspawn.planners`, each loaded when an agent first names it."""
from __future__ import annotations

import inspect
from collections.abc import Iterable

from agents.contract import Planner
from agents.plugins import PLANNERS, Added, entry, found, refuse


def names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(added.name for added in found(PLANNERS)))


def load(name: str, taken: Iterable[str]) -> type[Planner] | None:
    """The class that a package adds under this name; None when none does. Raises plugins.Refused.

    A name that is `taken`, or that two packages add, is nobody's: which one was meant cannot be told.
    """
    several = [added for added in found(PLANNERS) if added.name == name]
    if not several:
        return None
    for added in several:
        if reason := _clash(added, several, taken):
            raise refuse(added, reason)
    (added,) = several
    kind = entry(added)
    if not inspect.isclass(kind) or not issubclass(kind, Planner):
        raise refuse(added, "it is no subclass of agents.contract.Planner")
    if inspect.isabstract(kind):
        raise refuse(added, "it has no method decide")
    return kind


def _clash(added: Added, several: list[Added], taken: Iterable[str]) -> str:
    if added.name in taken:
        return f"there is a planner {added.name!r} in Opspawn already; give it another name"
    others = ", ".join(other.package for other in several if other is not added)
    return f"{others} adds a planner {added.name!r} too; uninstall one of them" if others else ""
