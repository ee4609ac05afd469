"""The one door to tools: typed functions, their schemas, and every call checked, timed and made storable."""
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeVar

from agents.contract import Effect, Observation, Probe
from agents.tools.context import calling
from agents.tools.output import failure, success, text_of
from agents.tools.running import GivenUp, never, run
from agents.tools.signature import ArgumentsInvalid, Tool
from llm.messages import ToolRequest, ToolSpec

__all__ = [
    "REGISTRY", "Listed", "Registry", "ToolError", "act", "effect_of", "names", "probe", "specs", "text_of",
    "timeout_of", "tool",
]  # fmt: skip

log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])
FAULTS = (Exception, SystemExit, asyncio.CancelledError)  # of a tool: none of them may end the worker's thread


class ToolError(Exception):
    """The tool cannot do what it was asked; the message is written for the model."""


class Listed(NamedTuple):
    """A tool as lists show it, known without building its schema."""

    name: str
    description: str
    effect: Effect


class Registry:
    """Tools by name. Filled when modules are imported, read by many threads."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self.before_a_look: Callable[[], None] = lambda: None  # brings what is registered late

    def tool(
        self, *, effect: Effect, timeout_seconds: float, in_worker: bool, untrusted: bool = False,
        probe: Probe | None = None,
    ) -> Callable[[Function], Function]:
        """Register a typed function under its own name; its docstring is what the model reads.

        `effect` says what a second call would do: nothing (`none`), the same again (`idempotent`), the same for
        the same key (`keyed`), or it again (`once`). `untrusted` marks output that comes from outside. `probe`
        looks whether an interrupted `once` call happened (see `agents.contract.Probe`).
        """
        if not in_worker:
            raise NotImplementedError("Only in_worker=True tools can be registered: there is no tool process yet.")
        if timeout_seconds <= 0:
            raise ValueError(f"timeout_seconds={timeout_seconds} is not above 0")

        def register(function: Function) -> Function:
            made = Tool(function, effect, timeout_seconds, untrusted, probe)
            if made.name in self._tools:
                raise ValueError(f"A tool called {made.name!r} is already registered; give this one another name.")
            self._tools[made.name] = made
            return function

        return register

    def names(self) -> list[Listed]:
        """Every tool with its description and effect, by name; cheap, no schema is built."""
        self.before_a_look()
        return [Listed(name, tool.description, tool.effect) for name, tool in sorted(self._tools.items())]

    def matching(self, pattern: str) -> list[str]:
        """The names that a name or a pattern such as `*_numbers` stands for, sorted; empty when none."""
        self.before_a_look()
        return sorted(name for name in self._tools if fnmatchcase(name, pattern))

    def resolve(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """The names that these names and patterns stand for, each once, in the order given."""
        return tuple(dict.fromkeys(name for pattern in patterns for name in self.matching(pattern)))

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """The tools as a model sees them. Raises KeyError for a name that is not registered."""
        return tuple(self._tools[name].spec for name in names)

    @contextmanager
    def whole_or_nothing(self) -> Iterator[None]:
        """Within the block, tools are registered all or, when it raises, none."""
        before = dict(self._tools)
        try:
            yield
        except BaseException:
            self._tools = before
            raise

    def effect_of(self, name: str) -> Effect:
        """What a second call would do; `none` for a tool that is not there, which is not called."""
        tool = self._tools.get(name)
        return tool.effect if tool else "none"

    def timeout_of(self, name: str) -> float:
        """Seconds that one call may take; 0 for a tool that is not there."""
        tool = self._tools.get(name)
        return tool.timeout_seconds if tool else 0.0

    def probe(self, request: ToolRequest, key: str) -> Observation | Literal[False] | None:
        """Whether an interrupted call happened: its observation, False, or None when that cannot be told."""
        tool = self._tools.get(request.name)
        if tool is None or tool.probe is None or request.arguments is None:
            return None
        try:
            happened, value = tool.probe(request.arguments, key)
        except Exception:
            log.warning("probe of tool %s failed", tool.name, exc_info=True)
            return None
        return success(value) if happened else False

    def act(
        self, request: ToolRequest, allowed: frozenset[str], timeout_seconds: float, *, key: str = "",
        should_stop: Callable[[], bool] = never,
    ) -> Observation:
        """Call a tool. Whatever goes wrong with it is a failed Observation that tells the model the cure.

        An async tool is cancelled at its timeout, and soon after `should_stop()` becomes true; a sync one runs to its
        end. The tool reads `key` with `agents.tools.context.idempotency_key`.
        """
        tool = self._tools.get(request.name) if request.name in allowed else None
        if tool is None:
            return failure(_unknown(request.name, allowed))
        if request.arguments is None:
            return failure(f"The arguments of {tool.name} could not be read ({request.error or 'not a JSON object'}). "
                           "Call it again with one complete JSON object.")  # fmt: skip
        try:
            arguments = tool.read(request.arguments)
        except ArgumentsInvalid as error:
            return failure(f"{tool.name}: {error}")
        with calling(key):
            return _call(tool, arguments, min(tool.timeout_seconds, timeout_seconds), should_stop)


def _call(
    tool: Tool, arguments: dict[str, Any], timeout_seconds: float, should_stop: Callable[[], bool]
) -> Observation:
    began = time.monotonic()
    try:
        value = run(tool, arguments, timeout_seconds, should_stop)
    except GivenUp:
        return failure(_given_up(tool))
    except ToolError as error:
        return failure(f"{tool.name}: {error}")
    except FAULTS as error:
        if isinstance(error, TimeoutError) and time.monotonic() - began >= timeout_seconds:
            return failure(_too_slow(tool, timeout_seconds))
        log.warning("tool %s failed", tool.name, exc_info=True)
        return failure(f"{tool.name} failed: {type(error).__name__}: {error}")
    if time.monotonic() - began > timeout_seconds:
        return failure(_too_slow(tool, timeout_seconds))
    try:
        return success(value)
    except (TypeError, ValueError, RecursionError) as error:
        return failure(f"{tool.name} returned something that is not JSON: {error}")


def _given_up(tool: Tool) -> str:
    told = f"{tool.name} was given up while it ran: its task is to stop."
    return told if tool.effect == "none" else f"{told} What it had done by then is not undone."


def _unknown(name: str, allowed: frozenset[str]) -> str:
    yours = ", ".join(sorted(allowed)) or "none"
    return f"There is no tool called {name[:200]!r}. Your tools: {yours}."


def _too_slow(tool: Tool, timeout_seconds: float) -> str:
    return f"{tool.name} took longer than its {timeout_seconds:g} seconds and was given up."


REGISTRY = Registry()
tool = REGISTRY.tool
names = REGISTRY.names
specs = REGISTRY.specs
act = REGISTRY.act
effect_of = REGISTRY.effect_of
timeout_of = REGISTRY.timeout_of
probe = REGISTRY.probe
