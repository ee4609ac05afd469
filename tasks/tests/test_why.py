"""Why a task does not move: each situation is built, and the reason is read over REST."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents.tests.factories import AgentVersionFactory
from tasks.claims import claim
from tasks.models import Dependency, Step, Task
from tasks.tests.clients import Consumer
from tasks.tests.factories import TaskFactory
from tasks.tests.test_order import live_worker
from tasks.why import in_words, reasons

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api() -> Consumer:
    return Consumer()


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def why(api: Consumer, task: Task, most: int = 8) -> list[dict[str, str]]:
    """The reasons over REST, in at most that many queries, each of them in sentences."""
    with CaptureQueriesContext(connection) as captured:
        answer = api.get(f"/tasks/{task.id}/why/")
    assert answer.status_code == 200, answer.content
    assert len(captured) <= most, [query["sql"] for query in captured]
    body, now = answer.json(), Task.objects.get(id=task.id)
    assert (body["status"], body["waiting_on"]) == (now.status, now.waiting_on)
    for reason in body["reasons"]:
        assert set(reason) == {"code", "text", "action"}
        for sentence in (reason["text"], reason["action"]):
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert "`" not in sentence
    found: list[dict[str, str]] = body["reasons"]
    return found


def codes(found: list[dict[str, str]]) -> list[str]:
    return [reason["code"] for reason in found]


def waiting(api: Consumer, on: str, **fields: Any) -> Task:
    return TaskFactory(api_key=api.key, status="waiting", waiting_on=on, **fields)


def test_nobody_serves_its_queue_and_nobody_ever_did(api: Consumer) -> None:
    found = why(api, TaskFactory(api_key=api.key))
    assert codes(found) == ["no_worker"]
    assert found[0]["text"] == (
        "No live worker serves the queue 'default'; none was seen there in the last 24 hours."
    )
    assert "./opspawn up" in found[0]["action"]


def test_the_last_worker_of_its_queue_was_seen_some_time_ago(api: Consumer) -> None:
    live_worker(slots=4, name="w1@host", heartbeat_at=ago(3600))
    live_worker(slots=4, name="other@host", queues=["other"])
    found = why(api, TaskFactory(api_key=api.key))
    assert codes(found) == ["no_worker"]
    assert "the last one, w1@host, was seen 1 h ago" in found[0]["text"]


def test_the_only_worker_is_shutting_down(api: Consumer) -> None:
    live_worker(slots=4, draining=True)
    assert "1 worker of it is shutting down" in why(api, TaskFactory(api_key=api.key))[0]["text"]


def test_a_queue_that_is_no_longer_configured_is_named_in_the_cure(api: Consumer) -> None:
    found = why(api, TaskFactory(api_key=api.key, queue="gone"))
    assert "name 'gone' in its WORKER_QUEUES" in found[0]["action"]


def test_others_are_before_it(api: Consumer) -> None:
    live_worker(slots=2)
    version = AgentVersionFactory()
    for _ in range(2):
        assert claim(TaskFactory(version=version).id, "w")
    TaskFactory(rung_at=timezone.now())
    [TaskFactory(api_key=api.key) for _ in range(2)]
    task = TaskFactory(api_key=api.key)
    TaskFactory(priority=5)
    TaskFactory(queue="other"), TaskFactory(blocked=True), TaskFactory(scheduled_at=timezone.now() + timedelta(hours=1))
    TaskFactory(api_key=api.key)

    found = why(api, task)

    assert codes(found) == ["behind_others"]
    assert found[0]["text"] == (
        "It is behind 4 other tasks in the queue 'default': 1 with a higher priority and 3 older, "
        "2 of them from the same API key (keys take turns); 0 of 2 slots are free."
    )


def test_what_its_agent_holds_back_is_not_before_it(api: Consumer) -> None:
    live_worker(slots=2)
    version = AgentVersionFactory()
    limited = {"version": version, "agent": version.agent, "max_concurrency": 1}
    assert claim(TaskFactory(**limited).id, "w")
    TaskFactory(**limited)
    assert why(api, TaskFactory(api_key=api.key))[0]["text"].startswith("It is the next one of the queue")


def test_a_long_backlog_is_counted_to_a_thousand(api: Consumer) -> None:
    live_worker(slots=2)
    version = AgentVersionFactory()
    Task.objects.bulk_create(
        Task(version=version, agent=version.agent, input_data={}, api_key=api.key) for _ in range(1005)
    )
    found = why(api, TaskFactory(api_key=api.key))
    assert codes(found) == ["behind_others"]
    assert "behind more than 1,000 other tasks" in found[0]["text"]


def test_the_next_one_is_told_so(api: Consumer) -> None:
    live_worker(slots=2)
    found = why(api, TaskFactory(api_key=api.key, rung_at=ago(3)))
    assert codes(found) == ["behind_others"]
    assert found[0]["text"].startswith("It is the next one of the queue 'default'; 2 of 2 slots are free. A worker was")


def test_without_a_worker_the_backlog_is_a_second_reason(api: Consumer) -> None:
    TaskFactory()
    assert codes(why(api, TaskFactory(api_key=api.key))) == ["no_worker", "behind_others"]


def test_its_agent_is_at_its_concurrency(api: Consumer) -> None:
    live_worker(slots=10)
    version = AgentVersionFactory()
    limited = {"version": version, "agent": version.agent, "max_concurrency": 2, "api_key": api.key}
    for _ in range(2):
        assert claim(TaskFactory(**limited).id, "w")
    found = why(api, TaskFactory(**limited))
    assert codes(found) == ["agent_concurrency"]
    assert f"{version.agent.slug!r} is at its max_concurrency: 2 of 2 tasks run" in found[0]["text"]


def test_its_time_has_not_come(api: Consumer) -> None:
    at = timezone.now() + timedelta(hours=2, seconds=30)
    found = why(api, TaskFactory(api_key=api.key, scheduled_at=at))
    assert codes(found) == ["scheduled"]
    assert f"{at:%Y-%m-%d %H:%M:%S} UTC, in 2 h" in found[0]["text"]


def test_what_it_depends_on_is_named(api: Consumer) -> None:
    live_worker(slots=1)
    task, done, open_one = TaskFactory(api_key=api.key, blocked=True), TaskFactory(), TaskFactory()
    Task.objects.filter(id=done.id).update(status="completed", result={}, completed_at=timezone.now())
    Dependency.objects.bulk_create(Dependency(task=task, on=on) for on in (done, open_one))
    found = why(api, task)
    assert codes(found) == ["dependency"]
    assert found[0]["text"] == f"It depends on 1 task that has not completed: {open_one.id} (pending)."


def test_an_unknown_step_is_named_with_the_three_choices(api: Consumer) -> None:
    task = waiting(api, "input")
    Step.objects.create(task=task, seq=2, kind="tool", name="transfer", status="unknown", attempt=1,
                        started_at=timezone.now())  # fmt: skip
    found = why(api, task)
    assert codes(found) == ["input"]
    assert "Step 2, the call of 'transfer'" in found[0]["text"]
    assert f"{task.id}:2" in found[0]["action"]
    assert all(choice in found[0]["action"] for choice in ("happened", "again", "stop"))


def test_its_children_are_named(api: Consumer) -> None:
    task = waiting(api, "children")
    child = TaskFactory(parent=task)
    found = why(api, task)
    assert codes(found) == ["children"]
    assert found[0]["text"] == f"It waits for 1 child task: {child.id} (pending)."


@pytest.mark.parametrize(
    ("on", "code"), [("approval", "approval"), ("budget", "budget"), ("timer", "scheduled"), ("input", "input")]
)
def test_what_it_waits_for_is_said(api: Consumer, on: str, code: str) -> None:
    assert codes(why(api, waiting(api, on))) == [code]


def test_a_running_step_is_named_with_its_worker_and_the_time_left(api: Consumer) -> None:
    task = TaskFactory(api_key=api.key, limits={"timeout_seconds": 9000}, running_seconds=1795)
    assert claim(task.id, "w1@host:7")
    Step.objects.create(task=task, seq=1, kind="llm", name="scripted/list", attempt=1, started_at=ago(3600))
    found = why(api, task)
    assert codes(found) == ["running"]
    assert "Step 1, the model call 'scripted/list', runs since" in found[0]["text"]
    assert "(1 h) on w1@host:7; it may run 2 h" in found[0]["text"]


def test_a_running_task_that_was_asked_to_stop_says_so(api: Consumer) -> None:
    task = TaskFactory(api_key=api.key)
    assert claim(task.id, "w:1")
    Task.objects.filter(id=task.id).update(cancel_requested_at=ago(3600))
    assert "A cancel was requested 1 h ago." in why(api, task)[0]["text"]


def test_a_lease_that_nobody_renews_is_about_to_be_taken_back(api: Consumer, settings: Any) -> None:
    settings.TASK_LEASE_SECONDS, settings.TASK_HEARTBEAT_SECONDS, settings.TASK_SWEEP_SECONDS = 30, 10, 5
    task = TaskFactory(api_key=api.key)
    live_worker(slots=1, name="w1@host", pid=7, heartbeat_at=ago(3600))
    live_worker(slots=1, name="w2@host", pid=8)
    assert claim(task.id, "w1@host:7")
    Task.objects.filter(id=task.id).update(lease_until=timezone.now() + timedelta(seconds=10.4))
    found = why(api, task)
    assert codes(found) == ["lease_expiring", "running"]
    assert "The worker w1@host:7 was last seen 1 h ago; its lease ends in " in found[0]["text"]
    assert "the task is taken back within about 1" in found[0]["text"]


def test_a_lost_task_that_nobody_is_left_to_take_back_says_so(api: Consumer) -> None:
    task = TaskFactory(api_key=api.key)
    assert claim(task.id, "w1@host:7")
    Task.objects.filter(id=task.id).update(lease_until=ago(2))
    (lost, _) = why(api, task)
    assert lost["code"] == "lease_expiring"
    assert lost["text"].endswith("and no live worker is left to take the task back.")
    assert "./opspawn up" in lost["action"]


def test_a_hung_call_of_a_live_worker_is_told_from_a_lost_worker(api: Consumer, settings: Any) -> None:
    settings.TASK_LEASE_SECONDS, settings.TASK_HEARTBEAT_SECONDS = 30, 10
    task = TaskFactory(api_key=api.key)
    live_worker(slots=1, name="w1@host", pid=7)
    assert claim(task.id, "w1@host:7")
    Task.objects.filter(id=task.id).update(lease_until=ago(2))
    assert "is alive but stopped renewing" in why(api, task)[0]["text"]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_what_has_ended_says_so(api: Consumer, status: str) -> None:
    more: dict[str, Any] = {"result": {"agent_outcome": ""}} if status == "completed" else {}
    more |= {"error_code": "timeout", "error_message": "Late."} if status == "failed" else {}
    task = TaskFactory(api_key=api.key, status=status, completed_at=timezone.now(), **more)
    found = why(api, task)
    assert codes(found) == ["final"]
    assert f"It ended as {status} at" in found[0]["text"]


def test_anothers_task_is_not_there(api: Consumer) -> None:
    assert api.get(f"/tasks/{TaskFactory().id}/why/").status_code == 404


def test_a_deep_backlog_behind_it_costs_nothing(api: Consumer) -> None:
    version = AgentVersionFactory()
    task = TaskFactory(api_key=api.key)
    Task.objects.bulk_create(
        Task(version=version, agent=version.agent, input_data={}, api_key=api.key) for _ in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tasks_task")
    with CaptureQueriesContext(connection) as captured:
        assert [reason.code for reason in reasons(Task.objects.get(id=task.id))] == ["no_worker"]
    (sql,) = [query["sql"] for query in captured if "AS older" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan on tasks_task" not in plan, plan


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (9.99, "10.0 s"), (12.3, "12 s"), (60, "1 min"), (185, "3 min 5 s"),
     (7830, "2 h 10 min"), (86_400, "1 day"), (273_600, "3 days 4 h")],
)  # fmt: skip
def test_times_are_said_as_people_do(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


