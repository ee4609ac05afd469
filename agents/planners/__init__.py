"""How an answer is found: each planner decides the next move from the conversation alone."""
from __future__ import annotations

from agents.contract import Planner
from agents.planners import added
from agents.planners.native import NativePlanner
from agents.planners.placeholder import PlaceholderPlanner
from agents.planners.plan_execute import PlanExecutePlanner
from agents.planners.react import ReactPlanner
from agents.plugins import Refused
from llm.messages import ToolSpec

BUILT_IN: dict[str, type[Planner]] = {
    "native": NativePlanner,
    "react": ReactPlanner,
    "plan_execute": PlanExecutePlanner,
    "placeholder": PlaceholderPlanner,
}
DEFAULT_PLANNER = "native"
OWN_NAMES = frozenset(BUILT_IN)


class UnknownPlanner(Exception):
    """No planner has this name."""


class UnusablePlanner(Exception):
    """A package adds a planner of this name, and it cannot be used; the message says why."""


def names() -> list[str]:
    """Every planner, those of installed packages last; whether these can be loaded shows when they are used."""
    return [*BUILT_IN, *added.names(OWN_NAMES)]


def class_of(name: str) -> type[Planner]:
    """A planner by name. Raises UnknownPlanner and UnusablePlanner."""
    try:
        kind = BUILT_IN.get(name) or added.load(name, OWN_NAMES)
    except Refused as error:
        raise UnusablePlanner(str(error)) from None
    if kind is None:
        raise UnknownPlanner(f"there is no planner {name!r}; there are {', '.join(names())}")
    return kind


def planner(name: str, tools: tuple[ToolSpec, ...] = ()) -> Planner:
    """A planner for one run. Raises UnknownPlanner and UnusablePlanner."""
    return class_of(name)(tools)
