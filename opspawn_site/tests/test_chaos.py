"""The proof under faults is itself proved: it is the same for the same seed, and it sees what it looks for."""
from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from django.utils import timezone

from opspawn_site.chaos.findings import Findings, measure
from opspawn_site.chaos.ledger import Ledger
from opspawn_site.chaos.plan import KINDS, SCRIPTS, plan
from opspawn_site.tests.faulty import agent, call, proof_tools, say
from opspawn_site.tests.fleets import manage
from tasks.execution import execute
from tasks.models import Event, Step, Task
from tasks.tests.walking import submit
from tasks.tests.workers import database_url


def test_the_same_seed_plans_the_same_tasks_and_another_seed_others() -> None:
    assert plan(300, 60, Random(7)) == plan(300, 60, Random(7))
    assert plan(300, 60, Random(7)) != plan(300, 60, Random(8))


def test_every_kind_of_task_is_planned_and_has_an_agent() -> None:
    assert {one.kind for one in plan(300, 60, Random(7))} == set(KINDS)
    assert {kind.agent for kind in KINDS.values()} <= set(SCRIPTS)


@pytest.fixture
def ledger(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setenv("OPSPAWN_LEDGER", str(tmp_path))
    with proof_tools():
        yield Ledger(tmp_path)


@pytest.fixture
def task(ledger: Ledger) -> Task:
    """A completed task that made one `once` call."""
    agent("teller", call("ledger_once"), say("done"))
    made = submit("teller", name="00000 once")
    execute(made.id, "w")
    return made


def found(ledger: Ledger, *accepted: str) -> Findings:
    return measure(database_url(), dict(enumerate(accepted)), ledger.entries(), (), ())


@pytest.mark.django_db(transaction=True)
def test_nothing_is_broken_where_nothing_went_wrong(task: Task, ledger: Ledger) -> None:
    assert found(ledger, task.id).broken == {}


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_not_there_is_lost(task: Task, ledger: Ledger) -> None:
    assert found(ledger, task.id, "task_0").broken == {"lost": ["task_0"]}


@pytest.mark.django_db(transaction=True)
def test_a_task_that_does_not_end_is_stuck(task: Task, ledger: Ledger) -> None:
    other = submit("teller", name="00001 once")
    assert found(ledger, task.id, other.id).broken == {"stuck": [other.id]}


@pytest.mark.django_db(transaction=True)
def test_an_effect_that_happened_twice_is_seen(task: Task, ledger: Ledger) -> None:
    ledger.append("ledger_once", f"{task.id}:2", "did")
    assert found(ledger, task.id).broken == {"once doubled": [f"{task.id}:2"]}


@pytest.mark.django_db(transaction=True)
def test_a_step_that_is_done_without_its_effect_is_seen(task: Task, ledger: Ledger) -> None:
    ledger.path.unlink()
    assert found(ledger, task.id).broken == {"once missing": [f"{task.id}:2"]}


@pytest.mark.django_db(transaction=True)
def test_an_effect_that_no_step_tells_of_is_seen(task: Task, ledger: Ledger) -> None:
    ledger.append("ledger_once", f"{task.id}:9", "did")
    assert found(ledger, task.id).broken == {"once hidden": [f"{task.id}:9"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda task: Event.objects.filter(task=task, seq=3).delete(), "gaps"),
        (lambda task: Step.objects.filter(task=task, seq=2).update(seq=7), "gaps"),
        (lambda task: Event.objects.filter(task=task, type="task.completed").update(type="task.failed"), "gaps"),
        (lambda task: Event.objects.filter(task=task, type="step.completed").update(data={"step": 1}), "doubled"),
        (
            lambda task: Event.objects.filter(task=task, type="step.started").update(data={"step": 1, "kind": "llm"}),
            "repeated too often",
        ),
    ],
)
def test_a_history_that_cannot_be_is_seen(change: Any, told: str, task: Task, ledger: Ledger) -> None:
    change(task)
    assert told in found(ledger, task.id).broken


@pytest.mark.django_db(transaction=True)
def test_an_end_that_a_task_may_not_have_is_seen(task: Task, ledger: Ledger) -> None:
    Task.objects.create(
        version=task.version, agent=task.agent, name="00001 model", input_data={}, last_seq=1, status="failed",
        error_code="worker_lost", error_message="lost", completed_at=timezone.now(),
    )  # fmt: skip
    assert list(found(ledger, task.id).broken) == ["gaps", "ended otherwise"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_trial_keeps_every_promise_and_leaves_nothing_behind() -> None:
    done = manage("chaos", "--tasks", "12", "--minutes", "0.3", "--seed", "5", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["accepted"], told["lost"], told["stuck"], told["once_doubled"]) == (12, 0, 0, 0)
    assert sum(told["faults"].values()) >= 2
    assert told["orphans"] == []
