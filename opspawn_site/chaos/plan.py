"""What the fleet is given to do: scripted agents, and a seeded list of tasks with the ends that each may have."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

COMPLETED, CANCELLED = "completed", "cancelled"
TIMEOUT, LOST = "failed:timeout", "failed:worker_lost"
DEATHS = 2  # of a poison that can be cured: the process that runs it dies so often
WITHOUT_END = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of task: its agent, its share of the tasks, and how it may end."""

    agent: str
    share: float
    ends: tuple[str, ...] = (COMPLETED,)
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One task of the plan. Times are seconds since the load began."""

    number: int
    kind: str
    at: float
    cancel_after: float | None = None
    after: int | None = None  # the number of the task that it depends on

    @property
    def name(self) -> str:
        return f"{self.number:05d} {self.kind}"


def _call(*calls: tuple[str, dict[str, Any]], delay: float = 0.15) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": given} for name, given in calls], "delay_seconds": delay}


DONE = {"text": "Done.", "delay_seconds": 0.15}
ONCE = ("ledger_once", {"before": 0.15, "after": 0.25})
KEYED = ("ledger_keyed", {"before": 0.1, "after": 0.2})
NOTE = ("ledger_note", {"before": 0.05, "after": 0.05})
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "proof-model": [
        _call(("add_numbers", {"a": 5, "b": 3}), delay=0.3),
        _call(("calculator", {"expression": "8 * 2"}), delay=0.3),
        DONE,
    ],
    "proof-once": [_call(ONCE), DONE],
    "proof-keyed": [_call(KEYED), DONE],
    "proof-mixed": [_call(ONCE, KEYED), _call(NOTE), _call(ONCE), DONE],
    "proof-long": [*(_call(NOTE, delay=0.6) for _ in range(12)), DONE],
    "proof-poison": [_call(("poison", {"deaths": DEATHS})), DONE],
    "proof-deadly": [_call(("poison", {"deaths": WITHOUT_END})), DONE],
}  # fmt: skip
TOOLS = ["add_numbers", "calculator", "ledger_once", "ledger_keyed", "ledger_note", "poison"]
KINDS = {
    "model": Kind("proof-model", 0.26),
    "once": Kind("proof-once", 0.22),
    "keyed": Kind("proof-keyed", 0.12),
    "mixed": Kind("proof-mixed", 0.16),
    "dependent": Kind("proof-once", 0.08),
    "cancelled": Kind("proof-mixed", 0.08, (COMPLETED, CANCELLED)),
    "late": Kind("proof-long", 0.05, (TIMEOUT,), {"limits": {"timeout_seconds": 2}}),
    "urgent": Kind("proof-keyed", 0.03, fields={"priority": 5}),
    "poison": Kind("proof-poison", 0.0, (COMPLETED, LOST)),
    "deadly": Kind("proof-deadly", 0.0, (LOST,)),
}
POISON_EVERY, DEADLY_EVERY = 150, 300  # tasks; at least one of each from POISON_FROM tasks on
POISON_FROM = 20


def make_agents() -> None:
    """Make the scripted agents. Needs django.setup() and the proof tools; commits."""
    from agents import versions

    for slug, script in SCRIPTS.items():
        config = {"model": "scripted/list", "provider_options": {"script": script}, "tools": TOOLS}
        versions.create(slug, config, description="Proof under faults: a scripted model.", by="chaos")


def plan(tasks: int, seconds: float, random: Random) -> list[Asked]:
    """`tasks` tasks spread over the seconds, the same for the same seed."""
    kinds = _kinds(tasks, random)
    planned: list[Asked] = []
    for number, kind in enumerate(kinds):
        plain = [one.number for one in planned[-20:] if one.kind in ("model", "once", "keyed")]
        planned.append(
            Asked(
                number, kind, at=seconds * number / tasks,
                cancel_after=random.uniform(0, 3) if kind == "cancelled" else None,
                after=random.choice(plain) if kind == "dependent" and plain else None,
            )
        )  # fmt: skip
    return planned


def _kinds(tasks: int, random: Random) -> list[str]:
    special = ["poison"] * max(1, tasks // POISON_EVERY) + ["deadly"] * max(1, tasks // DEADLY_EVERY)
    special = special if tasks >= POISON_FROM else []
    names = [name for name, kind in KINDS.items() if kind.share]
    shares = [KINDS[name].share for name in names]
    chosen = special + random.choices(names, shares, k=max(0, tasks - len(special)))
    random.shuffle(chosen)
    return chosen


def body_of(asked: Asked, known: Mapping[int, str]) -> dict[str, Any]:
    """The request for it; `known` are the ids of the tasks accepted so far, by number."""
    kind = KINDS[asked.kind]
    body: dict[str, Any] = {"agent": kind.agent, "name": asked.name, "input_data": {"prompt": "prove it"}}
    if asked.after is not None and asked.after in known:
        body["depends_on"] = [known[asked.after]]
    return body | dict(kind.fields or {})
