"""Runs for tests: the loop's two doors as plain functions that answer from a list and remember what came."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agents.contract import Limits, Observation, Run, Turn
from agents.planners import planner
from llm.messages import Message, Reply, ToolRequest, Usage


def says(text: str, *, tokens: int = 10, finish: str = "stop") -> Reply:
    return Reply(text, finish_reason=finish, usage=Usage(tokens, 0))


def calls(*names: str, tokens: int = 10) -> Reply:
    requests = tuple(ToolRequest(f"call_{n}", name, {}) for n, name in enumerate(names))
    return Reply("", requests, "tool_calls", Usage(tokens, 0))


@dataclass
class World:
    """What the doors answer, and what they were asked. A reply may be an exception to raise."""

    replies: list[Any]
    turns: list[Turn] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)  # tools that answer with an error
    order: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # what is left, asked for again and again; the last one stays

    def ask(self, turn: Turn) -> Reply:
        self.order.append("ask")
        self.turns.append(turn)
        reply = self.replies[len(self.turns) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def act(self, request: ToolRequest, seconds_left: float) -> Observation:
        self.order.append("act")
        self.used.append(request.name)
        if request.name in self.fails:
            return Observation(error="it failed", text="Error: it failed")
        return Observation(output=len(self.used), text=str(len(self.used)))

    def seconds_left(self) -> float:
        return self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]

    def check(self) -> None:
        self.order.append("check")


def a_run(*replies: Any, name: str = "native", **about: Any) -> tuple[Run, World]:
    world = World(list(replies), seconds=[600.0])
    limits = Limits(**about.pop("limits", {}))
    doors = {"ask": world.ask, "act": world.act, "seconds_left": world.seconds_left, "check": world.check}
    tools = about.pop("tools", ())
    opening = (Message("user", "hello"),)
    run = Run(planner=planner(name, tools), opening=opening, tools=tools, limits=limits, **doors | about)
    return run, world
