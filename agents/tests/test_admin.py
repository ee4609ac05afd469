"""Agents in the admin: the typed form publishes versions, problems stand beside their fields, nothing is lost."""
from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client

from agents import versions
from agents.admin import VERSIONS_SHOWN
from agents.forms import AgentForm, merge_patch
from agents.models import Agent, AgentVersion
from agents.tests.people import assert_cheap, person, queries_of, text_of

CONFIG = {
    "model": "scripted/list",
    "instructions": "Be brief.\n\nSay the currency.",
    "temperature": 1,
    "stop": "END\nOF",
    "provider_options": {"script": [{"text": "hi"}], "effort": "low"},
    "tools": ["subtract_numbers", "add_numbers"],
    "limits": {"max_steps": 5},
}
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return person("boss", superuser=True)


@pytest.fixture
def agent() -> Agent:
    return versions.create("helper", CONFIG, description="Helps.", by="test")


def page(agent: Agent) -> str:
    return f"/admin/agents/agent/{agent.pk}/change/"


def test_the_page_of_an_agent_that_is_not_there_leads_back_to_the_index(boss: Client, agent: Agent) -> None:
    for number in (agent.pk + 1, 10**20):
        response = boss.get(f"/admin/agents/agent/{number}/change/")
        assert (response.status_code, response["Location"]) == (302, "/admin/")


def as_shown(agent: Agent, **changed: Any) -> dict[str, Any]:
    """What a browser posts when nothing but `changed` was edited; its line breaks are CRLF."""
    form = AgentForm(instance=agent)
    values = {name: form[name].value() for name in form.fields}
    shown = {
        name: value.replace("\n", "\r\n") if isinstance(value, str) else value for name, value in values.items()
    }
    return {name: value for name, value in (shown | changed).items() if value not in (None, False)}


def published(agent: Agent) -> dict[str, Any]:
    agent.refresh_from_db()
    return agent.versions.get(version=agent.version).config


def test_a_new_agent_is_published_by_the_form(boss: Client) -> None:
    given = {"slug": "writer", "model": "scripted/echo", "tools": ["calculator"], "limits_max_steps": "7"}

    answer = boss.post("/admin/agents/agent/add/", given | {"note": "First."}, follow=True)

    version = AgentVersion.objects.get(agent__slug="writer")
    assert version.config == {"model": "scripted/echo", "tools": ["calculator"], "limits": {"max_steps": 7}}
    assert (version.version, version.created_by, version.note) == (1, "boss", "First.")
    assert "published as version 1" in text_of(answer)


def test_saving_an_untouched_form_changes_nothing_and_says_so(boss: Client, agent: Agent) -> None:
    answer = boss.post(page(agent), as_shown(agent), follow=True)

    assert "Nothing changed: helper is still at version 1" in text_of(answer)
    assert published(agent) == CONFIG
    assert agent.versions.count() == 1


def test_a_change_publishes_a_version_that_keeps_everything_else(boss: Client, agent: Agent) -> None:
    answer = boss.post(page(agent), as_shown(agent, temperature="0.5", note="Cooler."), follow=True)

    assert "Published version 2" in text_of(answer)
    assert published(agent) == CONFIG | {"temperature": 0.5}
    assert agent.versions.get(version=2).note == "Cooler."


def test_emptied_fields_take_their_keys_away(boss: Client, agent: Agent) -> None:
    emptied = {"temperature": "", "stop": "", "limits_max_steps": ""}

    boss.post(page(agent), as_shown(agent, provider_options='{"script": [{"text": "hi"}]}', **emptied))

    left = {key: CONFIG[key] for key in ("model", "instructions", "tools")}
    assert published(agent) == left | {"provider_options": {"script": [{"text": "hi"}]}}


def test_concurrency_and_retention_are_set_in_the_form(boss: Client, agent: Agent) -> None:
    boss.post(page(agent), as_shown(agent, max_concurrency="2", retention_days="30"))
    assert (published(agent)["max_concurrency"], published(agent)["retention_days"]) == (2, 30)
    assert "Use" in text_of(boss.post(page(agent), as_shown(agent, retention_days="0")))
    boss.post(page(agent), as_shown(agent, retention_days=""))
    assert "retention_days" not in published(agent)


def test_fallback_models_and_the_schema_of_the_answer_are_set_in_the_form(boss: Client, agent: Agent) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "number"}}}
    given = {"fallback_models": "gemini/gemini-2.5-pro\r\n\r\nscripted/echo", "output_schema": json.dumps(schema)}

    boss.post(page(agent), as_shown(agent, **given))

    config = published(agent)
    assert config["fallback_models"] == ["gemini/gemini-2.5-pro", "scripted/echo"]
    assert config["output_schema"] == schema
    shown = boss.get(page(agent)).content.decode()
    assert ">null<" not in shown.replace("\n", "")


def test_a_schema_that_is_none_is_told_beside_its_field_with_the_place_in_it(boss: Client, agent: Agent) -> None:
    wrong = {"output_schema": '{"properties": {"a": {"type": "objekt"}}}', "fallback_models": "a\nb\nc\nd\ne\nf"}

    answer = boss.post(page(agent), as_shown(agent, **wrong))

    errors = answer.context["adminform"].form.errors
    assert errors["output_schema"][0].startswith("properties/a/type: That is no JSON Schema")
    assert "use 0 to 5" in errors["fallback_models"][0]
    assert published(agent) == CONFIG


def test_keys_that_the_form_does_not_show_are_kept() -> None:
    assert merge_patch({"later": 1, "a": {"x": 1, "y": 2}}, {"later": 1, "a": {"x": 1}}) == {"a": {"y": None}}


def test_problems_stand_beside_the_field_they_point_at(boss: Client, agent: Agent) -> None:
    wrong = {"temperature": "9", "limits_max_steps": "0", "provider_options": "[1]", "model": ""}

    answer = boss.post(page(agent), as_shown(agent, **wrong))

    errors = answer.context["adminform"].form.errors
    assert set(errors) == {"temperature", "limits_max_steps", "provider_options", "__all__"}
    assert "from 0 to 2" in errors["temperature"][0]
    assert agent.versions.count() == 1


def test_an_edit_on_top_of_another_one_is_refused_and_kept_on_screen(boss: Client, agent: Agent) -> None:
    read = as_shown(agent, instructions="Mine.")
    versions.change("helper", {"config": {"temperature": 0}}, by="olga")

    answer = boss.post(page(agent), read)

    assert "olga published version 2 after you opened version 1" in text_of(answer)
    assert "Mine." in answer.content.decode()
    assert published(agent) == CONFIG | {"temperature": 0}


def test_archiving_and_describing_are_versions_too(boss: Client, agent: Agent) -> None:
    boss.post(page(agent), as_shown(agent, archived="on", description="Helped."))

    agent.refresh_from_db()
    assert (agent.archived, agent.description, agent.version) == (True, "Helped.", 2)


def test_an_agent_cannot_be_deleted(boss: Client, agent: Agent) -> None:
    assert boss.post(f"/admin/agents/agent/{agent.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Agent.objects.exists()


def test_a_chosen_tool_that_is_not_installed_stays_visible(boss: Client, agent: Agent) -> None:
    AgentVersion.objects.create(agent=agent, version=2, config={"tools": ["gone", "*_numbers"]}, created_by="test")
    Agent.objects.update(version=2)

    words = text_of(boss.get(page(agent)))

    assert "gone not installed" in words
    assert "*_numbers stands for add_numbers, subtract_numbers" in words


@pytest.mark.parametrize("changed", [
    {"api_base": "https://elsewhere.example/v1"},
    {"provider_options": '{"script": [{"text": "hi"}], "effort": "low", "base_url": "https://elsewhere.example"}'},
])  # fmt: skip
def test_an_operator_cannot_send_the_providers_key_elsewhere(agent: Agent, changed: dict[str, str]) -> None:
    operator = person("olga", group="Operators")

    operator.post(page(agent), as_shown(agent, temperature="0.1", **changed))

    assert "elsewhere" not in str(published(agent))


def test_rolling_back_asks_first_and_publishes_the_old_configuration_again(boss: Client, agent: Agent) -> None:
    versions.change("helper", {"config": {"temperature": 0}}, by="olga")
    first = agent.versions.get(version=1)
    url = f"/admin/agents/agentversion/{first.pk}/rollback/"

    asked = boss.get(url)
    assert "Roll back to this version?" in text_of(asked)
    assert agent.versions.count() == 2

    boss.post(url, {"_form_submitted": "on", "note": "It was better."})
    assert published(agent) == CONFIG
    latest = agent.versions.get(version=3)
    assert (latest.rollback_of, latest.note, latest.created_by) == (1, "It was better.", "boss")


def test_the_versions_are_listed_with_what_changed(boss: Client, agent: Agent) -> None:
    shorter = {"config": {"instructions": "Be brief.\n\nSay <b>nothing</b>."}}
    versions.change("helper", shorter, note="Shorter.", by="olga")

    answer = boss.get(page(agent))

    assert "olga Shorter. instructions" in text_of(answer)
    assert "- Say the currency. + Say <b>nothing</b>." in text_of(answer)
    assert "<b>nothing</b>" not in answer.content.decode()


def test_a_viewer_reads_the_configuration_and_cannot_change_it(agent: Agent) -> None:
    viewer = person("viktor", group="Viewers")

    assert "instructions Be brief." in text_of(viewer.get(page(agent)))
    assert viewer.post(page(agent), as_shown(agent, temperature="0.5")).status_code == 403
    assert viewer.get("/admin/agents/agent/add/").status_code == 403
    first = agent.versions.get(version=1)
    assert viewer.post(f"/admin/agents/agentversion/{first.pk}/rollback/", {"_form_submitted": "on"}).status_code == 403
    assert agent.versions.count() == 1


@pytest.mark.parametrize("rows", [0, 1, 60])
def test_the_lists_cost_the_same_at_any_size(boss: Client, rows: int) -> None:
    for number in range(rows):
        versions.create(f"agent-{number}", CONFIG, by="test")

    for name in ("agent", "agentversion"):
        assert_cheap(queries_of(boss, f"/admin/agents/{name}/"))


def test_an_agents_page_is_bounded_however_many_versions_there_are(boss: Client, agent: Agent) -> None:
    for number in range(2, VERSIONS_SHOWN + 10):
        AgentVersion.objects.create(agent=agent, version=number, config={"seed": number}, created_by="test")

    assert_cheap(queries_of(boss, page(agent)))
    assert text_of(boss.get(page(agent))).count("seed - ") == VERSIONS_SHOWN


def test_an_empty_list_says_what_to_do(boss: Client) -> None:
    assert "Add one: a model, instructions" in text_of(boss.get("/admin/agents/agent/"))


def test_versions_are_read_only_for_everybody() -> None:
    page = admin.site._registry[AgentVersion]
    assert not any((page.has_add_permission(None), page.has_change_permission(None), page.has_delete_permission(None)))
