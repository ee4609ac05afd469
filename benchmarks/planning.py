"""What the loop, the planner and the registry cost a turn: CPU milliseconds beside gateway and journal.

Runs of 200 turns on an agent with 50 tools, one call of an `in_worker` tool that adds a turn; the model's replies are
ready made. A turn must not cost more when the conversation has grown: the first column is a tenth of the turns.

Usage: .venv/bin/python benchmarks/planning.py [--turns N] [--tools N] [--rounds N] [--json]
"""
from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from agents import loop
from agents.contract import Limits, Observation, Run, Turn
from agents.planners import planner
from agents.tools.registry import Registry
from llm.messages import Message, Reply, ToolRequest

ADVICE = "I look at what is known so far and take the next number, as the task wants it. " * 4
CALLED = f'Thought: {ADVICE}\nAction: tool_7\nAction Input: {{\n  "a": 5,\n  "b": 3\n}}\nObservation: 99'
PLAN = Reply("1. Add the numbers.\n2. Answer.")
NATIVE = Reply(ADVICE, (ToolRequest("call_1", "tool_7", {"a": 5, "b": 3}),), "tool_calls")
SCRIPTS = {
    "native": ([], NATIVE, Reply("8")),
    "react": ([], Reply(CALLED), Reply("Thought: done.\nFinal Answer: 8")),
    "plan_execute": ([PLAN], NATIVE, Reply("8")),
}


@dataclass
class Doors:
    """Ready-made replies, and real calls of the registry."""

    replies: list[Reply]
    registry: Registry
    allowed: frozenset[str]
    asked: int = 0
    calls: int = 0

    def ask(self, turn: Turn) -> Reply:
        self.asked += 1
        return self.replies[self.asked - 1]

    def act(self, request: ToolRequest, seconds_left: float) -> Observation:
        self.calls += 1
        return self.registry.act(request, self.allowed, seconds_left)


def adder(name: str) -> Callable[[int, int], dict[str, int]]:
    def add(a: int, b: int) -> dict[str, int]:
        """Add two numbers and give their sum.

        Args:
            a: The first number.
            b: The number added to it.
        """
        return {"sum": a + b}

    add.__name__ = name
    return add


def registry_of(tools: int) -> Registry:
    made = Registry()
    for number in range(tools):
        made.tool(effect="none", timeout_seconds=5, in_worker=True)(adder(f"tool_{number}"))
    return made


def cpu_ms(name: str, turns: int, registry: Registry) -> float:
    """For each turn, one model call and one tool call, of a run of so many."""
    before, each, last = SCRIPTS[name]
    specs = registry.specs(registry.matching("*"))
    doors = Doors([*before, *[each] * turns, last], registry, frozenset(spec.name for spec in specs))
    run = Run(
        planner(name, specs), (Message("user", "Add."),), specs, doors.ask, doors.act, Limits(max_steps=3 * turns + 9),
        lambda: 600.0, lambda: None,
    )  # fmt: skip
    began = time.process_time()
    outcome = loop.run(run)
    spent = time.process_time() - began
    if outcome.answer != "8" or doors.calls != turns:
        sys.exit(f"{name} went another way: {outcome}, {doors.calls} tool calls")
    return spent * 1000 / turns


def measure(turns: int, tools: int, rounds: int) -> dict[str, dict[str, float]]:
    """The least of some rounds, for a tenth of the turns and for all of them."""
    registry = registry_of(tools)
    found = {}
    for name in SCRIPTS:
        cpu_ms(name, 2, registry)  # builds the schemas
        short, whole = (min(cpu_ms(name, length, registry) for _ in range(rounds)) for length in (turns // 10, turns))
        found[name] = {f"{turns // 10} turns": round(short, 4), f"{turns} turns": round(whole, 4)}
    return found


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--turns", type=int, default=200)
    asked.add_argument("--tools", type=int, default=50)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--json", action="store_true")
    options = asked.parse_args()
    found = measure(options.turns, options.tools, options.rounds)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"CPU milliseconds a turn, {options.tools} tools")
    for name, row in found.items():
        print(f"  {name:<14}" + "".join(f"{value:>9} ({length})" for length, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
