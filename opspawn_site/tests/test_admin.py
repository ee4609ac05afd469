"""The admin as a whole: groups, the audit log, every page in the house's dress, the first page."""
from __future__ import annotations

import re

import pytest
from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client
from django_celery_results.models import GroupResult, TaskResult
from unfold.admin import ModelAdmin

from agents import versions
from agents.models import Agent
from agents.tests.factories import AgentVersionFactory
from agents.tests.people import assert_cheap, person, queries_of, text_of
from opspawn_site import groups
from tasks import keys
from tasks.models import Event, Step, Task
from tasks.tests.factories import TaskFactory
from tasks.tests.test_admin import ended

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return person("boss", superuser=True)


def permissions(group: str) -> set[str]:
    return set(Group.objects.get(name=group).permissions.values_list("codename", flat=True))


def test_two_groups_are_there_from_the_start() -> None:
    viewers = {
        "view_agent", "view_agentversion", "view_task", "view_step", "view_worker", "view_budget", "view_price",
        "view_ledgerentry",
    }  # fmt: skip
    assert permissions("Viewers") == viewers
    verbs = {"cancel_task", "retry_task", "resume_task"}
    assert permissions("Operators") == viewers | verbs | {"add_agent", "change_agent"}


def test_migrating_again_leaves_a_changed_group_and_brings_back_a_missing_one() -> None:
    Group.objects.get(name="Viewers").delete()
    operators = Group.objects.get(name="Operators")
    operators.permissions.remove(operators.permissions.get(codename="retry_task"))

    call_command("migrate", verbosity=0)
    groups.seed()

    assert "retry_task" not in permissions("Operators")
    assert "view_task" in permissions("Viewers")
    assert Group.objects.count() == 2


def test_every_registered_model_is_styled() -> None:
    assert not [model for model, page in admin.site._registry.items() if not isinstance(page, ModelAdmin)]


def test_every_list_and_form_answers_and_loads_nothing_from_elsewhere(boss: Client) -> None:
    TaskResult.objects.create(task_id="a", task_name="fleet_check", status="SUCCESS", result="{}")
    GroupResult.objects.create(group_id="g")
    Step.objects.create(task=TaskFactory(), seq=1, kind="llm", name="m", attempt=1, started_at="2026-01-01T00:00:00Z")
    addresses = ["/admin/", "/admin/login/", "/admin/password_change/"]
    for model, page in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        addresses += [base] + [f"{base}{row.pk}/change/" for row in model.objects.all()[:1]]
        addresses += [f"{base}add/"] if page.has_add_permission(boss.get("/admin/").wsgi_request) else []

    for address in addresses:
        answer = boss.get(address)
        assert answer.status_code in (200, 302), address
        assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*', answer.content.decode()), address


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_the_audit_log_costs_the_same_at_any_size(boss: Client, rows: int) -> None:
    agent = AgentVersionFactory().agent
    for number in range(rows):
        LogEntry.objects.log_create(agent, action=1, changes={"version": [number, number + 1]})

    assert_cheap(queries_of(boss, "/admin/auditlog/logentry/"))
    assert_cheap(queries_of(boss, "/admin/auditlog/logentry/?object=agents.agent&period=day&actor=none"))


def test_a_published_version_is_recorded_with_before_and_after(boss: Client) -> None:
    agent = versions.create("helper", {"model": "scripted/echo"}, by="test")
    given = {"model": "scripted/echo", "temperature": "0.5", "description": "Helps.", "based_on": "1"}

    boss.post(f"/admin/agents/agent/{agent.pk}/change/", given)

    entries = LogEntry.objects.get_for_object(agent)
    assert {entry.actor.username for entry in entries[:2]} == {"boss"}
    changes = entries[0].changes | entries[1].changes
    assert changes["version"] == [1, 2]
    assert changes["description"] == ["", "Helps."]
    assert "temperature" not in changes["config"][0]
    assert '"temperature": 0.5' in changes["config"][1]
    entry = next(entry for entry in entries if "config" in entry.changes)
    assert "config.temperature + 0.5" in text_of(boss.get(f"/admin/auditlog/logentry/{entry.pk}/change/"))


def test_a_change_over_rest_is_recorded_with_the_name_of_its_key(client: Client) -> None:
    _, token = keys.issue("deployer", scopes=("agents:write", "agents:read"))
    body = {"slug": "helper", "config": {"model": "scripted/echo"}}

    answer = client.post("/api/v1/agents/", body, "application/json", HTTP_AUTHORIZATION=f"Bearer {token}")

    assert answer.status_code == 201, answer.content
    entry = LogEntry.objects.get_for_object(Agent.objects.get()).get()
    assert (entry.actor, entry.additional_data["api_key"], entry.action) == (None, "deployer", LogEntry.Action.CREATE)
    shown = text_of(person("boss", superuser=True).get("/admin/auditlog/logentry/"))
    assert "API key deployer create agent helper@1" in shown


def test_the_clients_word_on_its_address_is_not_believed(boss: Client) -> None:
    said = {"HTTP_X_FORWARDED_FOR": "junk", "HTTP_X_FORWARDED_PORT": "-9"}
    boss.post("/admin/auth/group/add/", {"name": "night shift"}, **said)

    entry = LogEntry.objects.get(object_repr="night shift")
    assert (entry.remote_addr, entry.remote_port) == ("127.0.0.1", None)


def test_a_changed_password_is_recorded_without_any_of_it(boss: Client) -> None:
    user = User.objects.create_user("viktor", password="the-old-password")
    fields = {"password1": "quite-another-one", "password2": "quite-another-one", "usable_password": "true"}

    boss.post(f"/admin/auth/user/{user.pk}/password/", fields)

    entry = LogEntry.objects.get_for_object(user).latest("id")
    assert entry.changes == {"password": ["(hidden)", "(hidden)"]}
    assert entry.actor.username == "boss"


def test_a_user_put_into_a_group_is_recorded() -> None:
    user = User.objects.create(username="viktor")
    user.groups.add(Group.objects.get(name="Viewers"))
    entry = LogEntry.objects.get_for_object(user).latest("id")
    assert entry.changes["groups"]["objects"] == ["Viewers"]


def test_logging_in_and_running_tasks_leave_no_entries(client: Client) -> None:
    User.objects.create_user("viktor", password="the-old-password", is_staff=True)
    before = LogEntry.objects.count()

    assert client.login(username="viktor", password="the-old-password")
    task = TaskFactory(api_key=None, version=AgentVersionFactory(agent__slug="quiet"))
    Event.objects.create(task=task, seq=1, type="task.created", at="2026-01-01T00:00:00Z")
    task.save()

    assert LogEntry.objects.count() == before + 1
    assert LogEntry.objects.latest("id").object_repr == "quiet@1"  # the agent that the task needed


def test_nobody_changes_or_deletes_an_entry(boss: Client) -> None:
    boss.post("/admin/auth/group/add/", {"name": "night shift"})
    entry = LogEntry.objects.get(object_repr="night shift")
    base = "/admin/auditlog/logentry/"

    assert boss.post(f"{base}{entry.pk}/change/", {"action": 2}).status_code == 403
    assert boss.post(f"{base}{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    assert boss.get(f"{base}add/").status_code == 403
    boss.post(base, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert LogEntry.objects.filter(pk=entry.pk).exists()


def test_the_first_page_of_a_new_installation_says_what_to_do(boss: Client) -> None:
    assert "Start here: make an agent" in text_of(boss.get("/admin/"))
    versions.create("assistant", {}, by="test")
    assert "Next: run a task" in text_of(boss.get("/admin/"))


def test_the_first_page_counts_the_last_day_and_names_the_last_failures(boss: Client) -> None:
    ended("failed", name="Supplier comparison")
    ended()
    TaskFactory(id=f"task_{'0' * 32}")  # of 1970

    words = text_of(boss.get("/admin/"))

    assert "Pending 0 Running 0 Waiting 0 Completed 1 Failed 1 Cancelled 0" in words
    assert "timeout : Late." in words
    assert_cheap(queries_of(boss, "/admin/"))


def test_who_may_see_nothing_is_told_whom_to_ask() -> None:
    assert "Ask a superuser" in text_of(person("newcomer").get("/admin/"))


@pytest.mark.parametrize(("group", "seen"), [("Viewers", 8), ("Operators", 8)])
def test_the_navigation_shows_only_what_one_may_see(group: str, seen: int) -> None:
    page = person("somebody", group=group).get("/admin/").content.decode()
    listed = set(re.findall(r'href="(/admin/\w+/\w+/)"', page))
    assert len(listed) == seen
    assert Task.objects.count() == 0
