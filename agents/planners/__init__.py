"""How an answer is found: each planner decides the next move from the conversation alone."""
from __future__ import annotations

from agents.contract import Planner
from agents.planners.native import NativePlanner
from agents.planners.placeholder import PlaceholderPlanner

PLANNERS: dict[str, type[Planner]] = {"native": NativePlanner, "placeholder": PlaceholderPlanner}
DEFAULT_PLANNER = "native"
ANSWERS_WITHOUT_A_MODEL = frozenset({"placeholder"})  # nobody could be told a schema
CALLS_TOOLS_NATIVELY = frozenset({"native"})  # their model calls carry the tools' schemas


def planner(name: str) -> Planner:
    """A planner by name. Raises KeyError for a name that is not in PLANNERS."""
    return PLANNERS[name]()
