"""Agents over REST, as a consumer with its key sees them."""
from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import Agent, AgentVersion
from tasks.tests.clients import Consumer, pointers

pytestmark = pytest.mark.django_db

CONFIG = {"model": "scripted/echo", "instructions": "Say it again.", "limits": {"max_steps": 5}}
AGENT_FIELDS = {"slug", "description", "version", "config", "archived", "created_at", "updated_at"}
VERSION_FIELDS = {"version", "config", "note", "rollback_of", "created_at", "created_by"}


@pytest.fixture
def api() -> Consumer:
    return Consumer("agents:write")


@pytest.fixture
def parrot(api: Consumer) -> str:
    created = api.post("/agents/", {"slug": "parrot", "description": "Repeats.", "config": CONFIG, "note": "first"})
    assert created.status_code == 201, created.content
    return "/agents/parrot/"


def test_a_created_agent_is_answered_whole_with_its_location_and_tag(api: Consumer) -> None:
    response = api.post("/agents/", {"slug": "parrot", "description": "Repeats.", "config": CONFIG})

    assert response.status_code == 201, response.content
    assert response["Location"] == "/api/v1/agents/parrot/"
    assert response["ETag"] == '"1"'
    agent = response.json()
    assert set(agent) == AGENT_FIELDS
    assert (agent["slug"], agent["version"], agent["config"], agent["archived"]) == ("parrot", 1, CONFIG, False)
    assert api.get("/agents/parrot/").json() == agent


@pytest.mark.parametrize(("body", "expected"), [
    ({}, {"/slug": "required"}),
    ({"slug": "Parrot!"}, {"/slug": "invalid"}),
    ({"slug": 5}, {"/slug": "wrong_type"}),
    ({"slug": "a", "archived": True}, {"/archived": "unknown_field"}),
    ({"slug": "a", "config": []}, {"/config": "wrong_type"}),
    ({"slug": "a", "config": {"budget": 1}}, {"/config/budget": "unknown_field"}),
    ({"slug": "a", "config": {"temperature": "hot"}}, {"/config/temperature": "wrong_type"}),
    ({"slug": "a", "config": {"tools": ["calculator", "teleport"]}}, {"/config/tools/1": "unknown_tool"}),
    ({"slug": "a", "config": {"limits": {"max_steps": 0}}}, {"/config/limits/max_steps": "out_of_range"}),
    ({"slug": "a", "description": None}, {"/description": "null"}),
])  # fmt: skip
def test_what_is_wrong_in_an_agent_is_named_by_its_pointer(
    api: Consumer, body: dict[str, Any], expected: dict[str, str]
) -> None:
    response = api.post("/agents/", body)
    assert response.status_code == 400
    assert pointers(response) == expected
    assert not Agent.objects.exists()


def test_a_slug_that_exists_is_a_409(api: Consumer, parrot: str) -> None:
    response = api.post("/agents/", {"slug": "parrot"})
    assert (response.status_code, response.json()["code"]) == (409, "slug_taken")


def test_a_patch_merges_and_publishes_and_a_change_of_nothing_does_not(api: Consumer, parrot: str) -> None:
    changed = api.patch(parrot, {"config": {"limits": {"max_tokens": 9}, "instructions": None}, "note": "tighter"})
    same = api.patch(parrot, {"config": {"limits": {"max_tokens": 9}}, "note": "again"})

    assert changed.status_code == same.status_code == 200
    assert changed.json()["config"] == {"model": "scripted/echo", "limits": {"max_steps": 5, "max_tokens": 9}}
    assert (changed.json()["version"], changed["ETag"]) == (2, '"2"')
    assert same.json() == changed.json()
    newest, oldest = api.get(f"{parrot}versions/").json()["data"]
    assert set(newest) == VERSION_FIELDS
    assert (newest["version"], newest["note"], newest["created_by"]) == (2, "tighter", str(api.key))
    assert (oldest["version"], oldest["note"], oldest["config"]) == (1, "first", CONFIG)


def test_a_patch_may_come_as_merge_patch_json(api: Consumer, parrot: str) -> None:
    response = api.raw("PATCH", parrot, '{"description": "Hm."}', content_type="application/merge-patch+json")
    assert (response.status_code, response.json()["description"]) == (200, "Hm.")


@pytest.mark.parametrize(("body", "pointer"), [
    ({"archived": "yes"}, "/archived"), ({"archived": 1}, "/archived"), ({"config": None}, "/config"),
    ({"slug": "other"}, "/slug"), ({"config": {"surprise": 1}}, "/config/surprise"), ({"note": 1}, "/note"),
])  # fmt: skip
def test_a_wrong_patch_changes_nothing(api: Consumer, parrot: str, body: dict[str, Any], pointer: str) -> None:
    response = api.patch(parrot, body)
    assert response.status_code == 400
    assert list(pointers(response)) == [pointer]
    assert api.get(parrot).json()["version"] == 1


@pytest.mark.parametrize(("tag", "status"), [
    ('"1"', 200), ("*", 200), ('"7", "1"', 200), ('"7","1" , "8"', 200), ('W/"9", "1"', 200),
    ('"2"', 412), ('W/"1"', 412), ('"01"', 412), ('"7", "8"', 412), ('"a,b"', 412),
    ("1", 400), ('"1', 400), ("", 400), ('"1" "2"', 400), ('*, "1"', 400),
])  # fmt: skip
def test_if_match_lets_only_the_current_version_be_changed(api: Consumer, parrot: str, tag: str, status: int) -> None:
    changed = api.patch(parrot, {"description": "New."}, HTTP_IF_MATCH=tag)
    assert changed.status_code == status, changed.content
    assert (api.get(parrot).json()["description"] == "New.") == (status == 200)
    if status == 412:
        assert changed.json()["code"] == "stale_version"


def test_rollback_publishes_an_old_configuration_as_a_new_version(api: Consumer, parrot: str) -> None:
    api.patch(parrot, {"config": {"instructions": "Be silent."}})

    response = api.post(f"{parrot}rollback/", {"version": 1, "note": "back"}, HTTP_IF_MATCH='"2"')

    assert response.status_code == 201
    assert (response.json()["version"], response.json()["config"], response["ETag"]) == (3, CONFIG, '"3"')
    newest = api.get(f"{parrot}versions/3/").json()
    assert (newest["rollback_of"], newest["note"]) == (1, "back")
    assert api.post(f"{parrot}rollback/", {"version": 1}, HTTP_IF_MATCH='"2"').status_code == 412


@pytest.mark.parametrize(("body", "expected"), [
    ({"version": 2}, {"/version": "unknown_version"}), ({"version": "1"}, {"/version": "wrong_type"}),
    ({"version": 0}, {"/version": "min_value"}), ({"version": 2**40}, {"/version": "max_value"}),
    ({}, {"/version": "required"}),
])  # fmt: skip
def test_a_rollback_to_nothing_is_a_400(
    api: Consumer, parrot: str, body: dict[str, Any], expected: dict[str, str]
) -> None:
    response = api.post(f"{parrot}rollback/", body)
    assert response.status_code == 400
    assert pointers(response) == expected


@pytest.mark.parametrize("path", [
    "/agents/nobody/", "/agents/nobody/versions/", "/agents/nobody/versions/1/", "/agents/parrot/versions/2/",
    "/agents/parrot/versions/0/", "/agents/parrot/versions/99999999999999999999/", "/agents/parrot/versions/x/",
    "/agents/%00/", "/agents/" + "a" * 300 + "/",
])  # fmt: skip
def test_what_is_not_there_is_a_404(api: Consumer, parrot: str, path: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_unknown_agents_cannot_be_changed(api: Consumer) -> None:
    assert api.patch("/agents/nobody/", {"description": ""}).status_code == 404
    assert api.post("/agents/nobody/rollback/", {"version": 1}).status_code == 404


def test_addresses_need_admin(api: Consumer, parrot: str) -> None:
    address = {"api_base": "https://models.example/v1"}
    admin = Consumer("admin")

    created = api.post("/agents/", {"slug": "spy", "config": address})
    changed = api.patch(parrot, {"config": address})

    assert (created.status_code, changed.status_code) == (403, 403)
    assert pointers(created) == pointers(changed) == {"/config/api_base": "permission_denied"}
    assert AgentVersion.objects.count() == 1
    assert admin.patch(parrot, {"config": address}).status_code == 200
    # What an admin has set may stay and be taken away, but not come back by a rollback.
    assert api.patch(parrot, {"config": address, "description": "Hm."}).status_code == 200
    assert api.patch(parrot, {"config": {"api_base": None}}).status_code == 200
    back = api.post(f"{parrot}rollback/", {"version": 2})
    assert (back.status_code, pointers(back)) == (403, {"/version": "permission_denied"})
    assert admin.post(f"{parrot}rollback/", {"version": 2}).status_code == 201


def test_reading_and_writing_want_their_scopes(parrot: str) -> None:
    reader, stranger = Consumer("agents:read"), Consumer("tasks:read")

    assert reader.get(parrot).status_code == 200
    refused = reader.patch(parrot, {"description": ""})
    assert refused.status_code == 403
    assert "agents:write" in refused.json()["detail"]
    assert "agents:read" in stranger.get(parrot).json()["detail"]


def test_the_list_is_paged_newest_first_in_few_queries(api: Consumer) -> None:
    for n in range(30):
        api.post("/agents/", {"slug": f"agent-{n}"})

    with CaptureQueriesContext(connection) as captured:
        page = api.get("/agents/?limit=20").json()

    assert len(captured) <= 6
    assert [agent["slug"] for agent in page["data"]] == [f"agent-{n}" for n in range(29, 9, -1)]
    rest = api.get(f"/agents/?cursor={page['next_cursor']}").json()
    assert [agent["slug"] for agent in rest["data"]] == [f"agent-{n}" for n in range(9, -1, -1)]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)
