"""Suspects, run in processes of their own: few at a time, each once, and not for longer than needed."""
from __future__ import annotations

import pytest

from agents import versions
from tasks.models import Event, Task
from tasks.tests.walking import ended, submit
from tasks.tests.workers import running_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def suspect(agent: str) -> Task:
    """A pending task that two workers died of, or beside."""
    task = submit(agent)
    Task.objects.filter(id=task.id).update(takeovers=2)
    return task


def test_each_of_many_suspects_is_started_once_however_long_its_process_takes_to_start() -> None:
    versions.create("echo", {"model": "scripted/echo"}, by="test")
    tasks = [suspect("echo") for _ in range(5)]
    with running_worker(TASK_REPUBLISH_SECONDS="0.5") as worker:
        rows = [ended(task) for task in tasks]
        assert worker.log.read_text().count("task_tried_alone") == len(tasks)
    assert {(row.status, row.attempt) for row in rows} == {("completed", 1)}


def test_a_suspect_that_makes_progress_goes_on_among_the_others() -> None:
    script = {"script": [
        {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}], "delay_seconds": 0.1},
        {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 8, "b": 3}}], "delay_seconds": 2},
        {"text": "11", "delay_seconds": 0.1},
    ]}  # fmt: skip
    versions.create("patient", {"model": "scripted/list", "provider_options": script, "tools": ["add_numbers"]}, by="t")
    task = suspect("patient")
    with running_worker() as worker:
        row = ended(task)
        assert worker.log.read_text().count("task_tried_alone") == 1
    assert (row.status, row.attempt, row.takeovers) == ("completed", 2, 0)
    assert "task.recovered" not in set(Event.objects.filter(task=task).values_list("type", flat=True))
