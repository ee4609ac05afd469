"""What a person, or a program, sees of a trial: each fault as it happens, the tally, and the table at the end."""
from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from opspawn_site.fleet.progress import Lively, Progress, write_line

if TYPE_CHECKING:
    from opspawn_site.chaos.trial import Result, Wish

TALLY_EVERY_SECONDS = 10.0


class Screen:
    """Lines, for logs and pipes; a spinner with the tally on a terminal."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._told = 0.0
        self._status: Any = None

    def fault(self, name: str, seconds: float) -> None:
        lasting = f", for {seconds:.0f} s" if seconds >= 1 else ""
        self._shown.note(f"{self._shown.seconds:6.1f} s  {name}{lasting}")

    def settling(self) -> None:
        self._shown.note(f"{self._shown.seconds:6.1f} s  no more faults; waiting for the rest")

    def tally(self, accepted: int, asked: int, unfinished: int | None) -> None:
        left = "PostgreSQL is away" if unfinished is None else f"{unfinished} not final"
        text = f"{accepted} of {asked} tasks accepted, {left}"
        if isinstance(self._shown, Lively):
            self._spin(text)
        elif self._shown.seconds - self._told > TALLY_EVERY_SECONDS:
            self._told = self._shown.seconds
            self._shown.note(f"{self._shown.seconds:6.1f} s  {text}")

    def close(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _spin(self, text: str) -> None:
        if self._status is None:
            from rich.console import Console

            self._status = Console(highlight=False).status(text)
            self._status.start()
        self._status.update(text)


def report(wish: Wish, result: Result, settings: dict[str, str], as_json: bool) -> None:
    """The table, or one JSON line, on standard output."""
    if as_json:
        write_line(json.dumps(as_object(wish, result, settings)))
        return
    from rich.console import Console
    from rich.table import Table

    command = f"chaos --tasks {wish.tasks} --seed {wish.seed} --minutes {wish.minutes:g}"
    table = Table(title=command, title_justify="left")
    table.add_column("measured", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("has to be")
    for name, value, wanted in rows(result):
        table.add_row(name, value, wanted)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print("Settings: " + ", ".join(f"{name}={value}" for name, value in settings.items()), soft_wrap=True)
    console.print("Faults: " + ", ".join(f"{count} × {name}" for name, count in result.faults.items()), soft_wrap=True)
    for name, ids in broken(result).items():
        console.print(f"BROKEN {name}: {', '.join(ids[:10])}", soft_wrap=True, style="bold red")
    if not broken(result):
        console.print("Every promise was kept.", style="bold green")


def broken(result: Result) -> dict[str, list[str]]:
    """What was not kept; empty is exit code 0."""
    found = dict(result.found.broken)
    if result.orphans:
        found["orphan processes"] = [str(pid) for pid in result.orphans]
    if result.found.connections > result.connections_before:
        found["connections left open"] = [f"{result.connections_before} before, {result.found.connections} after"]
    if result.refusals:
        found["unforeseen answers of the API"] = result.refusals
    return found


def rows(result: Result) -> list[tuple[str, str, str]]:
    """Name, value, and what it has to be ('' where it is only reported)."""
    found, recovery, quiet = result.found, result.found.recovery_seconds, result.found.quiet_recovery_seconds
    ends = ", ".join(f"{count} {end}" for end, count in found.ends.most_common())
    answers = ", ".join(f"{count} {how}" for how, count in sorted(result.answers.items())) or "none"
    return [
        ("tasks accepted", str(found.accepted), ""),
        ("ended", ends, ""),
        ("faults", str(sum(result.faults.values())), ""),
        ("seconds under faults, to settle", f"{result.seconds:.0f}, {result.settle_seconds:.0f}", ""),
        ("lost", str(len(found.lost)), "0"),
        ("doubled (tasks, steps done twice)", f"{len(found.doubled_tasks)}, {len(found.done_twice)}", "0, 0"),
        ("stuck", str(len(found.stuck)), "0"),
        ("waiting with a reason", str(found.waiting), ""),
        ("ended otherwise than they had to", str(len(found.unexpected)), "0"),
        ("once: effects doubled", str(len(found.once_doubled)), "0"),
        ("once: done without the effect", str(len(found.once_missing)), "0"),
        ("once: effect, and no step tells of it", str(len(found.once_hidden)), "0"),
        ("once: effect, and the step says it is not known", str(found.once_visible), ""),
        ("once: answers of the person", answers, ""),
        ("keyed: keys with more than one effect", str(len(found.keyed_doubled)), "0"),
        ("takeovers", str(found.takeovers), ""),
        ("model calls repeated", str(found.repeated_calls), f"≤ {found.takeovers}"),
        ("tasks with more repeats than takeovers", str(len(found.repeated_too_often)), "0"),
        ("recovery, seconds: p50, max", f"{median(recovery)}, {most(recovery)}", ""),
        (f"the same, no other fault between ({len(quiet)})", f"{median(quiet)}, {most(quiet)}", "≤ lease + 2 sweeps"),
        ("tasks whose events or steps have gaps", str(len(found.gaps)), "0"),
        ("submissions: 201, tries", f"{found.accepted}, {result.tries}", ""),
        ("seconds to a 201: p50, p99, max", submit_times(result.submit_seconds), ""),
        ("orphan processes", str(len(result.orphans)), "0"),
        ("idle in transaction", str(found.idle_in_transaction), "0"),
        ("connections before, after", f"{result.connections_before}, {found.connections}", "no more after"),
    ]


def as_object(wish: Wish, result: Result, settings: dict[str, str]) -> dict[str, Any]:
    found = result.found
    return {
        "event": "chaos", "tasks": wish.tasks, "seed": wish.seed, "minutes": wish.minutes, "settings": settings,
        "accepted": found.accepted, "ends": dict(found.ends), "faults": result.faults,
        "seconds": round(result.seconds, 1), "settle_seconds": round(result.settle_seconds, 1),
        "lost": len(found.lost), "doubled": len(found.doubled_tasks) + len(found.done_twice),
        "stuck": len(found.stuck), "waiting": found.waiting, "ended_otherwise": len(found.unexpected),
        "once_doubled": len(found.once_doubled), "once_missing": len(found.once_missing),
        "once_hidden": len(found.once_hidden), "once_visible": found.once_visible, "answers": result.answers,
        "keyed_doubled": len(found.keyed_doubled), "takeovers": found.takeovers,
        "repeated_model_calls": found.repeated_calls, "repeated_too_often": len(found.repeated_too_often),
        "recovery_seconds": {"p50": median(found.recovery_seconds), "max": most(found.recovery_seconds)},
        "quiet_recovery_seconds": {
            "p50": median(found.quiet_recovery_seconds), "max": most(found.quiet_recovery_seconds),
        },
        "gaps": len(found.gaps), "tries": result.tries, "orphans": result.orphans,
        "idle_in_transaction": found.idle_in_transaction,
        "connections": {"before": result.connections_before, "after": found.connections},
        "broken": broken(result),
    }  # fmt: skip


def median(seconds: list[float]) -> float | None:
    return round(statistics.median(seconds), 2) if seconds else None


def most(seconds: list[float]) -> float | None:
    return max(seconds, default=None)


def submit_times(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    late = seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    return f"{statistics.median(seconds):.3f}, {late:.2f}, {seconds[-1]:.2f}"
