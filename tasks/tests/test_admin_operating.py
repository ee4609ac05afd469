"""In the admin: why a task does not move, an unknown step resolved, the workers."""
from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.conf import settings as site
from django.test import Client
from django.utils import timezone

from agents.tests.people import assert_cheap, person, queries_of, text_of
from tasks.models import Event, Step, Task
from tasks.tests.factories import TaskFactory
from tasks.tests.test_order import live_worker

CONFIRMED = {"_form_submitted": "on"}
pytestmark = pytest.mark.django_db


@pytest.fixture
def operator() -> Client:
    return person("olga", group="Operators")


def page(task: Task, name: str = "change") -> str:
    return f"/admin/tasks/task/{task.id}/{name}/"


def unsure() -> Task:
    task = TaskFactory(status="waiting", waiting_on="input", attempt=2, last_seq=1)
    now = timezone.now()
    Event.objects.create(task=task, seq=1, type="task.started", at=now, data={"attempt": 1, "worker": "w1@host:7"})
    Step.objects.create(task=task, seq=3, kind="tool", name="transfer", status="unknown", attempt=1,
                        input={"amount": "<b>7</b>"}, error="?", started_at=now)  # fmt: skip
    return task


def test_a_task_that_has_not_ended_says_why_it_does_not_move(operator: Client) -> None:
    task = TaskFactory()
    words = text_of(operator.get(page(task)))
    assert "Why is it not moving? No live worker serves the queue 'default'" in words
    assert_cheap(queries_of(operator, page(task)), most=14)


def test_the_reasons_are_asked_again_by_themselves(operator: Client) -> None:
    task = TaskFactory()
    answer = operator.get(page(task), {"part": "why"}, HTTP_HX_REQUEST="true")
    assert text_of(answer).startswith("Why is it not moving? No live worker")
    assert "Transcript" not in text_of(answer)
    live_worker(slots=3)
    answer = operator.get(page(task), {"part": "why"}, HTTP_HX_REQUEST="true")
    assert "It is the next one of the queue 'default'; 3 of 3 slots are free." in text_of(answer)


def test_a_task_that_has_ended_does_not(operator: Client) -> None:
    task = TaskFactory(status="cancelled", completed_at=timezone.now())
    assert "Why is it not moving?" not in text_of(operator.get(page(task)))


def test_what_is_known_of_an_unknown_step_is_shown_with_three_choices(operator: Client) -> None:
    task = unsure()
    answer = operator.get(page(task))
    words = text_of(answer)
    for part in ("Did it happen?", "transfer , step 3", "w1@host:7", f"{task.id}:3", '{"amount": "<b>7</b>"}',
                 "It happened …", "Do it again …", "Stop the task …"):  # fmt: skip
        assert part in words, part
    assert "<b>7</b>" not in answer.content.decode()


@pytest.mark.parametrize(("given", "output"), [('{"id": 7}', {"id": 7}), ('"sent"', "sent"), ("", None), (" 7 ", 7)])
def test_it_happened_asks_for_its_result_and_is_recorded(operator: Client, given: str, output: Any) -> None:
    task = unsure()
    assert "The call took effect?" in text_of(operator.get(page(task, "happened")))

    answer = operator.post(page(task, "happened"), CONFIRMED | {"result": given}, follow=True)

    assert "Taken as done" in text_of(answer)
    assert (Task.objects.get().status, Step.objects.get().status, Step.objects.get().output) == (
        "pending", "done", output,
    )  # fmt: skip
    entry = LogEntry.objects.get(object_pk=task.id)
    assert (entry.actor.username, entry.changes["status"]) == ("olga", ["waiting", "pending"])
    assert {"verb": "resume", "resolve": "happened", "step": 3}.items() <= entry.additional_data.items()


@pytest.mark.parametrize("given", ["sent", "{", "NaN", '"\\u0000"', "[" * 100_000])
def test_a_result_that_is_not_json_is_refused_in_the_dialog(operator: Client, given: str) -> None:
    task = unsure()
    answer = operator.post(page(task, "happened"), CONFIRMED | {"result": given})
    assert answer.status_code == 200
    assert 'id="dialog-form"' in answer.content.decode()
    assert Task.objects.get().status == "waiting"


def test_again_and_stop(operator: Client) -> None:
    first, second = unsure(), unsure()
    operator.post(page(first, "again"), CONFIRMED)
    operator.post(page(second, "stop"), CONFIRMED)
    assert Step.objects.get(task=first).repeat_allowed
    assert [Task.objects.get(id=task.id).status for task in (first, second)] == ["pending", "cancelled"]


def test_what_was_resolved_meanwhile_says_so_and_is_not_recorded(operator: Client) -> None:
    task = unsure()
    operator.post(page(task, "again"), CONFIRMED)
    answer = operator.post(page(task, "again"), CONFIRMED, follow=True)
    assert "only a waiting task can be resumed" in text_of(answer)
    assert LogEntry.objects.filter(object_pk=task.id).count() == 1


@pytest.mark.parametrize("verb", ["happened", "again", "stop"])
def test_a_viewer_sees_it_and_may_not_resolve_it(verb: str) -> None:
    viewer, task = person("viktor", group="Viewers"), unsure()
    words = text_of(viewer.get(page(task)))
    assert "Did it happen?" in words
    assert "It happened …" not in words
    assert viewer.post(page(task, verb), CONFIRMED).status_code == 403
    assert Task.objects.get().status == "waiting"


def test_workers_are_listed_with_their_state_and_cannot_be_changed(operator: Client) -> None:
    worker = live_worker(slots=4, name="new@host", version=site.VERSION, in_flight=1)
    live_worker(slots=4, name="old@host", version="0.0.1", heartbeat_at=timezone.now() - timedelta(hours=2))
    live_worker(slots=4, name="leaving@host", version=site.VERSION, draining=True)

    words = text_of(operator.get("/admin/tasks/worker/"))

    for part in ("new@host live", "old@host silent 0.0.1 (not the site's)", "leaving@host draining", "1 of 4",
                 "2 h ago"):  # fmt: skip
        assert part in words, part
    assert operator.get(f"/admin/tasks/worker/{worker.pk}/change/").status_code == 200
    assert operator.post(f"/admin/tasks/worker/{worker.pk}/delete/", {"post": "yes"}).status_code == 403
    assert operator.get("/admin/tasks/worker/add/").status_code == 403


def test_the_first_page_counts_workers_and_free_slots(operator: Client) -> None:
    assert "No live worker: tasks wait until one is started." in text_of(operator.get("/admin/"))
    live_worker(slots=4, name="a", in_flight=1)
    live_worker(slots=4, name="b", in_flight=5)
    live_worker(slots=4, name="c", heartbeat_at=timezone.now() - timedelta(hours=2))
    assert "2 workers, 3 free slots." in text_of(operator.get("/admin/"))
