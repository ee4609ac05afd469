"""Workers that die, stop, or talk to a real server: each test has workers of its own."""
from __future__ import annotations

import pytest

from agents import versions
from llm.tests.openai_server import OpenAIServer, text, tool_calls
from tasks.models import Event, Step
from tasks.tests.walking import ARITHMETIC, ended, submit
from tasks.tests.workers import running_worker, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_a_killed_workers_task_goes_on_elsewhere_and_finished_steps_are_not_repeated() -> None:
    script = {"script": [ARITHMETIC[0], {"text": "8", "delay_seconds": 4}]}
    versions.create("patient", {"model": "scripted/list", "provider_options": script, "tools": ["add_numbers"]}, by="t")
    with running_worker() as first:
        task = submit("patient")
        until(lambda: Step.objects.filter(task=task, seq=3).exists())
        first.kill()
    with running_worker():
        task = ended(task)
    assert (task.status, task.attempt, task.result) == ("completed", 2, {"agent_outcome": "8"})
    steps = Step.objects.filter(task=task).order_by("seq")
    assert list(steps.values_list("seq", "attempt")) == [(1, 1), (2, 1), (3, 2)]
    events = list(Event.objects.filter(task=task).order_by("seq").values_list("seq", "type"))
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    assert "task.recovered" in {kind for _, kind in events}


def test_a_worker_told_to_stop_hands_its_task_back_between_steps() -> None:
    script = {"script": [{**ARITHMETIC[0], "delay_seconds": 1.5}, {"text": "8"}]}
    versions.create("patient", {"model": "scripted/list", "provider_options": script, "tools": ["add_numbers"]}, by="t")
    with running_worker() as first:
        task = submit("patient")
        until(lambda: Step.objects.filter(task=task, seq=1).exists())
        assert first.stop() == 0
        assert first.log.read_text().count("task_released") == 1
    with running_worker():
        task = ended(task)
    assert (task.status, task.attempt, task.takeovers) == ("completed", 2, 0)
    assert "task.recovered" not in set(Event.objects.filter(task=task).values_list("type", flat=True))
    assert Step.objects.get(task=task, seq=1).attempt == 1


def test_the_same_walk_over_real_http_in_openais_protocol() -> None:
    with OpenAIServer([tool_calls(("add_numbers", {"a": 5, "b": 3})), text("8")]) as server:
        versions.create("real", {"model": "openai/gpt-4o-mini", "tools": ["add_numbers"]}, by="test")
        with running_worker(OPENAI_API_KEY="test-key", OPENAI_API_BASE=server.base_url):
            task = ended(submit("real"))
    assert (task.status, task.result) == ("completed", {"agent_outcome": "8"})
    assert len(server.requests) == 2
    assert task.input_tokens > 0
    assert not Step.objects.filter(task=task, simulated=True).exists()
