"""Over REST: resolving an unknown step, removing what has ended, the workers, tasks that hang on others."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as site
from django.utils import timezone

from agents import versions
from tasks import lifecycle
from tasks.execution import execute
from tasks.models import Dependency, Event, IdempotencyKey, Step, Task
from tasks.tests.clients import Consumer, pointers
from tasks.tests.factories import TaskFactory
from tasks.tests.test_order import live_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api() -> Consumer:
    versions.create("echo", {"model": "scripted/echo"}, by="test")
    return Consumer()


@pytest.fixture
def boss() -> Consumer:
    return Consumer("admin")


def unsure(api: Consumer, **fields: Any) -> Task:
    task = TaskFactory(api_key=api.key, **({"status": "waiting", "waiting_on": "input"} | fields))
    Step.objects.create(task=task, seq=1, kind="tool", name="transfer", status="unknown", attempt=1,
                        input={"amount": 7}, error="?", started_at=timezone.now())  # fmt: skip
    return task


def ended(status: str = "completed", **fields: Any) -> Task:
    result = {"result": {"agent_outcome": "42"}} if status == "completed" else {}
    return TaskFactory(status=status, completed_at=timezone.now(), **(result | fields))


def submit(api: Consumer, **fields: Any) -> Any:
    return api.post("/tasks/", {"agent": "echo", "input_data": {"prompt": "hi"}} | fields)


@pytest.mark.parametrize("result", [{"id": 7}, [1], "ok", 7, 1.5, False, None])
def test_it_happened_brings_its_result_whatever_json_it_is(api: Consumer, result: Any) -> None:
    task = unsure(api)
    answer = api.post(f"/tasks/{task.id}/resume/", {"resolve": "happened", "result": result})
    assert (answer.status_code, answer.json()["status"], answer.json()["waiting_on"]) == (202, "pending", None)
    step = Step.objects.get(task=task)
    assert (step.status, step.output) == ("done", result)


def test_it_happened_needs_no_result(api: Consumer) -> None:
    assert api.post(f"/tasks/{unsure(api).id}/resume/", {"resolve": "happened"}).status_code == 202


def test_again_lets_the_call_be_made_once_more(api: Consumer) -> None:
    task = unsure(api)
    assert api.post(f"/tasks/{task.id}/resume/", {"resolve": "again"}).json()["status"] == "pending"
    assert Step.objects.get(task=task).repeat_allowed


def test_stop_cancels(api: Consumer) -> None:
    answer = api.post(f"/tasks/{unsure(api).id}/resume/", {"resolve": "stop"})
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"/resolve": "required"}),
        ({"resolve": "perhaps"}, {"/resolve": "invalid_choice"}),
        ({"resolve": ["again"]}, {"/resolve": "invalid_choice"}),
        ({"resolve": None}, {"/resolve": "null"}),
        ({"resolve": "again", "result": 1}, {"/result": "not_with_resolve"}),
        ({"resolve": "stop", "result": None}, {"/result": "not_with_resolve"}),
        ({"approve": True}, {"/approve": "unknown_field"}),
        ({"resolve": "again", "input": 1}, {"/input": "unknown_field"}),
        ({"resolve": "again", "add_budget_usd": "1"}, {"/add_budget_usd": "not_with_resolve"}),
        ({"resolve": "again", "reject": "no"}, {"/reject": "unknown_field"}),
    ],
)
def test_another_body_is_refused_and_named(api: Consumer, body: Any, expected: dict[str, str]) -> None:
    task = unsure(api)
    answer = api.post(f"/tasks/{task.id}/resume/", body)
    assert answer.status_code == 400
    assert pointers(answer) == expected
    assert Task.objects.get(id=task.id).status == "waiting"


@pytest.mark.parametrize("status", ["pending", "completed"])
def test_what_does_not_wait_cannot_be_resumed(api: Consumer, status: str) -> None:
    task = ended(api_key=api.key) if status == "completed" else TaskFactory(api_key=api.key)
    answer = api.post(f"/tasks/{task.id}/resume/", {"resolve": "again"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_waiting")


@pytest.mark.parametrize(("on", "words"), [("budget", "its budget"), ("children", "its child tasks")])
def test_what_waits_for_something_else_says_for_what(api: Consumer, on: str, words: str) -> None:
    answer = api.post(f"/tasks/{unsure(api, waiting_on=on).id}/resume/", {"resolve": "again"})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_kind")
    assert words in answer.json()["detail"].lower()


def test_only_its_own_key_or_an_admin_resumes(api: Consumer, boss: Consumer) -> None:
    task = unsure(api)
    url, body = f"/tasks/{task.id}/resume/", {"resolve": "again"}
    assert Consumer().post(url, body).status_code == 404
    assert Consumer("tasks:write", "tasks:read_all").post(url, body).status_code == 403
    assert Consumer("tasks:read").post(url, body).status_code == 403
    assert boss.post(url, body).status_code == 202


def test_workers_are_listed_for_admins_with_what_can_be_seen_of_them(api: Consumer, boss: Consumer) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    live_worker(slots=4, name="new@host", version=site.VERSION, in_flight=2)
    live_worker(slots=4, name="old@host", version="0.0.1", heartbeat_at=long_ago, draining=True)

    page = boss.get("/workers/?limit=1").json()
    assert page["has_more"]
    assert [row["name"] for row in page["data"]] == ["old@host"]
    (row,) = boss.get(f"/workers/?limit=1&cursor={page['next_cursor']}").json()["data"]
    assert {name: row[name] for name in ("name", "slots", "in_flight", "queues", "live", "stale", "draining")} == {
        "name": "new@host", "slots": 4, "in_flight": 2, "queues": ["default"], "live": True, "stale": False,
        "draining": False,
    }  # fmt: skip
    assert (page["data"][0]["live"], page["data"][0]["stale"], page["data"][0]["draining"]) == (False, True, True)
    assert set(row) == {"name", "host", "pid", "version", "queues", "slots", "in_flight", "draining", "started_at",
                        "heartbeat_at", "live", "stale"}  # fmt: skip
    assert api.get("/workers/").status_code == 403
    assert boss.post("/workers/", {}).status_code == 405


def test_removing_takes_along_all_that_the_task_left(api: Consumer, boss: Consumer) -> None:
    answer = submit(api, name="gone")
    task = Task.objects.get(id=answer.json()["task_id"])
    IdempotencyKey.objects.create(api_key=api.key, key="k", body_digest="d", task=task)
    execute(task.id, "w")

    answer = boss.raw("DELETE", f"/tasks/{task.id}/", b"")

    assert (answer.status_code, answer.content) == (204, b"")
    assert api.get(f"/tasks/{task.id}/").status_code == 404
    assert not any(model.objects.exists() for model in (Step, Event, IdempotencyKey))
    assert boss.raw("DELETE", f"/tasks/{task.id}/", b"").status_code == 404


def test_children_and_retries_outlive_what_they_came_from(boss: Consumer) -> None:
    task = ended()
    child, again = ended(parent=task), ended(retry_of=task)

    assert boss.raw("DELETE", f"/tasks/{task.id}/", b"").status_code == 204

    assert boss.get(f"/tasks/{child.id}/").json()["parent_task_id"] is None
    assert boss.get(f"/tasks/{again.id}/").json()["retry_of"] is None


@pytest.mark.parametrize("status", ["pending", "waiting"])
def test_what_has_not_ended_is_not_removed(boss: Consumer, status: str) -> None:
    task = TaskFactory(status=status, waiting_on="input" if status == "waiting" else None)
    answer = boss.raw("DELETE", f"/tasks/{task.id}/", b"")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_final")
    assert Task.objects.filter(id=task.id).exists()


def test_what_an_unfinished_task_depends_on_is_not_removed(boss: Consumer) -> None:
    task, after = ended(), TaskFactory(blocked=True)
    Dependency.objects.create(task=after, on=task)
    answer = boss.raw("DELETE", f"/tasks/{task.id}/", b"")
    assert (answer.status_code, answer.json()["code"]) == (409, "still_needed")
    assert after.id in answer.json()["detail"]
    lifecycle.cancel(after.id, by="test")
    assert boss.raw("DELETE", f"/tasks/{task.id}/", b"").status_code == 204


def test_removing_needs_the_scope_admin(api: Consumer) -> None:
    task = ended(api_key=api.key)
    assert api.raw("DELETE", f"/tasks/{task.id}/", b"").status_code == 403
    assert Consumer("tasks:write", "tasks:read_all").raw("DELETE", f"/tasks/{task.id}/", b"").status_code == 403


def test_a_chain_runs_in_its_order(api: Consumer) -> None:
    first = submit(api).json()["task_id"]
    second = submit(api, depends_on=[first]).json()
    assert second["status"] == "pending"
    execute(second["task_id"], "w")
    assert api.get(f"/tasks/{second['task_id']}/").json()["status"] == "pending"
    for task_id in (first, second["task_id"]):
        execute(task_id, "w")
        assert api.get(f"/tasks/{task_id}/").json()["status"] == "completed"


def test_a_failed_dependency_fails_the_chain(api: Consumer) -> None:
    first = submit(api).json()["task_id"]
    second = submit(api, depends_on=[first]).json()["task_id"]
    third = submit(api, depends_on=[second]).json()["task_id"]
    assert api.post(f"/tasks/{first}/cancel/").status_code == 202
    for task_id, on in ((second, first), (third, second)):
        task = api.get(f"/tasks/{task_id}/").json()
        assert (task["status"], task["error_code"]) == ("failed", "dependency_failed")
        assert on in task["error_message"]


def test_a_child_names_its_parent_and_is_found_by_it(api: Consumer) -> None:
    parent = submit(api).json()["task_id"]
    child = submit(api, parent_task_id=parent).json()
    assert child["parent_task_id"] == parent
    (found,) = api.get(f"/tasks/?parent_task_id={parent}").json()["data"]
    assert found["task_id"] == child["task_id"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"depends_on": "task_1"}, {"/depends_on": "not_a_list"}),
        ({"depends_on": None}, {"/depends_on": "null"}),
        ({"depends_on": [7]}, {"/depends_on/0": "wrong_type"}),
        ({"depends_on": ["task_" + "0" * 32]}, {"/depends_on/0": "unknown_task"}),
        ({"depends_on": ["x"] * 101}, {"/depends_on": "max_length"}),
        ({"parent_task_id": 7}, {"/parent_task_id": "wrong_type"}),
        ({"parent_task_id": "task_" + "0" * 32}, {"/parent_task_id": "unknown_task"}),
    ],
)  # fmt: skip
def test_a_wrong_relation_is_named(api: Consumer, fields: dict[str, Any], expected: dict[str, str]) -> None:
    answer = submit(api, **fields)
    assert answer.status_code == 400
    assert pointers(answer) == expected
    assert not Task.objects.exists()


def test_a_dependency_named_twice_and_an_ended_parent_are_refused(api: Consumer) -> None:
    first = submit(api).json()["task_id"]
    assert pointers(submit(api, depends_on=[first, first])) == {"/depends_on/1": "repeated"}
    api.post(f"/tasks/{first}/cancel/")
    assert pointers(submit(api, parent_task_id=first)) == {"/parent_task_id": "parent_ended"}


def test_no_dependencies_are_none(api: Consumer) -> None:
    assert submit(api, depends_on=[], parent_task_id=None).status_code == 201
