"""What installed packages add by entry points: found by their metadata, imported when it is used, refused by reason.

Nothing that such a package does wrong ends a process: it is logged once, and `doctor` tells it.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

PLANNERS, TOOLS = "opspawn.planners", "opspawn.tools"
FAULTS = (Exception, SystemExit)  # of somebody else's module

log = logging.getLogger(__name__)
_refused: dict[Added, str] = {}


@dataclass(frozen=True, slots=True)
class Added:
    """One entry point: `name = "module:object"` in the group, and the package that has it."""

    group: str
    name: str
    target: str
    package: str

    def __str__(self) -> str:
        return f"{self.group} {self.name!r} of {self.package} ({self.target})"


class Refused(Exception):
    """The entry point is not used; the message says why."""


@cache
def found(group: str) -> tuple[Added, ...]:
    """The entry points of the group, by name and package. Reads metadata only: 10 to 60 ms, once a process."""
    listed = {
        Added(group, point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "?")
        for point in entry_points(group=group)
    }
    return tuple(sorted(listed, key=lambda one: (one.name, one.package)))


@cache
def claims(group: str, taken: frozenset[str]) -> dict[str, Added | Refused]:
    """Who has each name in the group; a name that is taken, or that several packages give, is refused, and logged."""
    return {added.name: _claim(added, taken) for added in found(group)}


def _claim(added: Added, taken: frozenset[str]) -> Added | Refused:
    if added.name in taken:
        return refuse(added, f"the name {added.name!r} is Opspawn's own; give it another one")
    others = [other.package for other in found(added.group) if other.name == added.name and other != added]
    if others:
        return refuse(added, f"{', '.join(others)} gives the name {added.name!r} too; uninstall one of them")
    return added


def entry(added: Added) -> Any:
    """What the entry point names. Raises Refused, and remembers it, when it cannot be imported."""
    for point in entry_points(group=added.group, name=added.name):
        if point.value == added.target:
            try:
                return point.load()
            except FAULTS as error:
                raise refuse(added, f"it cannot be loaded ({type(error).__name__}: {error})", error) from error
    raise refuse(added, "it is no longer installed")


def refuse(added: Added, reason: str, error: BaseException | None = None) -> Refused:
    """Log, once, why the entry point is not used; the exception to raise."""
    if added not in _refused:
        _refused[added] = reason
        log.error("%s is not used: %s", added, reason, exc_info=error)
    return Refused(f"{added} is not used: {_refused[added]}")


def refused() -> Iterable[tuple[Added, str]]:
    """Every entry point that was refused so far, with the reason."""
    return sorted(_refused.items(), key=lambda one: str(one[0]))


def forget() -> None:
    """Look at what is installed anew."""
    found.cache_clear()
    claims.cache_clear()
    _refused.clear()
