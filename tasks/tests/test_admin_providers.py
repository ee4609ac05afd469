"""Provider rows in the admin: the key goes in and is never shown, a test is made, one in use stays."""
from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from agents import provider_rows, versions
from agents.tests.people import assert_cheap, person, queries_of, text_of
from llm import sealing
from llm.models import Provider

KEY = "canary-of-admin-0123456789"
GIVEN = {"label": "team-b", "provider": "openai", "base_url": "", "key": KEY, "enabled": "on"}
CONFIRMED = {"_form_submitted": "on"}
LIST = "/admin/llm/provider/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return person("boss", superuser=True)


@pytest.fixture
def row() -> Provider:
    return provider_rows.create({"label": "team-b", "provider": "openai", "key": KEY})


def page(row: Provider) -> str:
    return f"{LIST}{row.pk}/change/"


def test_a_row_is_made_and_its_key_is_on_no_page_again(boss: Client) -> None:
    boss.post(f"{LIST}add/", GIVEN)

    row = Provider.objects.get()
    assert sealing.unseal(row.key_sealed) == KEY
    for address in (LIST, page(row), f"{LIST}add/", "/admin/auditlog/logentry/", f"{LIST}{row.pk}/delete/"):
        shown = boss.get(address).content.decode()
        assert KEY not in shown
        assert row.key_sealed not in shown
    assert "…6789" in text_of(boss.get(LIST))
    assert "Now …6789" in text_of(boss.get(page(row)))
    assert KEY not in str(boss.session.items())


@pytest.mark.parametrize(("changed", "field"), [
    ({"label": "Team B"}, "label"), ({"label": ""}, "label"), ({"provider": ""}, "provider"),
    ({"provider": "opnai"}, "provider"), ({"key": ""}, "key"), ({"key": "env:DATABASE_URL"}, "key"),
    ({"key": "two words"}, "key"), ({"base_url": "ftp://x"}, "base_url"), ({"base_url": "http://u:p@x/"}, "base_url"),
])  # fmt: skip
def test_what_is_wrong_stands_beside_its_field_and_the_key_is_not_repeated(
    boss: Client, changed: dict[str, str], field: str
) -> None:
    answer = boss.post(f"{LIST}add/", GIVEN | changed)
    assert field in answer.context["adminform"].form.errors
    assert KEY not in answer.content.decode()
    assert not Provider.objects.exists()


def test_an_empty_key_keeps_the_one_there_is_and_another_replaces_it(boss: Client, row: Provider) -> None:
    boss.post(page(row), {"base_url": "https://a.example/v1", "key": "", "enabled": "on"})
    row.refresh_from_db()
    assert (sealing.unseal(row.key_sealed), row.base_url) == (KEY, "https://a.example/v1")

    boss.post(page(row), {"base_url": "", "key": " env:TEAM_B_API_KEY ", "enabled": ""})
    row.refresh_from_db()
    assert (row.shown_key, row.base_url, row.enabled) == ("env:TEAM_B_API_KEY", "", False)


def test_a_label_that_is_taken_is_said_beside_it(boss: Client, row: Provider) -> None:
    answer = boss.post(f"{LIST}add/", GIVEN)
    assert "already exists" in text_of(answer)


def test_one_in_use_is_not_deleted_and_its_agents_are_named(boss: Client, row: Provider) -> None:
    versions.create("helper", {"model": "openai/gpt-4o-mini", "credential": "team-b"}, by="test")
    address = f"{LIST}{row.pk}/delete/"
    for answer in (boss.get(address, follow=True), boss.post(address, {"post": "yes"}, follow=True)):
        assert "is the credential of helper" in text_of(answer)
    boss.post(LIST, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert Provider.objects.exists()

    versions.change("helper", {"config": {"credential": None}}, by="test")
    boss.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})
    assert not Provider.objects.exists()


def test_the_button_says_what_came_of_the_test(boss: Client, row: Provider) -> None:
    answer = boss.post(f"{LIST}{row.pk}/try/", CONFIRMED | {"model": ""}, follow=True)
    assert "No worker is running" in text_of(answer)
    answer = boss.post(f"{LIST}{row.pk}/try/", CONFIRMED | {"model": "gemini/gemini-2.5-pro"}, follow=True)
    assert "holds a key of openai" in text_of(answer)
    test = {"at": "2026-01-01T00:00:00Z", "ok": True, "latency_ms": 41.5, "error": "", "model": "m"}
    Provider.objects.update(last_test=test)
    assert "m answered in 42 ms" in text_of(boss.get(page(row)))


@pytest.mark.parametrize("group", ["", "Viewers", "Operators"])
def test_people_without_the_permission_come_nowhere_near(row: Provider, group: str) -> None:
    somebody = person("somebody", group=group)
    for address in (LIST, page(row), f"{LIST}{row.pk}/try/", f"{LIST}add/"):
        assert somebody.get(address).status_code == 403
    assert somebody.post(f"{LIST}{row.pk}/try/", CONFIRMED).status_code == 403


def test_whoever_may_only_look_sees_the_last_four_and_no_field_for_a_key(row: Provider) -> None:
    looker = person("looker")
    User.objects.get(username="looker").user_permissions.add(Permission.objects.get(codename="view_provider"))

    shown = looker.get(page(row))

    assert "…6789" in text_of(shown)
    assert 'name="key"' not in shown.content.decode()
    assert looker.post(page(row), {"base_url": "", "key": "x", "enabled": "on"}).status_code == 403
    assert looker.post(f"{LIST}{row.pk}/try/", CONFIRMED).status_code == 403


def test_the_list_is_cheap(boss: Client, row: Provider) -> None:
    assert_cheap(queries_of(boss, LIST))


# The agent's form.


def agent_page(config: dict[str, Any]) -> str:
    return f"/admin/agents/agent/{versions.create('helper', config, by='test').pk}/change/"


def test_an_agents_form_offers_the_rows_and_checks_the_provider(boss: Client, row: Provider) -> None:
    address = agent_page({"model": "openai/gpt-4o-mini"})
    assert "team-b (openai)" in text_of(boss.get(address))
    given = {"model": "openai/gpt-4o-mini", "based_on": "1", "credential": "team-b"}

    wrong = boss.post(address, given | {"model": "scripted/echo"})
    assert "holds a key of openai" in wrong.context["adminform"].form.errors["credential"][0]
    unknown = boss.post(address, given | {"credential": "nobody"})
    assert "credential" in unknown.context["adminform"].form.errors

    assert "Published version 2" in text_of(boss.post(address, given, follow=True))


def test_a_model_that_is_not_known_is_saved_with_a_word_beside_the_field_and_after_the_save(boss: Client) -> None:
    address = agent_page({"model": "openai/gpt-4o-mini"})

    saved = text_of(boss.post(address, {"model": "openai/gpt-4o-mni", "based_on": "1"}, follow=True))

    assert "Published version 2" in saved
    assert saved.count("near it are openai/gpt-4o-mini") == 2
    assert "near it are openai/gpt-4o-mini" in text_of(boss.get(address))


def test_a_disabled_credential_is_spoken_of(boss: Client, row: Provider) -> None:
    address = agent_page({"model": "openai/gpt-4o-mini", "credential": "team-b"})
    provider_rows.change("team-b", {"enabled": False})
    assert "Credential 'team-b' is disabled" in text_of(boss.get(address))
