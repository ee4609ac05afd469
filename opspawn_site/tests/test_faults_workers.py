"""Worker processes that are killed, frozen and replaced, with a ledger of what really happened kept outside of them.

Elsewhere: killed in a model call and told to stop with one task (tasks/tests/test_takeover.py), two sweepers at once
(tasks/tests/test_leases.py), many suspects (tasks/tests/test_alone.py).
"""
from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from opspawn_site.chaos.ledger import FOLDER, Ledger
from opspawn_site.tests.faulty import (
    PROOF_TOOLS,
    agent,
    call,
    each_step_is_done_once,
    history,
    proof_tools,
    proving,
    repeated,
    say,
)
from tasks import bell, resuming
from tasks.claims import claim
from tasks.models import Step, Task
from tasks.tests.walking import ended, submit
from tasks.tests.workers import Worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def ledger(tmp_path: pathlib.Path) -> Iterator[Ledger]:
    with proof_tools():
        yield Ledger(tmp_path)


def now(task: Task) -> Task:
    return Task.objects.get(id=task.id)


def has_begun(task: Task, steps: int) -> bool:
    return now(task).steps_count >= steps


def waits(task: Task) -> bool:
    return now(task).status == "waiting"


def keys_of(ledger: Ledger, mark: str = "did") -> list[str]:
    return [entry.key for entry in ledger.entries() if entry.mark == mark]


def test_a_killed_workers_tool_calls_are_treated_by_what_they_would_do_a_second_time(ledger: Ledger) -> None:
    agent("before", call("ledger_once", before=3), say("done"))
    agent("after", call("ledger_once", after=30), say("done"))
    agent("keyed", call("ledger_keyed", after=2), say("done"))
    with proving(ledger) as first:
        before, after, keyed = submit("before"), submit("after"), submit("keyed")
        until(lambda: set(keys_of(ledger)) >= {f"{after.id}:2", f"{keyed.id}:2"})
        until(lambda: f"{before.id}:2" in keys_of(ledger, "began"))
        first.kill()
    assert f"{before.id}:2" not in keys_of(ledger)
    with proving(ledger):
        until(lambda: waits(before) and waits(after))
        assert ended(keyed).status == "completed"
        assert keys_of(ledger).count(f"{after.id}:2") == 1  # nobody made a once call a second time
        assert f"{before.id}:2" not in keys_of(ledger)
        assert Step.objects.get(task=after, seq=2).status == Step.objects.get(task=before, seq=2).status == "unknown"
        resuming.resolve(before.id, "again", by="ann")
        resuming.resolve(after.id, "happened", by="ann", result="so it was")
        assert {ended(before).status, ended(after).status} == {"completed"}
    done = keys_of(ledger)
    assert [done.count(f"{task.id}:2") for task in (before, after, keyed)] == [1, 1, 2]
    for task in (before, after, keyed):
        each_step_is_done_once(task)
        assert repeated(task) == 0


def test_a_worker_killed_at_any_moment_repeats_at_most_the_call_it_was_in(ledger: Ledger) -> None:
    agent("busy", *(call("ledger_note", 0.05, before=0.05) for _ in range(20)), say("done"))
    task = submit("busy")
    for steps in (5, 24):
        with proving(ledger) as worker:
            until(partial(has_begun, task, steps))
            worker.kill()
    with proving(ledger):
        row = ended(task)
    assert (row.status, row.steps_count) == ("completed", 41)
    each_step_is_done_once(task)
    takeovers = history(task).count("task.recovered")
    assert takeovers == 2
    assert repeated(task) + repeated(task, "tool") <= takeovers


def test_a_task_that_was_claimed_and_never_begun_is_taken_over(settings: Any, ledger: Ledger) -> None:
    settings.TASK_LEASE_SECONDS = 1
    agent("brief", say("done"))
    task = submit("brief")
    assert claim(task.id, "a worker that died in its claim") is not None
    with proving(ledger):
        row = ended(task)
    assert (row.status, row.attempt) == ("completed", 2)
    assert history(task).count("task.recovered") == 1


def test_when_all_workers_are_killed_the_next_one_goes_on_with_everything(ledger: Ledger) -> None:
    agent("patient", say("done", 1.5))
    with proving(ledger) as first, proving(ledger) as second:
        tasks = [submit("patient") for _ in range(6)]
        until(lambda: Step.objects.filter(task__in=tasks).count() == len(tasks))
        first.kill()
        second.kill()
    with proving(ledger):
        rows = [ended(task) for task in tasks]
    assert {(row.status, row.attempt) for row in rows} == {("completed", 2)}
    assert [repeated(task) for task in tasks] == [1] * len(tasks)


def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_goes_on(ledger: Ledger) -> None:
    agent("patient", call("ledger_note"), say("done", 1.5))
    with proving(ledger) as frozen:
        task = submit("patient")
        until(lambda: Step.objects.filter(task=task, seq=3).exists())
        os.killpg(frozen.process.pid, signal.SIGSTOP)
        with proving(ledger):
            row = ended(task)
            told = history(task)
            os.killpg(frozen.process.pid, signal.SIGCONT)
            until(lambda: "task_fenced" in frozen.log.read_text())
    assert (row.status, row.attempt) == ("completed", 2)
    assert history(task) == told
    assert told.count("task.completed") == 1
    assert list(Step.objects.filter(task=task).order_by("seq").values_list("attempt", flat=True)) == [1, 1, 2]


def test_the_same_message_fifty_times_in_parallel_is_one_run(ledger: Ledger) -> None:
    agent("teller", call("ledger_once", after=0.3), say("done"))
    with proving(ledger), proving(ledger):
        task = submit("teller")
        again = bell.Bell(task.id, "", "teller", 1)
        with ThreadPoolExecutor(10) as several:
            list(several.map(lambda _: bell.publish("default", again), range(50)))
        row = ended(task)
    assert (row.status, row.attempt) == ("completed", 1)
    assert keys_of(ledger) == [f"{task.id}:2"]
    assert (repeated(task), repeated(task, "tool")) == (0, 0)


def test_a_task_whose_process_died_between_its_commit_and_its_bell_runs_within_the_republish_time(
    settings: Any, ledger: Ledger
) -> None:
    settings.CELERY_APPLICATION = "tasks.tests.dead_broker.app"
    bell._celery.cache_clear()
    agent("brief", say("done"))
    task = submit("brief")
    until(lambda: now(task).rung_at is None)
    Task.objects.filter(id=task.id).update(rung_at=now(task).created_at)  # marked as rung, and nothing was published
    with proving(ledger, TASK_REPUBLISH_SECONDS="1"):
        assert ended(task).status == "completed"
    bell._celery.cache_clear()


def test_a_worker_told_to_stop_with_thirty_tasks_running_leaves_all_of_them_to_others_and_repeats_no_call(
    ledger: Ledger,
) -> None:
    agent("patient", call("ledger_once", 1.0), call("ledger_note", 1.0), say("done", 1.0))
    with proving(ledger) as first:
        tasks = [submit("patient") for _ in range(30)]
        until(lambda: Task.objects.filter(status="running").count() == len(tasks), 30)
        with proving(ledger):
            assert first.stop(30) == 0
            rows = [ended(task) for task in tasks]
    assert {row.status for row in rows} == {"completed"}
    assert sum(repeated(task) + repeated(task, "tool") for task in tasks) == 0
    assert not any("task.recovered" in history(task) for task in tasks)
    assert sorted(keys_of(ledger)) == sorted([f"{task.id}:{seq}" for task in tasks for seq in (2, 4)])


def test_a_rolling_deploy_of_two_workers_costs_no_task_anything(ledger: Ledger) -> None:
    agent("patient", *(call("ledger_keyed", 0.7) for _ in range(6)), say("done", 0.7))
    with ExitStack() as stack:
        old = [stack.enter_context(proving(ledger)) for _ in range(2)]
        tasks = [submit("patient") for _ in range(10)]
        until(lambda: Task.objects.filter(status="running").count() == len(tasks))
        for worker in old:
            stack.enter_context(proving(ledger))
            assert worker.stop(30) == 0
        rows = [ended(task) for task in tasks]
    assert {(row.status, row.takeovers) for row in rows} == {("completed", 0)}
    assert sum(repeated(task) + repeated(task, "tool") for task in tasks) == 0
    assert len(keys_of(ledger)) == len(set(keys_of(ledger))) == 60


@contextmanager
def started(ledger: Ledger) -> Iterator[Worker]:
    """A worker that may die of its first task before anybody could see that it was ready."""
    worker = Worker(TOOL_MODULES=PROOF_TOOLS, TASK_MAX_TAKEOVERS="2", **{FOLDER: str(ledger.path.parent)})
    try:
        yield worker
    finally:
        worker.kill()
        worker.log.unlink(missing_ok=True)


@pytest.mark.parametrize(("deaths", "end"), [(2, "completed"), (1000, "failed")])
def test_a_task_that_kills_its_process_ends_without_taking_its_neighbours_along(
    deaths: int, end: str, ledger: Ledger
) -> None:
    agent("poison", call("poison", deaths=deaths), say("cured"))
    agent("neighbour", call("ledger_once", 0.2), say("done", 0.5), queue="default")
    tasks = [submit("neighbour") for _ in range(5)]
    poison = submit("poison")
    with ExitStack() as stack:
        workers = [stack.enter_context(started(ledger))]

        def over() -> bool:
            for row in Task.objects.filter(status="waiting"):
                answer = "happened" if f"{row.id}:2" in keys_of(ledger) else "again"
                resuming.resolve(row.id, answer, by="ann", result="seen")
            if workers[-1].process.poll() is not None:
                workers.append(stack.enter_context(started(ledger)))
            return not Task.objects.exclude(status__in=["completed", "failed"]).exists()

        until(over, 60)
        died = [worker for worker in workers if worker.process.poll() is not None]
    row = now(poison)
    assert (row.status, row.error_code) == (end, "worker_lost" if end == "failed" else None)
    assert len(died) == 2  # after that it was tried alone
    assert {now(task).status for task in tasks} == {"completed"}
    assert sorted(key for key in keys_of(ledger) if key != f"{poison.id}:2") == sorted(f"{one.id}:2" for one in tasks)


CLOCK = """
import time, django.utils.timezone as zone
from datetime import timedelta
from functools import partial
_time, _now = time.time, zone.now
time.time = lambda: _time() + 600
zone.now = lambda: _now() + timedelta(seconds=600)
"""


def test_a_workers_clock_that_is_ten_minutes_fast_changes_nothing(tmp_path: pathlib.Path, ledger: Ledger) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    agent("patient", say("done", 4))  # longer than a lease
    agent("brief", say("done"))
    with proving(ledger, PYTHONPATH=str(tmp_path)) as fast:
        task = submit("patient")
        until(lambda: Step.objects.filter(task=task).exists())
        with proving(ledger):
            later = submit("brief", scheduled_at=timezone.now() + timedelta(minutes=5))
            row = ended(task)
            assert row.started_at is not None
            assert row.started_at < timezone.now()
            fast.kill()
    assert (row.status, row.attempt) == ("completed", 1)
    assert now(later).status == "pending"
    assert "task.recovered" not in history(task)
