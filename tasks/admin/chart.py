"""A chart of stacked bars by day, laid out for an SVG of fixed size that the browser scales."""
from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

WIDTH, HEIGHT = 1000.0, 260.0
LEFT, TOP, BOTTOM = 70.0, 10.0, 26.0  # room for the labels
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT, HEIGHT - TOP - BOTTOM
COLOURS = 6  # as many series have one of their own in console.css; the rest are one
OTHERS = "others"
LABELS = 12  # days that are named below the bars
LINES = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a day's bar; `words` is what is said when the pointer is on it."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    words: str


@dataclass(frozen=True, slots=True)
class Label:
    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws: bars, lines with their amounts, days, and what each colour means."""

    bars: list[Bar]
    lines: list[Label]
    days: list[Label]
    legend: list[tuple[int, str]]

    @classmethod
    def of(
        cls, values: Iterable[tuple[datetime.date, str, float]], first: datetime.date, last: datetime.date,
        shown: Callable[[Any], str],
    ) -> Chart:  # fmt: skip
        """Of (day, series, amount); days from `first` to `last`. `shown` writes an amount."""
        stacks: dict[datetime.date, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        values = list(values)
        series = _largest(values)
        for day, name, amount in values:
            stacks[day][name if name in series else OTHERS] += amount
        top = step_of(max((sum(stack.values()) for stack in stacks.values()), default=0.0)) * LINES
        days = [first + datetime.timedelta(days=number) for number in range((last - first).days + 1)]
        room = PLOT_WIDTH / len(days)
        bars = [bar for number, day in enumerate(days) for bar in _bars(
            stacks.get(day, {}), LEFT + number * room, room, top, series, f"{day:%Y-%m-%d}", shown)]  # fmt: skip
        every = math.ceil(len(days) / LABELS)
        return cls(
            bars,
            [Label(TOP + PLOT_HEIGHT * (1 - n / LINES), shown(_exact(top * n / LINES))) for n in range(LINES + 1)],
            [Label(LEFT + (n + 0.5) * room, f"{day:%b} {day.day}") for n, day in enumerate(days) if n % every == 0],
            [(colour, name) for name, colour in series.items()],
        )


def step_of(highest: float) -> float:
    """The amount between two of four lines: 1, 2, 2.5 or 5 times a power of ten, so that the highest bar fits.

    >>> step_of(9.3), step_of(0.0017), step_of(0)
    (2.5, 0.0005, 0.25)
    """
    wanted = (highest or 1.0) / LINES
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(round(size * power, 12) for size in (1, 2, 2.5, 5, 10) if size * power >= wanted * (1 - 1e-9))


def _largest(values: list[tuple[datetime.date, str, float]]) -> dict[str, int]:
    """The series that get a colour of their own, the largest first, and then all others."""
    sums: dict[str, float] = defaultdict(float)
    for _, name, amount in values:
        sums[name] += amount
    order = sorted(sums, key=lambda name: -sums[name])
    kept = order if len(order) <= COLOURS else [*order[: COLOURS - 1], OTHERS]
    return {name: colour for colour, name in enumerate(kept)}


def _bars(
    stack: dict[str, float], x: float, room: float, top: float, series: dict[str, int], day: str,
    shown: Callable[[Any], str],
) -> list[Bar]:  # fmt: skip
    bars, y = [], TOP + PLOT_HEIGHT
    for name in (name for name in series if stack.get(name)):
        height = PLOT_HEIGHT * stack[name] / top
        y -= height
        words = f"{day} · {name}: {shown(_exact(stack[name]))}"
        gap = min(6.0, room * 0.25)
        left, up, wide, high = (round(number, 2) for number in (x + gap / 2, y, room - gap, height))
        bars.append(Bar(left, up, wide, high, series[name], words))
    return bars


def _exact(amount: float) -> Decimal:
    return Decimal(str(round(amount, 10)))
