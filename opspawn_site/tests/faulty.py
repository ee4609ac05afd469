"""What the fault tests share: workers with the proof tools and a ledger, and what the history says afterwards."""
from __future__ import annotations

import contextlib
import importlib
import pathlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agents import versions
from agents.tools.registry import REGISTRY
from opspawn_site.chaos.ledger import FOLDER, Ledger
from tasks.models import Event, Step, Task
from tasks.states import EventType
from tasks.tests.workers import Worker, running_worker

PROOF_TOOLS = "opspawn_site.chaos.tools"


@contextlib.contextmanager
def proof_tools() -> Iterator[None]:
    """The proof tools in this process's registry, as it has to know them where agents are made; gone afterwards."""
    before = set(REGISTRY._tools)
    sys.modules.pop(PROOF_TOOLS, None)
    importlib.import_module(PROOF_TOOLS)
    try:
        yield
    finally:
        for name in set(REGISTRY._tools) - before:
            del REGISTRY._tools[name]
        sys.modules.pop(PROOF_TOOLS, None)


def proving(ledger: Ledger, **more: str) -> contextlib.AbstractContextManager[Worker]:
    """A worker process that has the proof tools and writes to that ledger."""
    given = {"TOOL_MODULES": PROOF_TOOLS, FOLDER: str(pathlib.Path(ledger.path).parent)} | more
    return running_worker(**given)


def agent(slug: str, *script: dict[str, Any], **config: Any) -> None:
    """Make an agent that plays the script with every tool there is."""
    tools = [listed.name for listed in REGISTRY.names()]
    options = {"script": list(script)}
    versions.create(slug, {"model": "scripted/list", "provider_options": options, "tools": tools} | config, by="test")


def call(name: str, delay_seconds: float = 0.0, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}], "delay_seconds": delay_seconds}


def say(text: str, delay_seconds: float = 0.0) -> dict[str, Any]:
    return {"text": text, "delay_seconds": delay_seconds}


def history(task: Task) -> list[str]:
    """The types of its events, after making sure that their numbers have no gap and end with the task's."""
    events = list(Event.objects.filter(task=task).order_by("seq").values_list("seq", "type"))
    row = Task.objects.get(id=task.id)
    assert [seq for seq, _ in events] == list(range(1, row.last_seq + 1))
    return [kind for _, kind in events]


def repeated(task: Task, kind: str = "llm") -> int:
    """How many calls of that kind were begun again."""
    begun = Event.objects.filter(task=task, type=EventType.STEP_STARTED, data__kind=kind)
    return sum(count - 1 for count in Counter(begun.values_list("data__step", flat=True)).values())


def each_step_is_done_once(task: Task) -> None:
    """Step numbers have no gap, every step is done, and none of them was told to be done twice."""
    steps = list(Step.objects.filter(task=task).order_by("seq").values_list("seq", "status"))
    assert steps == [(seq, "done") for seq in range(1, len(steps) + 1)]
    done = Event.objects.filter(task=task, type=EventType.STEP_COMPLETED).values_list("data__step", flat=True)
    assert sorted(done) == [seq for seq, _ in steps]
