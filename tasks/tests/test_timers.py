"""A model that is not to be asked now: its task waits for a timer, holds no slot, keeps its attempts, and goes on."""
from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from agents import versions
from llm.tests.openai_server import OpenAIServer, error, raw, text, tool_calls
from llm.tests.redis_server import forget
from tasks import lifecycle, timers
from tasks.claims import claim
from tasks.execution import execute
from tasks.journal import Journal
from tasks.leases import LEASES, Leases
from tasks.models import Event, Step, Task
from tasks.sweep import recover_expired
from tasks.tests.clients import Consumer
from tasks.tests.factories import TaskFactory
from tasks.tests.walking import ended, submit
from tasks.tests.workers import running_worker

pytestmark = pytest.mark.django_db(transaction=True)

MODEL = "openai/gpt-4o-mini"
LONG = error(429, "slow down", retry_after="120")


@pytest.fixture
def serve(settings) -> Iterator[Any]:
    """`serve(answer, …)`: a local server that openai/… is reached at, and an agent `asker` on it."""
    forget()
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": "sk-canary-0123456789"}
    opened: list[OpenAIServer] = []

    def start(*answers: Any, **config: Any) -> OpenAIServer:
        server = OpenAIServer(list(answers)).__enter__()
        opened.append(server)
        settings.PROVIDER_API_BASES = {**settings.PROVIDER_API_BASES, "openai": server.base_url}
        versions.create("asker", {"model": MODEL, "tools": ["add_numbers"]} | config, by="test")
        return server

    yield start
    for server in opened:
        server.__exit__(None, None, None)


def run(task: Task) -> Task:
    execute(task.id, "w")
    task.refresh_from_db()
    return task


def woken(task: Task) -> Task:
    """The task after its time has come and a sweeper was there."""
    Task.objects.filter(id=task.id).update(wake_at=timezone.now() - timedelta(seconds=1))
    assert timers.wake_due() == 1
    task.refresh_from_db()
    return task


def events(task: Task) -> list[str]:
    return list(Event.objects.filter(task=task).order_by("seq").values_list("type", flat=True))


def parked(**fields: Any) -> Task:
    return TaskFactory(**({"status": "waiting", "waiting_on": "timer", "wake_at": timezone.now()} | fields))


def test_a_long_wait_holds_no_worker_and_is_told_with_its_end_and_reason(serve: Any) -> None:
    server = serve(LONG)
    task = run(submit("asker"))

    assert (task.status, task.waiting_on, task.worker, task.lease_until) == ("waiting", "timer", "", None)
    assert task.wake_at is not None
    assert timedelta(seconds=110) < task.wake_at - timezone.now() < timedelta(seconds=133)
    assert LEASES.all() == []
    said = Event.objects.get(task=task, type="task.waiting").data
    assert {name: said[name] for name in ("waiting_on", "step", "provider", "model")} == {
        "waiting_on": "timer", "step": 1, "provider": "openai", "model": MODEL,
    }  # fmt: skip
    assert abs((task.wake_at - timezone.datetime.fromisoformat(said["until"])).total_seconds()) < 5
    assert "limits the rate of calls (HTTP 429): slow down" in said["reason"]
    step = Step.objects.get(task=task)
    assert [(made["model"], 120 <= made["wait_seconds"] <= 132) for made in step.attempts] == [(MODEL, True)]
    assert len(server.requests) == 1


def test_when_its_time_has_come_it_goes_on_with_the_attempts_it_has_made(serve: Any) -> None:
    server = serve(LONG, LONG, text("8"))
    task = run(woken(run(woken(run(submit("asker"))))))

    assert (task.status, task.result, task.attempt) == ("completed", {"agent_outcome": "8"}, 3)
    step = Step.objects.get(task=task)
    assert (step.status, step.error, step.model) == ("done", None, MODEL)
    assert [bool(made["error"]) for made in step.attempts] == [True, True, False]
    assert [bool(made["wait_seconds"]) for made in step.attempts] == [True, True, False]
    assert len(server.requests) == 3
    assert events(task) == [
        "task.created", *["task.started", "step.started", "task.waiting", "task.resumed"] * 2, "task.started",
        "step.started", "step.completed", "task.completed",
    ]  # fmt: skip
    numbers = Event.objects.filter(task=task).order_by("seq").values_list("seq", flat=True)
    assert list(numbers) == list(range(1, len(numbers) + 1))


def test_attempts_before_the_wait_count_towards_the_most_that_are_made(serve: Any) -> None:
    server = serve(LONG)
    task = run(woken(run(woken(run(submit("asker"))))))

    assert (task.status, task.error_code) == ("failed", "rate_limited")
    assert len(Step.objects.get(task=task).attempts) == len(server.requests) == 3


def test_what_was_billed_before_the_wait_is_counted_once_on_the_task_and_on_its_step(serve: Any) -> None:
    billed = {"id": "x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    serve(raw(200, billed, headers={"Retry-After": "90"}), LONG, text("8", usage=(11, 7)))
    task = run(woken(run(submit("asker"))))
    step = Step.objects.get(task=task)

    assert (task.status, task.input_tokens, task.output_tokens) == ("completed", 16, 9)
    assert (step.input_tokens, step.output_tokens, step.cost_usd) == (16, 9, task.cost_usd)


def test_attempts_before_the_wait_outlive_a_worker_that_died_after_it(serve: Any) -> None:
    server = serve(LONG)
    task = woken(run(submit("asker")))
    claimed = claim(task.id, "dies")
    assert claimed
    journal = Journal(Leases().hold(task.id, claimed.attempt, time.monotonic()), list(Step.objects.filter(task=task)))
    given = Step.objects.get(task=task).input
    journal.replay("llm", MODEL, given)
    journal.begin("llm", MODEL, given, progress_seconds=5)
    Task.objects.filter(id=task.id).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert recover_expired() == 1

    task = run(woken(run(task)))

    assert (task.status, task.error_code) == ("failed", "rate_limited")
    assert len(Step.objects.get(task=task).attempts) == len(server.requests) == 3


def test_earlier_steps_are_not_made_again_and_a_script_of_tools_goes_on(serve: Any) -> None:
    server = serve(tool_calls(("add_numbers", {"a": 5, "b": 3})), LONG, text("8"))
    task = run(woken(run(submit("asker"))))

    assert (task.status, task.steps_count, len(server.requests)) == ("completed", 3, 3)
    assert list(Step.objects.filter(task=task).order_by("seq").values_list("kind", "status")) == [
        ("llm", "done"), ("tool", "done"), ("llm", "done"),
    ]  # fmt: skip


def test_the_wait_does_not_count_as_running_time(serve: Any) -> None:
    serve(LONG, text("8"))
    task = run(submit("asker", limits={"timeout_seconds": 30}))
    Task.objects.filter(id=task.id).update(updated_at=timezone.now() - timedelta(hours=1))

    task = run(woken(task))

    assert task.status == "completed"
    assert task.running_seconds < 30


def test_a_waiting_task_is_cancelled_at_once(serve: Any) -> None:
    serve(LONG)
    task = run(submit("asker"))

    assert lifecycle.cancel(task.id, by="test").status == "cancelled"
    assert Step.objects.get(task=task).status == "failed"
    Task.objects.filter(id=task.id).update(wake_at=timezone.now() - timedelta(seconds=1))
    assert timers.wake_due() == 0


def test_a_cancel_that_comes_as_the_task_is_put_off_is_heeded(serve: Any, monkeypatch) -> None:
    serve(LONG)
    task = submit("asker")
    from tasks import parking

    told = parking.PutOff.told

    def cancelled_meanwhile(self: Any) -> dict[str, Any]:
        lifecycle.cancel(task.id, by="test")
        return told(self)

    monkeypatch.setattr(parking.PutOff, "told", cancelled_meanwhile)

    assert run(task).status == "cancelled"


def test_an_open_circuit_puts_a_task_off_before_its_first_attempt(serve: Any, settings) -> None:
    settings.LLM_CIRCUIT_FAILURES, settings.LLM_MAX_ATTEMPTS = 1, 1
    server = serve(error(500))
    failed = run(submit("asker"))
    task = run(submit("asker"))

    assert (failed.status, failed.error_code) == ("failed", "provider_error")
    assert (task.status, task.waiting_on, len(server.requests)) == ("waiting", "timer", 1)
    (skipped,) = Step.objects.get(task=task).attempts
    assert (skipped["skipped"], skipped["seconds"]) == (1, 0)
    assert "cool-down" in skipped["error"]


def test_only_what_is_due_is_woken_and_two_sweepers_share_it() -> None:
    due = {parked().id for _ in range(30)}
    parked(wake_at=timezone.now() + timedelta(minutes=5))
    TaskFactory(status="waiting", waiting_on="input")

    def sweep(_: int) -> int:
        try:
            return timers.wake_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(sweep, range(4)))

    assert sum(counts) == 30
    assert {task.id for task in Task.objects.filter(status="pending", waiting_on=None, wake_at=None)} == due
    assert Event.objects.filter(type="task.resumed", data={"by": "timer"}).count() == 30


def test_the_sweeper_knows_when_the_next_timer_is_due() -> None:
    assert timers.seconds_to_next() == float("inf")
    parked(wake_at=timezone.now() + timedelta(seconds=60))
    assert 50 < timers.seconds_to_next() <= 60
    parked(wake_at=timezone.now() - timedelta(seconds=60))
    assert timers.seconds_to_next() == 0


def test_why_names_the_provider_and_until_when_it_is_left_alone(serve: Any) -> None:
    serve(LONG)
    api = Consumer()
    task = run(submit("asker", api_key=api.key))

    body = api.get(f"/tasks/{task.id}/why/").json()

    assert (body["status"], body["waiting_on"]) == ("waiting", "timer")
    (reason,) = body["reasons"]
    assert reason["code"] == "provider_cooldown"
    assert task.wake_at is not None
    assert f"It leaves openai alone until {task.wake_at:%Y-%m-%d %H:%M:%S} UTC" in reason["text"]
    assert "slow down" in reason["text"]
    shown = api.get(f"/tasks/{task.id}/steps/").json()["data"][0]["attempts"]
    assert set(shown[0]) == {"started_at", "seconds", "error", "model", "wait_seconds", "code"}


def test_why_of_a_timer_that_no_provider_set_speaks_of_a_time() -> None:
    api = Consumer()
    task = parked(api_key=api.key, wake_at=timezone.now() + timedelta(minutes=5))

    (reason,) = api.get(f"/tasks/{task.id}/why/").json()["reasons"]

    assert reason["code"] == "scheduled"
    assert "4 min" in reason["text"] or "5 min" in reason["text"]


def test_a_task_that_waits_for_a_timer_cannot_be_resumed_by_a_person() -> None:
    api = Consumer()
    task = parked(api_key=api.key)

    answer = api.post(f"/tasks/{task.id}/resume/", {"resolve": "again"})

    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")


def test_the_model_that_answered_is_on_the_step_and_the_attempts_say_why_the_other_did_not(serve: Any) -> None:
    serve(error(500, retry_after="0.01"), fallback_models=["scripted/echo"])
    task = run(submit("asker"))

    step = Step.objects.get(task=task)
    assert (task.status, step.name, step.model, step.simulated) == ("completed", MODEL, "scripted/echo", True)
    assert [made["model"] for made in step.attempts] == [MODEL] * 3 + ["scripted/echo"]
    assert all("openai failed (HTTP 500)" in made["error"] for made in step.attempts[:3])
    told = Event.objects.filter(task=task, type="step.retrying").order_by("seq").values_list("data__model", flat=True)
    assert list(told) == [MODEL] * 3


def test_a_task_that_names_its_own_model_is_not_answered_by_another(serve: Any) -> None:
    serve(error(500, retry_after="0.01"), fallback_models=["scripted/echo"])

    assert run(submit("asker", overrides={"llm_model": "gpt-4o"})).error_code == "provider_error"


PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("answers", "status", "code", "result"),
    [
        (['{"name": "Anna"}'], "completed", None, {"agent_outcome": {"name": "Anna"}}),
        (["```json\n{\n  \"name\": \"Anna\"\n}\n```"], "completed", None, {"agent_outcome": {"name": "Anna"}}),
        (["Anna", '{"name": "Anna"}'], "completed", None, {"agent_outcome": {"name": "Anna"}}),
        (["Anna", '{"name": 7}', "never asked"], "failed", "output_invalid", None),
    ],
)
def test_an_answer_has_to_fit_the_schema_with_one_repair(
    serve: Any, answers: list[str], status: str, code: str | None, result: Any
) -> None:
    server = serve(*map(text, answers), output_schema=PERSON)
    task = run(submit("asker"))

    assert (task.status, task.error_code, task.result) == (status, code, result)
    assert len(server.requests) == min(2, len(answers))
    assert server.requests[0].body["response_format"]["json_schema"]["schema"] == PERSON


def test_a_task_may_bring_a_schema_of_its_own_and_is_told_what_is_wrong_with_it() -> None:
    script = {"script": [{"text": '{"name": "Anna"}'}]}
    versions.create("teller", {"model": "scripted/list", "provider_options": script}, by="test")
    api = Consumer()
    body = {"agent": "teller", "input_data": {"prompt": "Who?"}}
    made = api.post("/tasks/", body | {"agent_config": {"output_schema": PERSON}})
    wrong = api.post("/tasks/", body | {"agent_config": {"output_schema": {"type": "objekt"}}})

    assert made.status_code == 201, made.content
    assert run(Task.objects.get(id=made.json()["task_id"])).result == {"agent_outcome": {"name": "Anna"}}
    assert wrong.status_code == 400
    assert [problem["pointer"] for problem in wrong.json()["errors"]] == ["/agent_config/output_schema/type"]


@pytest.mark.slow
def test_a_worker_frees_its_slot_meanwhile_and_its_sweeper_wakes_the_task() -> None:
    forget()
    script = {"script": [{"text": "I was not kept waiting."}]}
    versions.create("other", {"model": "scripted/list", "provider_options": script}, by="test")
    with OpenAIServer([error(429, retry_after="1.5"), text("8")]) as server:
        versions.create("asker", {"model": MODEL}, by="test")
        environment = {"OPENAI_API_KEY": "test-key", "OPENAI_API_BASE": server.base_url, "LLM_WAIT_SECONDS": "0.5"}
        with running_worker(**environment, WORKER_CONCURRENCY="1"):
            late, other = submit("asker"), submit("other")
            other, late = ended(other), ended(late)

    assert (late.status, late.attempt, other.status) == ("completed", 2, "completed")
    assert "task.resumed" in events(late)
