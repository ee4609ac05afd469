"""Tasks in the admin: quick lists, a readable and escaped transcript, cancel and retry."""
from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.admin.utils import quote
from django.test import Client
from django.utils import timezone

from agents.console import COUNT_CAP, CappedPaginator
from agents.models import AgentVersion
from agents.tests.factories import AgentVersionFactory
from agents.tests.people import assert_cheap, person, queries_of, text_of
from tasks.admin.tasks import EVENTS_SHOWN, STEPS_SHOWN
from tasks.models import Event, Step, Task
from tasks.states import Status
from tasks.tests.factories import TaskFactory
from tasks.transcript import SHOWN_CHARS, money

LIST = "/admin/tasks/task/"
CONFIRMED = {"_form_submitted": "on"}
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return person("boss", superuser=True)


@pytest.fixture
def version() -> AgentVersion:
    return AgentVersionFactory()


def ended(status: str = "completed", **fields: Any) -> Task:
    now = timezone.now()
    done, failed = {"result": {"agent_outcome": "42"}}, {"error_code": "timeout", "error_message": "Late."}
    defaults = {"status": status, "started_at": now, "completed_at": now, "attempt": 1}
    defaults |= {"completed": done, "failed": failed}[status]
    return TaskFactory(**(defaults | fields))


def step(task: Task, seq: int, **fields: Any) -> Step:
    kind = fields.pop("kind", "llm")
    defaults = {"name": "scripted/list", "status": "done", "attempt": 1, "started_at": timezone.now(), "seconds": 0.25}
    return Step.objects.create(task=task, seq=seq, kind=kind, **(defaults | fields))


def page(task: Task) -> str:
    return f"{LIST}{task.id}/change/"


def ids_in(answer: Any) -> set[str]:
    return {task.id for task in answer.context["cl"].result_list}


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_the_lists_cost_the_same_at_any_size(boss: Client, version: AgentVersion, rows: int) -> None:
    tasks = [Task(version=version, agent=version.agent, input_data={"prompt": "x"}) for _ in range(rows)]
    Task.objects.bulk_create(tasks)
    Step.objects.bulk_create(
        Step(task=task, seq=1, kind="llm", name="m", attempt=1, started_at=timezone.now()) for task in tasks
    )
    filtered = f"{LIST}?status__exact=pending&period=day&error_code="
    for address in (LIST, filtered, f"{LIST}?q=task_0", "/admin/tasks/step/", "/admin/tasks/step/?q=task_0"):
        assert_cheap(queries_of(boss, address))


def test_a_count_stops_at_its_cap_and_later_pages_are_still_there(boss: Client, version: AgentVersion) -> None:
    Task.objects.bulk_create(
        Task(version=version, agent=version.agent, input_data={"prompt": "x"}) for _ in range(COUNT_CAP + 60)
    )

    assert CappedPaginator(Task.objects.all(), 50).count == COUNT_CAP + 1
    assert "more than 1,000 tasks" in text_of(boss.get(LIST))
    assert len(ids_in(boss.get(f"{LIST}?p=22"))) == 10
    assert boss.get(f"{LIST}?p=23").status_code == 302


def test_the_list_of_tasks_selects_no_documents(boss: Client) -> None:
    TaskFactory(input_data={"prompt": "x" * 1000})
    rows = [sql for sql in queries_of(boss, LIST) if 'FROM "tasks_task"' in sql and "COUNT" not in sql]
    assert not [sql for sql in rows if "input_data" in sql or '"result"' in sql]


def test_tasks_are_found_by_id_name_session_and_metadata(boss: Client) -> None:
    wanted = TaskFactory(name="Weekly report", session_id="cust-7", metadata={"order": "42"})
    TaskFactory(name="Other", session_id="cust-70")

    for term in (wanted.id, wanted.id[:30], wanted.id.removeprefix("task_"), "Weekly", "cust-7", "order=42"):
        assert wanted.id in ids_in(boss.get(LIST, {"q": term})), term
    assert ids_in(boss.get(LIST, {"q": "Weekly"})) == {wanted.id}
    assert ids_in(boss.get(LIST, {"q": "cust-7"})) == {wanted.id}
    assert ids_in(boss.get(LIST, {"q": "no such"})) == set()


def test_tasks_are_filtered_by_status_agent_error_and_age(boss: Client) -> None:
    late = ended("failed")
    done = ended()
    milliseconds = int((timezone.now() - datetime.timedelta(days=3)).timestamp() * 1000)
    old = TaskFactory(id=f"task_{milliseconds:012x}{'0' * 20}")

    assert ids_in(boss.get(LIST, {"status__exact": "completed"})) == {done.id}
    assert ids_in(boss.get(LIST, {"agent__id__exact": old.agent_id})) == {old.id}
    assert ids_in(boss.get(LIST, {"error_code": "timeout"})) == {late.id}
    assert ids_in(boss.get(LIST, {"period": "day"})) == {late.id, done.id}


def test_the_transcript_reads_from_the_opening_to_the_answer(boss: Client) -> None:
    task = ended(steps_count=3, input_tokens=30, output_tokens=12)
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 6 times 7?"}]
    call = {"id": "c1", "name": "calculator", "arguments": {"expression": "6*7"}}
    tries = [
        {"started_at": "2026-01-01T00:00:00Z", "seconds": 0.1, "error": "429 from the provider"},
        {"started_at": "2026-01-01T00:00:01Z", "seconds": 0.2, "error": None},
    ]
    step(task, 1, input={"messages": said}, output={"text": "", "tool_calls": [call], "finish_reason": "tool_calls"},
         simulated=True, attempts=tries, input_tokens=20, output_tokens=5)  # fmt: skip
    step(task, 2, kind="tool", name="calculator", input={"expression": "6*7"}, output=42)
    step(task, 3, input={"messages": [{"role": "tool", "content": "42"}]}, output={"text": "42", "tool_calls": []})

    words = text_of(boss.get(page(task)))

    told = (
        "Instructions Be brief. User What is 6 times 7? Agent simulated", "20 → 5 tokens",
        'calls calculator {"expression": "6*7"}', "Attempt 1: 429 from the provider (0.1 s)",
        '{"expression": "6*7"} → 42', "Answer 42",
    )  # fmt: skip
    places = [words.index(part) for part in told]
    assert places == sorted(places)


def test_whatever_a_prompt_or_a_tool_says_is_shown_as_text(boss: Client) -> None:
    evil = "<script>alert(1)</script>"
    named = {"name": evil, "session_id": evil, "metadata": {"k": evil}}
    task = ended("failed", input_data={"prompt": evil}, error_message=evil, **named)
    step(task, 1, input={"messages": [{"role": "user", "content": evil}]}, status="failed", error=evil,
         output={"text": evil, "tool_calls": [{"name": evil, "arguments": {"a": evil}}]})  # fmt: skip
    step(task, 2, kind="tool", name=evil, input={"a": evil}, output=evil, summary=evil)
    Event.objects.create(task=task, seq=1, type="task.created", at=timezone.now(), data={"x": evil})

    pages = (page(task), LIST, "/admin/tasks/step/", f"/admin/tasks/step/{task.steps.get(seq=2).pk}/change/", "/admin/")
    for address in pages:
        assert evil not in boss.get(address).content.decode(), address


def test_a_failed_task_says_why_first(boss: Client) -> None:
    task = ended("failed")
    assert "Failed: timeout. Late." in text_of(boss.get(page(task)))


def test_long_texts_are_folded_and_the_page_is_bounded(boss: Client) -> None:
    task = ended(steps_count=STEPS_SHOWN + 5, last_seq=EVENTS_SHOWN + 7)
    now = timezone.now()
    Step.objects.bulk_create(
        Step(task=task, seq=n, kind="tool", name="t", output="y" * (SHOWN_CHARS + 1), attempt=1, started_at=now)
        for n in range(1, STEPS_SHOWN + 6)
    )
    Event.objects.bulk_create(
        Event(task=task, seq=n, type="step.started", at=now) for n in range(1, EVENTS_SHOWN + 8)
    )

    assert_cheap(queries_of(boss, page(task)))
    answer = boss.get(page(task))
    assert answer.content.decode().count("<summary>… the rest</summary>") == STEPS_SHOWN
    assert "5 more steps are in the step list" in text_of(answer)
    assert f"the last {EVENTS_SHOWN} are shown" in text_of(answer)


def test_a_live_page_is_asked_again_only_for_what_is_new(boss: Client) -> None:
    task = TaskFactory(last_seq=3)
    htmx = {"HTTP_HX_REQUEST": "true"}

    assert 'hx-trigger="every 2s' in boss.get(page(task)).content.decode()
    assert boss.get(page(task), {"seen": "3"}, **htmx).status_code == 204
    assert boss.get(page(task), {"seen": "2"}, **htmx).status_code == 200
    Task.objects.update(status=Status.CANCELLED, completed_at=timezone.now())
    assert boss.get(page(task), {"seen": "3"}, **htmx)["HX-Refresh"] == "true"
    assert 'hx-trigger="every' not in boss.get(page(task)).content.decode()


def test_tasks_and_steps_cannot_be_added_changed_or_deleted(boss: Client) -> None:
    task = ended()
    step(task, 1)
    for model, pk in (("task", task.id), ("step", str(task.steps.get().pk))):
        assert boss.get(f"/admin/tasks/{model}/add/").status_code == 403
        assert boss.post(f"/admin/tasks/{model}/{pk}/change/", {"name": "x"}).status_code == 403
        assert boss.post(f"/admin/tasks/{model}/{pk}/delete/", {"post": "yes"}).status_code == 403


def test_cancelling_asks_first_and_is_recorded(boss: Client) -> None:
    task = TaskFactory()
    url = f"{LIST}{task.id}/cancel/"

    assert "Cancel this task?" in text_of(boss.get(url))
    assert Task.objects.get().status == Status.PENDING

    answer = boss.post(url, CONFIRMED, follow=True)
    assert "The task is cancelled." in text_of(answer)
    assert Task.objects.get().status == Status.CANCELLED
    entry = LogEntry.objects.get(object_pk=task.id)
    assert (entry.actor.username, entry.changes["status"], entry.additional_data["verb"]) == (
        "boss", ["pending", "cancelled"], "cancel",
    )  # fmt: skip


def test_a_cancel_without_the_csrf_token_is_refused() -> None:
    task = TaskFactory()
    browser = person("boss", superuser=True)
    browser.handler.enforce_csrf_checks = True

    assert browser.post(f"{LIST}{task.id}/cancel/", CONFIRMED).status_code == 403
    assert Task.objects.get().status == Status.PENDING


def test_cancelling_what_is_final_says_so(boss: Client) -> None:
    task = ended()
    answer = boss.post(f"{LIST}{task.id}/cancel/", CONFIRMED, follow=True)
    assert "The task is completed since" in text_of(answer)
    assert not LogEntry.objects.filter(object_pk=task.id).exists()


def test_a_retry_leads_to_the_new_task_and_is_recorded(boss: Client) -> None:
    task = ended("failed", input_data={"prompt": "again"})

    boss.post(f"{LIST}{task.id}/retry/", CONFIRMED)

    again = Task.objects.get(retry_of=task)
    assert again.input_data == {"prompt": "again"}
    assert LogEntry.objects.get(object_pk=task.id).changes == {"retried as": [None, again.id]}


def test_the_actions_of_the_list_tell_what_each_task_did(boss: Client) -> None:
    waiting, done = TaskFactory(), ended()

    chosen = {"action": "cancel_selected", "_selected_action": [waiting.id, done.id]}
    words = text_of(boss.post(LIST, chosen, follow=True))

    assert "1 task cancelled or asked to stop." in words
    assert "The task is completed since" in words


def test_a_viewer_reads_tasks_and_may_not_steer_them() -> None:
    viewer = person("viktor", group="Viewers")
    task = TaskFactory()

    assert viewer.get(page(task)).status_code == 200
    assert "/cancel/" not in viewer.get(page(task)).content.decode()
    assert viewer.post(f"{LIST}{task.id}/cancel/", CONFIRMED).status_code == 403
    viewer.post(LIST, {"action": "cancel_selected", "_selected_action": [task.id]})
    assert Task.objects.get().status == Status.PENDING


def test_an_operator_cancels_and_sees_neither_keys_nor_users() -> None:
    operator = person("olga", group="Operators")
    task = TaskFactory()

    operator.post(f"{LIST}{task.id}/cancel/", CONFIRMED)

    assert Task.objects.get().status == Status.CANCELLED
    for address in ("tasks/apikey/", "tasks/apikey/add/", "auth/user/", "auth/group/", "auditlog/logentry/"):
        assert operator.get(f"/admin/{address}").status_code == 403, address


def test_the_steps_of_one_task_are_found_in_their_order(boss: Client) -> None:
    wanted, other = TaskFactory(), TaskFactory()
    for seq in (2, 1):
        step(wanted, seq)
    step(other, 1)

    for term in (wanted.id, wanted.id.removeprefix("task_")):
        listed = boss.get("/admin/tasks/step/", {"q": term}).context["cl"].result_list
        assert [(row.task_id, row.seq) for row in listed] == [(wanted.id, 1), (wanted.id, 2)]
    assert len(boss.get("/admin/tasks/step/", {"q": "task_0"}).context["cl"].result_list) == 3


@pytest.mark.parametrize(("cost", "shown"), [(None, "unknown"), (0, "$0"), ("0.00142", "$0.00142"), ("12", "$12")])
def test_money_is_shown_without_noise_and_never_as_0_when_unknown(cost: Any, shown: str) -> None:
    assert money(None if cost is None else Decimal(cost)) == shown


def test_the_list_leads_to_the_page(boss: Client) -> None:
    task = ended()
    link = f"{LIST}{quote(task.id)}/change/"
    assert link in boss.get(LIST).content.decode()
    assert boss.get(link).status_code == 200


def test_each_attempt_is_shown_with_its_model_its_reason_and_what_was_waited_then(boss: Client) -> None:
    task = ended()
    made = [
        {"started_at": "x", "seconds": 0.0, "error": "openai is cooling down", "model": "openai/a",
         "wait_seconds": 0.0, "skipped": 3},
        {"started_at": "x", "seconds": 0.5, "error": "<b>429</b>", "model": "gemini/b", "wait_seconds": 2.04},
        {"started_at": "x", "seconds": 0.25, "error": None, "model": "gemini/b", "wait_seconds": None},
    ]  # fmt: skip
    step(task, 1, model="gemini/b", attempts=made, output={"text": "8", "tool_calls": []})

    words = text_of(boss.get(page(task)))

    assert "Not asked: openai/a, 3 times: openai is cooling down; then the next model was asked" in words
    assert "Attempt 1 on gemini/b: <b>429</b> (0.5 s); then a wait of 2.0 s" in words
    assert "Attempt 2 on gemini/b: answered (0.25 s)" in words
