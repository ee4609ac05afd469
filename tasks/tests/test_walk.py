"""The walk through every real part: a door, the bell, a worker process, the journal, and back to the door."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from agents import versions
from tasks import lifecycle
from tasks.models import Event, Step, Task
from tasks.tests.walking import ARITHMETIC, ended, submit
from tasks.tests.workers import Worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

@pytest.fixture
def clerk() -> str:
    """An agent on the scripted model that adds 5 and 3."""
    config = {"model": "scripted/list", "provider_options": {"script": ARITHMETIC}, "tools": ["add_numbers"]}
    return versions.create("clerk", config, by="test").slug


def test_a_task_goes_pending_running_completed_and_every_door_tells_the_same(worker: Worker, clerk: str) -> None:
    task = submit(clerk)
    assert task.status == "pending"
    assert task.updated_at >= task.created_at

    task = ended(task)

    assert (task.status, task.result, task.attempt, task.steps_count) == (
        "completed", {"agent_outcome": "The sum is 8, no error, nothing failed."}, 1, 3,
    )  # fmt: skip
    assert task.created_at <= task.started_at <= task.completed_at
    kinds = list(Step.objects.filter(task=task).order_by("seq").values_list("kind", "status", "input", "output"))
    assert kinds[1] == ("tool", "done", {"a": 5, "b": 3}, {"sum": 8})
    events = list(Event.objects.filter(task=task).order_by("seq").values_list("seq", "type"))
    assert events == list(enumerate(
        ["task.created", "task.started", *["step.started", "step.completed"] * 3, "task.completed"], start=1
    ))  # fmt: skip


def test_a_provider_that_does_not_exist_fails_by_name_and_the_next_task_succeeds(worker: Worker, clerk: str) -> None:
    lost = ended(submit(clerk, overrides={"llm_provider": "non_existent_provider"}))
    fine = ended(submit(clerk))
    assert (lost.status, lost.error_code) == ("failed", "invalid_agent_config")
    assert "non_existent_provider" in (lost.error_message or "")
    assert fine.status == "completed"


def test_fifty_tasks_at_once_are_each_run_once(worker: Worker, clerk: str) -> None:
    def one(_: int) -> Task:
        try:
            return submit(clerk)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        tasks = list(pool.map(one, range(50)))
    done = [ended(task) for task in tasks]

    assert len({task.id for task in done}) == 50
    assert {(task.status, task.attempt, task.steps_count) for task in done} == {("completed", 1, 3)}


def test_a_task_over_its_time_limit_fails_with_the_time_it_ended(worker: Worker) -> None:
    slow = {"script": [{"text": "late", "delay_seconds": 30}]}
    versions.create("slow", {"model": "scripted/list", "provider_options": slow}, by="test")
    task = ended(submit("slow", limits={"timeout_seconds": 1}))
    assert (task.status, task.error_code) == ("failed", "timeout")
    assert task.completed_at is not None


def test_a_provider_that_answers_nonsense_on_every_attempt_fails_with_that_reason(worker: Worker) -> None:
    script = {"script": [{"error": "malformed"}]}
    versions.create("babbler", {"model": "scripted/list", "provider_options": script}, by="test")
    task = ended(submit("babbler"))
    step = Step.objects.get(task=task)
    assert (task.status, task.error_code) == ("failed", "provider_error")
    assert (step.status, len(step.attempts), step.simulated) == ("failed", 3, True)


def test_a_running_task_that_is_cancelled_ends_cancelled_and_keeps_what_it_did(worker: Worker) -> None:
    script = {"script": [{**ARITHMETIC[0], "delay_seconds": 20}, {"text": "never"}]}
    versions.create("patient", {"model": "scripted/list", "provider_options": script, "tools": ["add_numbers"]}, by="t")
    task = submit("patient")
    until(lambda: Task.objects.get(id=task.id).status == "running")
    asked = lifecycle.cancel(task.id, by="test")
    assert asked.cancel_requested_at is not None
    task = ended(task)
    assert (task.status, task.result) == ("cancelled", None)
