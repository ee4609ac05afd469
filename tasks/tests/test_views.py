"""Tasks over REST, as a consumer with its key sees them."""
from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents import versions
from tasks import lifecycle
from tasks.models import Event, Step, Task
from tasks.tests.clients import Consumer, pointers
from tasks.tests.factories import TaskFactory

pytestmark = pytest.mark.django_db

TASK_FIELDS = {
    "task_id", "task_type", "name", "status", "waiting_on", "agent", "input_data", "result", "error_code",
    "error_message", "priority", "attempt", "steps", "usage", "metadata", "session_id", "parent_task_id", "retry_of",
    "cancel_requested_at", "created_at", "updated_at", "scheduled_at", "started_at", "completed_at",
}  # fmt: skip
STEP_FIELDS = {
    "seq", "kind", "name", "status", "summary", "input", "output", "error", "model", "usage", "attempts",
    "simulated", "started_at", "seconds",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
HELLO = {"prompt": "hello"}


@pytest.fixture
def api() -> Consumer:
    versions.create("echo", {"model": "scripted/echo"}, by="test")
    return Consumer()


def submit(api: Consumer, **fields: Any) -> Any:
    return api.post("/tasks/", {"agent": "echo", "input_data": HELLO, **fields})


def completed(task: Task, outcome: Any = "done") -> None:
    now = timezone.now()
    Task.objects.filter(id=task.id).update(
        status="completed", result={"agent_outcome": outcome}, started_at=now, completed_at=now, attempt=1
    )


# Submitting.


def test_a_submitted_task_is_answered_whole_and_can_be_read_at_its_location(api: Consumer) -> None:
    sent = {
        "agent": "echo@1", "task_type": "agent_task", "name": "first", "priority": 3, "session_id": "s1",
        "input_data": {"prompt": "hello", "n": 2**70, "deep": {"list": [1, 2.5, None, True, "é😀"]}},
        "metadata": {"order": "42"}, "limits": {"max_steps": 5}, "agent_config": {"temperature": 0.5},
        "scheduled_at": "2099-01-01T12:00:00+02:00",
    }  # fmt: skip

    response = api.post("/tasks/", sent)

    assert response.status_code == 201, response.content
    task = response.json()
    assert set(task) == TASK_FIELDS
    assert re.fullmatch("task_[0-9a-f]{32}", task["task_id"])
    assert response["Location"] == f"/api/v1/tasks/{task['task_id']}/"
    assert task["status"] == "pending"
    assert task["agent"] == {"slug": "echo", "version": 1}
    assert task["input_data"] == sent["input_data"]
    assert task["metadata"] == {"order": "42"}
    assert task["scheduled_at"] == "2099-01-01T10:00:00.000000Z"
    assert task["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost_usd": "0"}
    assert TIME.match(task["created_at"])
    assert api.get(f"/tasks/{task['task_id']}/").json() == task
    row = Task.objects.get(id=task["task_id"])
    assert (row.overrides, row.limits, row.api_key) == ({"temperature": 0.5}, {"max_steps": 5}, api.key)


def test_submitting_takes_four_statements_and_no_transaction_of_its_own(api: Consumer) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert submit(api).status_code == 201
    assert len(captured) <= 4, list(captured)  # the key, its use once a minute, the version, the task


@pytest.mark.parametrize(("fields", "expected"), [
    ({"priority": "5"}, {"/priority": "wrong_type"}),
    ({"priority": True}, {"/priority": "wrong_type"}),
    ({"priority": 5.0}, {"/priority": "wrong_type"}),
    ({"priority": 6}, {"/priority": "max_value"}),
    ({"priority": None}, {"/priority": "null"}),
    ({"name": 5}, {"/name": "wrong_type"}),
    ({"name": "x" * 201}, {"/name": "max_length"}),
    ({"input_data": "hello"}, {"/input_data": "wrong_type"}),
    ({"input_data": []}, {"/input_data": "wrong_type"}),
    ({"metadata": {"order": 42}}, {"/metadata/order": "invalid_type"}),
    ({"metadata": {"a/b~c": 42}}, {"/metadata/a~1b~0c": "invalid_type"}),
    ({"metadata": {str(n): "" for n in range(17)}}, {"/metadata": "too_many"}),
    ({"scheduled_at": "tomorrow"}, {"/scheduled_at": "invalid_time"}),
    ({"scheduled_at": "2030-01-01T00:00:00"}, {"/scheduled_at": "invalid_time"}),
    ({"scheduled_at": "2030-02-30T00:00:00Z"}, {"/scheduled_at": "invalid_time"}),
    ({"scheduled_at": "0001-01-01T00:00:00+14:00"}, {"/scheduled_at": "invalid_time"}),
    ({"scheduled_at": 1735689600}, {"/scheduled_at": "wrong_type"}),
    ({"task_type": "unheard_of"}, {"/task_type": "unknown_task_type"}),
    ({"callback_url": "https://example.com"}, {"/callback_url": "unknown_field"}),
    ({"webhook": "https://example.com"}, {"/webhook": "unknown_field"}),
    ({"budget": 1, "priority": "x"}, {"/budget": "unknown_field", "/priority": "wrong_type"}),
    ({"agent": "nobody"}, {"/agent": "unknown_agent"}),
    ({"agent": "echo@2"}, {"/agent": "unknown_agent"}),
    ({"agent": "echo@"}, {"/agent": "unknown_agent"}),
    ({"agent": "echo@01"}, {"/agent": "unknown_agent"}),
    ({"agent": 5}, {"/agent": "wrong_type"}),
    ({"session_id": ""}, {"/session_id": "blank"}),
])  # fmt: skip
def test_what_is_wrong_in_a_submission_is_named_by_its_pointer(
    api: Consumer, fields: dict[str, Any], expected: dict[str, str]
) -> None:
    response = submit(api, **fields)

    assert response.status_code == 400
    assert pointers(response) == expected
    assert not Task.objects.exists()


@pytest.mark.parametrize("fields", [
    {"input_data": {}}, {"agent_config": {"surprise": 1}}, {"agent_config": {"temperature": "hot"}},
    {"limits": {"max_steps": 0}}, {"limits": {"max_cost_usd": "much"}}, {"agent_config": {"output_schema": True}},
])  # fmt: skip
def test_input_overrides_and_limits_are_checked(api: Consumer, fields: dict[str, Any]) -> None:
    response = submit(api, **fields)

    assert response.status_code == 400
    [pointer] = pointers(response)
    assert pointer.startswith(f"/{next(iter(fields))}")
    assert not Task.objects.exists()


def test_an_unknown_agent_is_a_400_with_that_code(api: Consumer) -> None:
    problem = submit(api, agent="nobody").json()
    assert (problem["status"], problem["code"]) == (400, "unknown_agent")


def test_an_archived_agent_is_a_409(api: Consumer) -> None:
    versions.change("echo", {"archived": True}, by="test")
    response = submit(api)
    assert (response.status_code, response.json()["code"]) == (409, "agent_archived")


# Idempotency.


def test_the_same_key_and_body_answer_the_first_answer_again_whatever_became_of_the_task(api: Consumer) -> None:
    first = api.post(
        "/tasks/", {"agent": "echo", "input_data": HELLO}, HTTP_IDEMPOTENCY_KEY="k1"
    )  # fmt: skip
    assert "Idempotent-Replayed" not in first
    completed(Task.objects.get(id=first.json()["task_id"]))

    again = api.raw(
        "POST", "/tasks/", json.dumps({"input_data": HELLO, "agent": "echo"}, indent=2), HTTP_IDEMPOTENCY_KEY="k1"
    )

    assert again.status_code == 201
    assert again["Idempotent-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert again.json() == first.json()
    assert Task.objects.count() == 1


def test_the_same_key_with_another_body_is_a_422_and_for_another_consumer_a_key_of_its_own(api: Consumer) -> None:
    body = {"agent": "echo", "input_data": HELLO}
    assert api.post("/tasks/", body, HTTP_IDEMPOTENCY_KEY="k1").status_code == 201

    conflict = api.post("/tasks/", body | {"priority": 1}, HTTP_IDEMPOTENCY_KEY="k1")
    other = Consumer().post("/tasks/", body, HTTP_IDEMPOTENCY_KEY="k1")

    assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_conflict")
    assert other.status_code == 201
    assert "Idempotent-Replayed" not in other
    assert Task.objects.count() == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ä", " a"])
def test_an_idempotency_key_of_another_shape_is_refused(api: Consumer, key: str) -> None:
    response = api.post("/tasks/", {"agent": "echo", "input_data": HELLO}, HTTP_IDEMPOTENCY_KEY=key)
    assert response.status_code == 400
    assert pointers(response) == {"/Idempotency-Key": "invalid_idempotency_key"}


def test_the_longest_idempotency_key_is_taken(api: Consumer) -> None:
    body = {"agent": "echo", "input_data": HELLO}
    assert api.post("/tasks/", body, HTTP_IDEMPOTENCY_KEY="x" * 255).status_code == 201


# Reading.


def test_a_key_sees_its_own_tasks_and_all_of_them_with_read_all_or_admin(api: Consumer) -> None:
    own, other = submit(api).json()["task_id"], TaskFactory().id

    assert [task["task_id"] for task in api.get("/tasks/").json()["data"]] == [own]
    for path in ("", "steps/", "events/"):
        assert api.get(f"/tasks/{other}/{path}").status_code == 404
    for verb in ("cancel", "retry"):
        assert api.post(f"/tasks/{other}/{verb}/").status_code == 404
    for scope in ("tasks:read_all", "admin"):
        everybody = Consumer(scope)
        assert len(everybody.get("/tasks/").json()["data"]) == 2
        assert everybody.get(f"/tasks/{other}/").status_code == 200
    assert Task.objects.get(id=other).status == "pending"


def test_who_may_read_all_tasks_may_not_cancel_those_of_others(api: Consumer) -> None:
    other = TaskFactory().id
    response = Consumer("tasks:read_all", "tasks:write").post(f"/tasks/{other}/cancel/")
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert Consumer("admin").post(f"/tasks/{other}/cancel/").status_code == 202


@pytest.mark.parametrize("task_id", [
    "task_0", "task_" + "g" * 32, "task_" + "A" * 32, "x", "1", "task_" + "0" * 33, "%00", "task_%00" + "0" * 31,
    "task_" + "0" * 32,
])  # fmt: skip
def test_an_id_that_names_nothing_is_a_404(api: Consumer, task_id: str) -> None:
    response = api.get(f"/tasks/{task_id}/")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_pages_run_from_newest_to_oldest_without_gap_or_repetition(api: Consumer) -> None:
    ids = [submit(api).json()["task_id"] for _ in range(5)]
    seen, cursor = [], ""
    for size, more in ((2, True), (2, True), (1, False)):
        page = api.get(f"/tasks/?limit=2{cursor}").json()
        assert (len(page["data"]), page["has_more"]) == (size, more)
        seen += [task["task_id"] for task in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"

    assert page["next_cursor"] is None
    assert seen == ids[::-1]


@pytest.mark.parametrize("query", [
    "limit=0", "limit=201", "limit=-1", "limit=abc", "limit=", "limit=1.5", "limit=٣", "cursor=abc", "cursor=",
    "cursor=%F0%9F", "unknown=1", "limit=1&limit=2", "status=done", "status=", "status=pending,,failed",
    "version=x", "version=0", "version=99999999999", "created_after=yesterday", "created_before=2030-01-01",
    "agent=", "session_id=a%00b", "metadata.=1", "metadata=1", "metadata.a=%00", "agent=%ff",
    "session_id=%ed%a0%80", "page=2", "wait=1", "format=json",
])  # fmt: skip
def test_a_query_that_cannot_be_meant_is_refused_and_names_the_parameter(api: Consumer, query: str) -> None:
    response = api.get(f"/tasks/?{query}")
    assert response.status_code == 400, response.content
    assert list(pointers(response)) == ["/" + query.partition("=")[0]]


def test_more_parameters_than_anybody_means_are_a_400(api: Consumer) -> None:
    response = api.get("/tasks/?" + "&".join(f"metadata.k{number}=v" for number in range(1001)))
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")


def test_a_cursor_of_another_list_is_refused(api: Consumer) -> None:
    submit(api), submit(api)
    cursor = api.get("/tasks/?limit=1").json()["next_cursor"]
    assert api.get(f"/agents/?cursor={cursor}").status_code == 400
    assert api.get(f"/tasks/?cursor={cursor[:-2]}AA").status_code == 400


def test_filters_find_what_they_say(api: Consumer) -> None:
    versions.create("other", {"model": "scripted/echo"}, by="test")
    first = submit(api, metadata={"order": "42", "kind": "a"}, session_id="s1").json()
    second = submit(api, agent="other", metadata={"order": "43,5"}, session_id="s2").json()
    third = submit(api).json()
    completed(Task.objects.get(id=third["task_id"]))
    moment = second["created_at"]

    def found(query: str) -> list[int]:
        order = [first["task_id"], second["task_id"], third["task_id"]]
        return sorted(order.index(task["task_id"]) for task in api.get(f"/tasks/?{query}").json()["data"])

    assert found("status=pending") == [0, 1]
    assert found("status=pending,completed") == [0, 1, 2]
    assert found("agent=echo") == [0, 2]
    assert found("agent=echo,other&status=pending") == [0, 1]
    assert found("version=1") == [0, 1, 2]
    assert found("version=2") == []
    assert found("session_id=s1,s2") == [0, 1]
    assert found("metadata.order=42") == [0]
    assert found("metadata.order=42,99") == [0]
    assert found("metadata.order=43,5") == [1]
    assert found("metadata.order=42&metadata.kind=a") == [0]
    assert found("metadata.order=42&metadata.kind=b") == []
    assert found(f"created_after={moment}") == [2]
    assert found(f"created_before={moment}") == [0]
    assert found("parent_task_id=task_" + "0" * 32) == []


def test_lists_take_the_same_few_queries_at_any_size(api: Consumer) -> None:
    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get(path).status_code == 200
        return len(captured)

    submit(api)
    small = count("/tasks/")
    for _ in range(60):
        submit(api)

    assert count("/tasks/?limit=200") == small <= 6


def test_steps_are_shown_oldest_first_with_every_field(api: Consumer) -> None:
    task = Task.objects.get(id=submit(api).json()["task_id"])
    add_steps(task)

    page = api.get(f"/tasks/{task.id}/steps/").json()

    assert page["has_more"] is False
    assert [step["seq"] for step in page["data"]] == [1, 2, 3, 4, 5]
    assert all(set(step) == STEP_FIELDS for step in page["data"])
    model, tool, failed, *_ = page["data"]
    assert model["usage"] == {"input_tokens": 7, "output_tokens": 3, "cost_usd": "0.00015"}
    assert model["attempts"] == [{"started_at": "2026-01-01T00:00:00.000000Z", "seconds": 0.5, "error": None}]
    assert (tool["kind"], tool["input"], tool["output"]) == ("tool", {"a": 5, "b": 2**70}, {"sum": 8})
    assert (failed["status"], failed["error"], failed["output"]) == ("failed", "no such tool", None)


def test_events_come_in_order_and_go_on_after_a_seq(api: Consumer) -> None:
    task_id = submit(api).json()["task_id"]
    now = timezone.now()
    for seq in range(2, 6):
        Event.objects.create(task_id=task_id, seq=seq, type="step.started", at=now, data={"step": seq})

    first = api.get(f"/tasks/{task_id}/events/?limit=2").json()
    rest = api.get(f"/tasks/{task_id}/events/?cursor={first['next_cursor']}").json()

    assert [event["seq"] for event in first["data"] + rest["data"]] == [1, 2, 3, 4, 5]
    assert set(first["data"][0]) == {"task_id", "seq", "type", "at", "data"}
    assert first["data"][0]["type"] == "task.created"
    assert TIME.match(first["data"][0]["at"])
    assert [one["seq"] for one in api.get(f"/tasks/{task_id}/events/?after=3").json()["data"]] == [4, 5]
    assert api.get(f"/tasks/{task_id}/events/?after=5").json()["data"] == []
    for wrong in ("-1", "x", "", "99999999999"):
        assert api.get(f"/tasks/{task_id}/events/?after={wrong}").status_code == 400


def test_the_history_is_the_conversation_rebuilt_from_the_steps(api: Consumer) -> None:
    task = Task.objects.get(id=submit(api).json()["task_id"])
    add_steps(task)

    assert "memory_history" not in api.get(f"/tasks/{task.id}/").json()
    history = api.get(f"/tasks/{task.id}/?include=history").json()["memory_history"]

    assert [message["role"] for message in history] == [
        "system", "user", "assistant", "tool", "tool", "user", "assistant",
    ]  # fmt: skip
    assert history[2]["tool_calls"][0] == {"id": "c1", "name": "add_numbers", "arguments": {"a": 5, "b": 2**70}}
    assert history[3]["tool_call_id"] == "c1"
    assert json.loads(history[3]["content"]) == {"sum": 8}
    assert "no such tool" in history[4]["content"]
    assert history[-1] == {"role": "assistant", "content": "8"}
    assert api.get(f"/tasks/{task.id}/?include=everything").status_code == 400


def add_steps(task: Task) -> None:
    """A call that asks for two tools, their results, a repair turn with its answer, and a call that still runs."""
    calls = [{"id": "c1", "name": "add_numbers", "arguments": {"a": 5, "b": 2**70}},
             {"id": "c2", "name": "missing", "arguments": {}}]  # fmt: skip
    opening = [{"role": "system", "content": "Add."}, {"role": "user", "content": "hello"}]
    nudge = [{"role": "user", "content": "Go on."}]
    shared = {"task": task, "attempt": 1, "started_at": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 0.5}
    llm = {**shared, "kind": "llm", "name": "m", "model": "m"}
    tool = {**shared, "kind": "tool"}
    attempts = [{"started_at": "2026-01-01T00:00:00.000000Z", "seconds": 0.5, "error": None}]
    Step.objects.create(
        seq=1, status="done", input={"messages": opening}, input_tokens=7, output_tokens=3, attempts=attempts,
        output={"text": "", "tool_calls": calls, "finish_reason": "tool_calls"}, cost_usd=Decimal("0.00015"), **llm,
    )  # fmt: skip
    Step.objects.create(
        seq=2, status="done", name="add_numbers", call_id="c1", input={"a": 5, "b": 2**70}, output={"sum": 8}, **tool
    )
    Step.objects.create(seq=3, status="failed", name="missing", call_id="c2", input={}, error="no such tool", **tool)
    Step.objects.create(
        seq=4, status="done", input={"messages": nudge}, cost_usd=None,
        output={"text": "8", "tool_calls": [], "finish_reason": "stop"}, **llm,
    )  # fmt: skip
    Step.objects.create(seq=5, status="started", input={"messages": []}, **llm)


def test_money_is_a_plain_decimal_string_or_null(api: Consumer) -> None:
    task_id = submit(api).json()["task_id"]
    for stored, shown in ((Decimal("1E+3"), "1000"), (Decimal("0.0000000001"), "0.0000000001"), (None, None)):
        Task.objects.filter(id=task_id).update(cost_usd=stored)
        assert api.get(f"/tasks/{task_id}/").json()["usage"]["cost_usd"] == shown


@pytest.mark.parametrize("wait", ["-1", "61", "x", "", "1e1", "60.5"])
def test_wait_is_bounded(api: Consumer, wait: str) -> None:
    task_id = submit(api).json()["task_id"]
    assert pointers(api.get(f"/tasks/{task_id}/?wait={wait}")) == {"/wait": "invalid_wait"}


# Verbs.


def test_cancel_answers_202_with_the_cancelled_task_twice_the_same_and_409_once_it_is_final(api: Consumer) -> None:
    task_id = submit(api).json()["task_id"]

    first, second = (api.post(f"/tasks/{task_id}/cancel/") for _ in range(2))

    assert (first.status_code, first.json()["status"]) == (202, "cancelled")
    assert first.json()["completed_at"] is not None
    assert second.json() == first.json()
    other = submit(api).json()["task_id"]
    completed(Task.objects.get(id=other))
    final = api.post(f"/tasks/{other}/cancel/")
    assert (final.status_code, final.json()["code"]) == (409, "already_final")


def test_retry_makes_a_new_task_of_a_final_one(api: Consumer) -> None:
    task_id = submit(api, metadata={"order": "42"}).json()["task_id"]
    early = api.post(f"/tasks/{task_id}/retry/")
    completed(Task.objects.get(id=task_id))

    again = api.post(f"/tasks/{task_id}/retry/", {})

    assert (early.status_code, early.json()["code"]) == (409, "not_final")
    assert again.status_code == 201
    assert again.json()["retry_of"] == task_id
    assert again.json()["metadata"] == {"order": "42"}
    assert again["Location"] == f"/api/v1/tasks/{again.json()['task_id']}/"


def test_a_verb_takes_no_fields(api: Consumer) -> None:
    task_id = submit(api).json()["task_id"]
    response = api.post(f"/tasks/{task_id}/cancel/", {"reason": "bored"})
    assert pointers(response) == {"/reason": "unknown_field"}
    assert Task.objects.get(id=task_id).status == "pending"


def test_what_the_admin_submitted_is_not_a_keys_own(api: Consumer) -> None:
    task, _ = lifecycle.submit(lifecycle.Submission(agent="echo", input_data=HELLO, submitted_by="admin"))
    assert api.get(f"/tasks/{task.id}/").status_code == 404
    assert Consumer("admin").get(f"/tasks/{task.id}/").status_code == 200


def test_created_bounds_leave_the_moment_itself_out(api: Consumer) -> None:
    moment = datetime.fromisoformat(submit(api).json()["created_at"])
    before, at = (f"{one:%Y-%m-%dT%H:%M:%S.%fZ}" for one in (moment - timedelta(microseconds=1), moment))
    assert len(api.get(f"/tasks/?created_after={before}").json()["data"]) == 1
    assert len(api.get(f"/tasks/?created_after={at}").json()["data"]) == 0
