"""What changed between two configurations, as lines that people read."""
from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Sign = Literal["plus", "minus", "same"]
LINES_SHOWN = 200  # of one key; the versions themselves hold the rest
LINES_COMPARED = 500  # between the first and the last that changed; more are shown as taken away and added


@dataclass(frozen=True, slots=True)
class Difference:
    """One key (`limits.max_steps`) and its lines, each taken away, added or kept for orientation."""

    key: str
    lines: tuple[tuple[Sign, str], ...]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """In the order of the keys; empty when nothing changed."""
    old, new = dict(_flat(before)), dict(_flat(after))
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...))
    return [Difference(key, tuple(_lines(_text(old, key), _text(new, key)))[:LINES_SHOWN]) for key in changed]


def described(config: Mapping[str, Any]) -> list[Difference]:
    """A configuration key by key in its own order, with the line breaks of its texts."""
    flat = dict(_flat(config))
    return [Difference(key, tuple(("same", line) for line in _text(flat, key))) for key in flat]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(config: Mapping[str, Any], key: str) -> list[str]:
    if key not in config:
        return []
    value = config[key]
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return shown.splitlines() or [""]


def _lines(old: list[str], new: list[str]) -> Iterator[tuple[Sign, str]]:
    """As `diff -U1`. difflib's work grows with the cube of the lines: 4,000 that repeat took a second, so it is bounded
    to what is left between a common beginning and a common end.
    """
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    begin = max(start - 1, 0)
    old, new = old[begin : len(old) - max(end - 1, 0)], new[begin : len(new) - max(end - 1, 0)]
    if max(len(old), len(new)) > LINES_COMPARED:
        yield from (("minus", line) for line in old[: LINES_SHOWN // 2])
        yield from (("plus", line) for line in new[: LINES_SHOWN // 2])
        return
    for line in list(difflib.unified_diff(old, new, lineterm="", n=1))[2:]:
        if line.startswith("@@"):
            continue
        sign: Sign = "plus" if line[0] == "+" else "minus" if line[0] == "-" else "same"
        yield sign, line[1:]


def _common(one: list[str], other: list[str]) -> int:
    """How many lines both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
