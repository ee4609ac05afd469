"""Regular expressions that cannot run away: matched by all ways at once, every step of them counted.

Python's own matcher backtracks: `(a+)+$` against thirty letters takes minutes, and holds the whole process meanwhile.
Here an expression becomes the states of a Thompson automaton (Thompson, "Regular Expression Search Algorithm", CACM
11(6), 1968), whose work is at most its states times the text. What no automaton can do, looking around and referring
back, is refused when the expression is read.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from re import _constants as ops  # type: ignore[attr-defined]  # isort: skip
from re import _parser as parser  # type: ignore[attr-defined]  # isort: skip

MAX_STATES = 2000
CHARACTERS = {"LITERAL", "NOT_LITERAL", "ANY", "IN"}

Spend = Callable[[int], None]


class Unbounded(ValueError):
    """The expression cannot be matched in bounded time."""


@dataclass(slots=True)
class State:
    """Goes on to `then` by a character that `eats` matches, or freely where it is None, if `where` allows."""

    then: list[int] = field(default_factory=list)
    eats: re.Pattern[str] | None = None
    where: str = ""


class Automaton:
    """A compiled expression; state 0 is where it begins, the last one where it has matched."""

    def __init__(self, expression: str) -> None:
        """Raises Unbounded, and re.error for what is no expression."""
        parsed = parser.parse(expression)
        if parsed.state.flags & ~re.UNICODE:
            raise Unbounded("it sets flags inside")
        self.states: list[State] = []
        self.end = self._sequence(list(parsed), self._new())

    def found_in(self, text: str, spend: Spend) -> bool:
        """Whether the expression matches anywhere in the text, as `re.search` has it. `spend(steps)` may raise."""
        now: set[int] = set()
        for place in range(len(text) + 1):
            now = self._free(now | {0}, text, place, spend)
            if self.end in now:
                return True
            if place < len(text):
                eating = (self.states[number] for number in now)
                now = {state.then[0] for state in eating if state.eats is not None and state.eats.match(text[place])}
        return False

    def _free(self, numbers: set[int], text: str, place: int, spend: Spend) -> set[int]:
        """These states, and all that are reached from them without a character."""
        seen, todo = set(numbers), list(numbers)
        while todo:
            state = self.states[todo.pop()]
            if state.eats is None and _holds(state.where, text, place):
                fresh = [number for number in state.then if number not in seen]
                seen.update(fresh)
                todo += fresh
        spend(len(seen))
        return seen

    def _new(self, eats: re.Pattern[str] | None = None, where: str = "") -> int:
        if len(self.states) >= MAX_STATES:
            raise Unbounded(f"it is too large: at most {MAX_STATES} states, repetitions written out")
        self.states.append(State(eats=eats, where=where))
        return len(self.states) - 1

    def _step(self, at: int, eats: re.Pattern[str] | None = None, where: str = "") -> int:
        """A new state after `at`, entered freely, and left for the returned one by `eats` or `where`."""
        state, after = self._new(eats, where), self._new()
        self.states[at].then.append(state)
        self.states[state].then.append(after)
        return after

    def _sequence(self, items: list[Any], at: int) -> int:
        for op, argument in items:
            at = self._item(str(op), argument, at)
        return at

    def _item(self, op: str, argument: Any, at: int) -> int:
        if op in CHARACTERS:
            return self._step(at, eats=_character(op, argument))
        if op == "AT":
            return self._step(at, where=str(argument))
        if op == "SUBPATTERN":
            _, add, drop, inner = argument
            if add or drop:
                raise Unbounded("it sets flags inside")
            return self._sequence(list(inner), at)
        if op == "BRANCH":
            return self._branch([list(branch) for branch in argument[1]], at)
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = argument
            return self._repeat(least, most, list(inner), at)
        raise Unbounded("it looks around or refers back, which takes unbounded time")

    def _branch(self, branches: list[list[Any]], at: int) -> int:
        end = self._new()
        for branch in branches:
            begin = self._new()
            self.states[at].then.append(begin)
            self.states[self._sequence(branch, begin)].then.append(end)
        return end

    def _repeat(self, least: int, most: Any, inner: list[Any], at: int) -> int:
        if least > MAX_STATES:  # also of nothing at all
            raise Unbounded(f"it repeats {least} times: at most {MAX_STATES}")
        for _ in range(least):
            at = self._sequence(inner, at)
        end = self._new()
        if most == ops.MAXREPEAT:
            loop = self._new()
            self.states[at].then.append(loop)
            self.states[loop].then.append(end)
            begin = self._new()
            self.states[loop].then.append(begin)
            self.states[self._sequence(inner, begin)].then.append(loop)
            return end
        for _ in range(int(most) - least):
            self.states[at].then.append(end)
            begin = self._new()
            self.states[at].then.append(begin)
            at = self._sequence(inner, begin)
        self.states[at].then.append(end)
        return end


@lru_cache(maxsize=256)
def automaton(expression: str) -> Automaton:
    """Compiled once. Raises Unbounded, and re.error for what is no expression."""
    return Automaton(expression)


def _character(op: str, argument: Any) -> re.Pattern[str]:
    """An expression of one character: harmless in Python's own matcher."""
    if op == "ANY":
        return re.compile(".")
    if op in ("LITERAL", "NOT_LITERAL"):
        return re.compile(f"[{'^' if op == 'NOT_LITERAL' else ''}{re.escape(chr(argument))}]", re.DOTALL)
    parts = [_part(str(kind), value) for kind, value in argument]
    return re.compile(f"[{''.join(parts)}]", re.DOTALL)


def _part(kind: str, value: Any) -> str:
    if kind == "NEGATE":
        return "^"
    if kind == "RANGE":
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    if kind == "LITERAL":
        return re.escape(chr(value))
    return CATEGORIES[str(value)]


CATEGORIES = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip


def _holds(where: str, text: str, place: int) -> bool:
    """Whether an anchor holds before the character at that place."""
    if where in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return place == 0
    if where in ("AT_END", "AT_END_STRING"):
        return place == len(text)  # as ECMA-262 has it, without Python's grace for a last line break
    if where in ("AT_BOUNDARY", "AT_NON_BOUNDARY"):
        before, after = _is_word(text, place - 1), _is_word(text, place)
        return (before != after) == (where == "AT_BOUNDARY")
    return True


def _is_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and (text[place].isalnum() or text[place] == "_")
