"""A cancel, a deadline or a lost lease in the middle of a call, in this process: what is written, and what is not."""
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from agents import versions
from agents.tools.registry import REGISTRY
from llm.tests.calls import load
from llm.tests.openai_server import OpenAIServer, hang, text
from tasks import cancelling, lifecycle, sweep
from tasks.claims import claim
from tasks.execution import execute
from tasks.leases import LEASES, Leases
from tasks.models import Step, Task
from tasks.tests.factories import TaskFactory
from tasks.tests.test_journal import journal_of
from tasks.tests.test_leases import claimed, events_of, expire
from tasks.tests.walking import submit
from tasks.tests.workers import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    load()


@pytest.fixture
def hanging(settings: Any) -> Iterator[OpenAIServer]:
    """An agent `stuck` whose model server accepts and never answers."""
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": "sk-test-0123456789"}
    with OpenAIServer([hang()]) as server:
        versions.create("stuck", {"model": "openai/gpt-4o-mini", "api_base": server.base_url}, by="test")
        yield server


@pytest.fixture
def tool() -> Iterator[Callable[..., str]]:
    """`tool(function)`: an agent `worker` whose model calls that function once, then answers."""

    def register(function: Callable[..., Any], effect: Any = "none") -> str:
        function.__name__, function.__doc__ = "act", "Acts."
        REGISTRY.tool(effect=effect, timeout_seconds=30, in_worker=True)(function)
        script = {"script": [{"tool_calls": [{"name": "act"}]}, {"text": "never said"}]}
        config = {"model": "scripted/list", "provider_options": script, "tools": ["act"]}
        return versions.create("worker", config, by="test").slug

    yield register
    REGISTRY._tools.pop("act", None)


def stop(task_id: str) -> None:
    """Ask for the cancel, and let this process learn of it as a worker does."""
    lifecycle.cancel(task_id, by="test")
    LEASES.hurry([task_id])
    LEASES.look_for_cancels()


def in_background(task: Task) -> threading.Thread:
    def run() -> None:
        try:
            execute(task.id, "w")
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_cancel_in_a_call_journals_the_step_as_failed_and_then_the_end(hanging: OpenAIServer) -> None:
    task = submit("stuck")
    thread = in_background(task)
    until(lambda: hanging.requests)
    stop(task.id)
    thread.join(5)

    task.refresh_from_db()
    step = Step.objects.get(task=task)
    assert (task.status, task.result, task.error_code) == ("cancelled", None, None)
    assert step.status == "failed"
    assert "may bill" in (step.error or "")
    assert [attempt["error"] for attempt in step.attempts] == [step.error]
    assert events_of(task.id)[-3:] == ["task.cancelling", "step.failed", "task.cancelled"]


def test_a_worker_whose_lease_ran_out_in_a_call_gives_it_up_and_writes_nothing(
    hanging: OpenAIServer, settings: Any
) -> None:
    task = submit("stuck")
    settings.TASK_LEASE_SECONDS = 1.5  # and nobody renews it
    thread = in_background(task)
    until(lambda: hanging.requests)
    thread.join(5)

    assert not thread.is_alive()
    task.refresh_from_db()
    assert (task.status, task.attempt) == ("running", 1)
    assert Step.objects.get(task=task).status == "started"
    assert events_of(task.id)[-1] == "step.started"
    until(sweep.recover_expired)
    assert events_of(task.id)[-1] == "task.recovered"


def test_a_call_past_its_progress_deadline_is_taken_over_and_the_hung_thread_cannot_write(
    hanging: OpenAIServer, settings: Any
) -> None:
    """Given a call that should have ended, when heartbeats go on, then they do not keep its lease."""
    task = submit("stuck")
    settings.TASK_LEASE_SECONDS = 2
    thread = in_background(task)
    until(lambda: hanging.requests)
    (held,) = LEASES.all()
    held.progress_by = time.monotonic()
    LEASES.renew()
    until(sweep.recover_expired)
    second = claim(task.id, "second")

    thread.join(5)

    assert second is not None
    task.refresh_from_db()
    assert (task.status, task.attempt, task.worker) == ("running", 2, "second")
    assert Step.objects.get(task=task).status == "started"


def test_a_lease_that_was_renewed_after_all_hands_the_task_back(hanging: OpenAIServer, settings: Any) -> None:
    task = submit("stuck")
    thread = in_background(task)
    until(lambda: hanging.requests)
    (held,) = LEASES.all()
    ends, held.lease_ends = held.lease_ends, 0.0
    until(lambda: hanging.connected == 0, 5)
    held.lease_ends = ends
    thread.join(5)
    task.refresh_from_db()
    assert task.status in ("pending", "running")  # handed back, or left to the sweeper; never failed
    assert task.error_code is None


def test_a_cancel_before_the_takeover_ends_the_task_without_another_call(hanging: OpenAIServer) -> None:
    task = submit("stuck")
    taken = claim(task.id, "lost")
    assert taken
    journal = journal_of(taken)
    journal.replay("llm", "openai/gpt-4o-mini", {})
    journal.begin("llm", "openai/gpt-4o-mini", {}, progress_seconds=5)
    lifecycle.cancel(task.id, by="test")
    expire(task.id)

    assert sweep.recover_expired() == 1
    execute(task.id, "next")

    task.refresh_from_db()
    assert (task.status, task.attempt) == ("cancelled", 1)
    assert task.completed_at is not None
    assert events_of(task.id)[-3:] == ["task.cancelling", "task.recovered", "task.cancelled"]
    assert Step.objects.get(task=task).status != "started"
    assert hanging.requests == []


@pytest.mark.parametrize("takeovers", [0, 5])
def test_a_cancelled_task_is_never_called_lost(takeovers: int, settings: Any) -> None:
    settings.TASK_MAX_TAKEOVERS = 5
    held = claimed(Leases())
    Task.objects.filter(id=held.task_id).update(takeovers=takeovers)
    lifecycle.cancel(held.task_id, by="test")
    expire(held.task_id)
    sweep.recover_expired()
    assert Task.objects.get(id=held.task_id).status == "cancelled"


@pytest.mark.parametrize("status", ["pending", "waiting"])
def test_what_a_death_left_of_a_cancel_is_finished_by_the_sweeper(status: str, settings: Any) -> None:
    settings.WORKER_QUEUES = []
    task = TaskFactory(status=status, waiting_on="input" if status == "waiting" else None)
    other = TaskFactory()
    Task.objects.filter(id=task.id).update(cancel_requested_at=task.created_at)
    sweep.sweep()
    assert Task.objects.get(id=task.id).status == "cancelled"
    assert Task.objects.get(id=other.id).status == "pending"


def test_a_claim_that_comes_before_the_sweeper_makes_no_call_either(hanging: OpenAIServer) -> None:
    task = submit("stuck")
    Task.objects.filter(id=task.id).update(cancel_requested_at=task.created_at)
    execute(task.id, "w")
    task.refresh_from_db()
    assert (task.status, hanging.requests) == ("cancelled", [])
    assert not Step.objects.filter(task=task).exists()


def test_a_task_that_was_asked_to_stop_is_not_handed_on() -> None:
    task = claim(TaskFactory().id, "w")
    assert task
    lifecycle.cancel(task.id, by="test")
    journal_of(task).release()
    task.refresh_from_db()
    assert (task.status, events_of(task.id)[-1]) == ("cancelled", "task.cancelled")
    assert cancelling.heed(task.id) is False


def test_a_sync_tool_finishes_and_the_task_ends_at_the_boundary(tool: Callable[..., str]) -> None:
    def cancels_its_own_task() -> str:
        stop(Task.objects.get(status="running").id)
        return "done all the same"

    task = submit(tool(cancels_its_own_task))
    execute(task.id, "w")
    task.refresh_from_db()
    tail = list(Step.objects.filter(task=task).order_by("seq").values_list("kind", "status", "output"))[1:]
    assert (task.status, tail) == ("cancelled", [("tool", "done", "done all the same")])
    assert events_of(task.id)[-3:] == ["task.cancelling", "step.completed", "task.cancelled"]


@pytest.mark.parametrize(("effect", "told"), [("none", "is to stop."), ("once", "is not undone.")])
def test_an_async_tool_is_cancelled_in_the_middle(tool: Callable[..., str], effect: str, told: str) -> None:
    cancelled = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            cancelled.set()

    task = submit(tool(waits, effect))
    thread = in_background(task)
    until(lambda: Step.objects.filter(task=task, kind="tool").exists())
    began = time.monotonic()
    stop(task.id)
    thread.join(5)

    assert time.monotonic() - began < 2
    assert cancelled.is_set()
    task.refresh_from_db()
    step = Step.objects.get(task=task, kind="tool")
    assert (task.status, step.status) == ("cancelled", "failed")
    assert (step.error or "").endswith(told)
    assert events_of(task.id)[-3:] == ["task.cancelling", "step.failed", "task.cancelled"]


@pytest.mark.parametrize("limits", [{"timeout_seconds": 0.5}, {"max_steps": 2}])
def test_a_cancel_comes_before_a_limit_that_is_reached_in_the_same_call(
    tool: Callable[..., str], limits: dict[str, Any]
) -> None:
    def cancels_late() -> None:
        stop(Task.objects.get(status="running").id)
        time.sleep(0.6)

    task = submit(tool(cancels_late), limits=limits)
    execute(task.id, "w")
    task.refresh_from_db()
    assert (task.status, task.error_code) == ("cancelled", None)


def test_a_hint_about_a_task_that_was_not_cancelled_changes_nothing(django_assert_num_queries: Any) -> None:
    leases = Leases()
    held = claimed(leases)
    leases.hurry([held.task_id, "task_of_somebody_else"])
    with django_assert_num_queries(1):
        leases.look_for_cancels()
    assert not held.cancelled.is_set()
    leases.hurry(["task_of_somebody_else"])
    with django_assert_num_queries(0):
        leases.look_for_cancels()


def test_a_cancel_takes_running_and_waiting_children_along(hanging: OpenAIServer) -> None:
    parent, child, idle = submit("stuck"), submit("stuck"), TaskFactory()
    Task.objects.filter(id__in=[child.id, idle.id]).update(parent=parent)
    threads = [in_background(parent), in_background(child)]
    until(lambda: len(hanging.requests) == 2)
    stop(parent.id)
    LEASES.hurry([child.id])
    LEASES.look_for_cancels()
    for thread in threads:
        thread.join(5)
    assert set(Task.objects.values_list("status", flat=True)) == {"cancelled"}


def test_tokens_of_the_steps_before_the_cancel_stay_counted(settings: Any) -> None:
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": "sk-test-0123456789"}
    with OpenAIServer([text("", usage=(40, 2)), hang()]) as server:  # an empty answer: one more turn
        versions.create("stuck", {"model": "openai/gpt-4o-mini", "api_base": server.base_url}, by="test")
        task = submit("stuck")
        thread = in_background(task)
        until(lambda: len(server.requests) == 2)
        stop(task.id)
        thread.join(5)
    task.refresh_from_db()
    assert (task.status, task.input_tokens, task.output_tokens) == ("cancelled", 40, 2)
    assert task.cost_usd > 0
