"""Provider rows over REST: keys go in and never come out, and a worker makes the test."""
from __future__ import annotations

from typing import Any

import pytest
from auditlog.models import LogEntry
from django.utils import timezone
from django_celery_results.models import TaskResult

from agents import versions
from agents.models import AgentVersion
from llm import sealing
from llm.models import Provider
from llm.tests.openai_server import OpenAIServer, error, hang, text
from opspawn_site.celery import app
from tasks.models import Worker as WorkerRow
from tasks.tests.clients import Consumer, pointers
from tasks.tests.workers import Worker

KEY = "canary-of-rest-0123456789"
NEW = {"label": "team-b", "provider": "openai", "key": KEY}
FIELDS = {
    "label", "provider", "base_url", "key", "key_changed_at", "enabled", "last_test", "created_at", "updated_at",
}  # fmt: skip
ROW = "/providers/team-b/"


@pytest.fixture
def api(db: None) -> Consumer:
    return Consumer("admin")


@pytest.fixture
def row(api: Consumer) -> Provider:
    assert api.post("/providers/", NEW).status_code == 201
    return Provider.objects.get()


def test_a_key_is_kept_sealed_and_answered_by_its_last_four(api: Consumer) -> None:
    made = api.post("/providers/", NEW)

    assert (made.status_code, made["Location"]) == (201, f"/api/v1{ROW}")
    assert set(made.json()) == FIELDS
    assert (made.json()["key"], made.json()["base_url"], made.json()["last_test"]) == ("…6789", None, None)
    row = Provider.objects.get()
    assert sealing.unseal(row.key_sealed) == KEY
    for answer in (made, api.get(ROW), api.get("/providers/"), api.patch(ROW, {"enabled": False})):
        assert KEY not in answer.content.decode()
        assert row.key_sealed not in answer.content.decode()


def test_a_reference_is_answered_as_it_was_given(api: Consumer) -> None:
    made = api.post("/providers/", NEW | {"key": "env:TEAM_B_API_KEY"}).json()
    assert made["key"] == "env:TEAM_B_API_KEY"
    assert Provider.objects.get().key_sealed == ""


def test_google_is_gemini(api: Consumer) -> None:
    assert api.post("/providers/", NEW | {"provider": "google"}).json()["provider"] == "gemini"


@pytest.mark.parametrize(("body", "expected"), [
    ({}, {"/label": "required", "/provider": "required"}),
    (NEW | {"label": "Team B"}, {"/label": "invalid"}),
    (NEW | {"label": 7}, {"/label": "wrong_type"}),
    (NEW | {"label": "x" * 65}, {"/label": "max_length"}),
    (NEW | {"provider": "opnai"}, {"/provider": "unknown_provider"}),
    (NEW | {"key": 7}, {"/key": "wrong_type"}),
    (NEW | {"key": ""}, {"/key": "blank"}),
    (NEW | {"key": None}, {"/key": "required"}),
    ({"label": "x", "provider": "anthropic"}, {"/key": "required"}),
    (NEW | {"key": "two words"}, {"/key": "invalid"}),
    (NEW | {"key": "…6789"}, {"/key": "invalid"}),
    (NEW | {"key": "env:DATABASE_URL"}, {"/key": "invalid"}),
    (NEW | {"key": "env:SECRET_KEY"}, {"/key": "invalid"}),
    (NEW | {"key": "x" * 5000}, {"/key": "invalid"}),
    (NEW | {"key": "a\0b"}, {"/key": "not_storable"}),
    (NEW | {"base_url": "ftp://x/"}, {"/base_url": "wrong_type"}),
    (NEW | {"base_url": "http://user:pw@x/"}, {"/base_url": "secret"}),
    (NEW | {"base_url": "http://x/?key=1"}, {"/base_url": "invalid"}),
    (NEW | {"base_url": "http://x/" + "y" * 2000}, {"/base_url": "too_long"}),
    (NEW | {"enabled": "yes"}, {"/enabled": "wrong_type"}),
    (NEW | {"secret": "x", "label": "Ü"}, {"/secret": "unknown_field"}),
    ([], {"": "wrong_type"}),
])  # fmt: skip
def test_what_is_wrong_is_named_by_its_pointer(api: Consumer, body: Any, expected: dict[str, str]) -> None:
    answer = api.post("/providers/", body)
    assert answer.status_code == 400
    assert pointers(answer) == expected
    assert not Provider.objects.exists()
    assert KEY not in answer.content.decode()


def test_a_label_that_exists_is_a_409(api: Consumer, row: Provider) -> None:
    again = api.post("/providers/", NEW)
    assert (again.status_code, again.json()["code"]) == (409, "label_taken")


def test_a_server_without_a_key_needs_none(api: Consumer) -> None:
    made = api.post("/providers/", {"label": "own", "provider": "hosted_vllm", "base_url": "http://127.0.0.1:1/v1"})
    assert (made.status_code, made.json()["key"]) == (201, None)


def test_a_patch_replaces_the_key_and_leaves_what_it_does_not_name(api: Consumer, row: Provider) -> None:
    api.patch(ROW, {"base_url": "https://models.example/v1"})
    changed = api.patch(ROW, {"key": "another-key-0123456789-abcd"}).json()

    assert (changed["key"], changed["base_url"], changed["enabled"]) == ("…abcd", "https://models.example/v1", True)
    row.refresh_from_db()
    assert sealing.unseal(row.key_sealed) == "another-key-0123456789-abcd"
    assert api.patch(ROW, {"base_url": None}).json()["base_url"] is None
    assert api.patch(ROW, {"key": None}).status_code == 400
    assert api.patch(ROW, {"key": "env:OPENAI_API_KEY"}).json()["key"] == "env:OPENAI_API_KEY"


@pytest.mark.parametrize("body", [{"label": "x"}, {"provider": "gemini"}, {"key_sealed": "x"}, {"last_test": {}}])
def test_what_stays_cannot_be_patched(api: Consumer, row: Provider, body: dict[str, Any]) -> None:
    assert pointers(api.patch(ROW, body)) == {f"/{next(iter(body))}": "unknown_field"}


@pytest.mark.parametrize("path", ["/providers/nobody/", "/providers/%00/", "/providers/" + "x" * 300 + "/"])
def test_what_is_not_there_is_a_404(api: Consumer, row: Provider, path: str) -> None:
    assert api.get(path).status_code == 404
    assert api.patch(path, {"enabled": True}).status_code == 404
    assert api.http.delete(f"/api/v1{path}", **api.auth).status_code == 404
    assert api.post(f"{path}test/", {}).status_code == 404


@pytest.mark.parametrize("scopes", [("tasks:write", "tasks:read", "agents:read"), ("agents:write",)])
def test_only_an_admin_comes_near_them(row: Provider, scopes: tuple[str, ...]) -> None:
    other = Consumer(*scopes)
    answers = [other.get("/providers/"), other.post("/providers/", NEW), other.get(ROW), other.patch(ROW, {}),
               other.http.delete(f"/api/v1{ROW}", **other.auth), other.post(f"{ROW}test/", {})]  # fmt: skip
    assert {answer.status_code for answer in answers} == {403}


def test_one_that_a_current_version_names_is_not_deleted(api: Consumer, row: Provider) -> None:
    versions.create("helper", {"model": "openai/gpt-4o-mini", "credential": "team-b"}, by="test")
    versions.create("bystander", {"model": "openai/gpt-4o-mini"}, by="test")

    refused = api.http.delete(f"/api/v1{ROW}", **api.auth)

    assert (refused.status_code, refused.json()["code"]) == (409, "provider_in_use")
    assert "helper" in refused.json()["detail"]
    assert "bystander" not in refused.json()["detail"]
    versions.change("helper", {"config": {"credential": None}}, by="test")
    assert api.http.delete(f"/api/v1{ROW}", **api.auth).status_code == 204
    assert api.get(ROW).status_code == 404
    # The version that named it cannot come back, and says why.
    back = api.post("/agents/helper/rollback/", {"version": 1})
    assert pointers(back) == {"/config/credential": "unknown_credential"}


def test_every_change_is_audited_without_the_key(api: Consumer, row: Provider) -> None:
    api.patch(ROW, {"key": "another-key-0123456789-abcd", "enabled": False})
    api.http.delete(f"/api/v1{ROW}", **api.auth)

    entries = LogEntry.objects.filter(content_type__model="provider").order_by("id")
    done = LogEntry.Action
    assert [entry.action for entry in entries] == [done.CREATE, done.UPDATE, done.DELETE]
    assert entries[1].changes["key_last"] == ["6789", "abcd"]
    assert set(entries[1].changes) == {"key_last", "key_changed_at", "enabled"}
    assert entries[1].additional_data["api_key"] == "test"
    kept = str(list(entries.values()))
    assert KEY not in kept
    assert row.key_sealed not in kept
    assert "another-key" not in kept


# What agents make of it.


@pytest.mark.parametrize(("config", "code"), [
    ({"model": "openai/gpt-4o-mini", "credential": "nobody"}, "unknown_credential"),
    ({"model": "anthropic/claude-sonnet-4-6", "credential": "team-b"}, "wrong_provider"),
    ({"credential": "team-b"}, "wrong_provider"),
    ({"model": "openai/gpt-4o-mini", "credential": 7}, "wrong_type"),
    ({"model": "openai/gpt-4o-mini", "credential": ""}, "blank"),
])  # fmt: skip
def test_an_agent_names_a_row_of_its_models_provider(
    api: Consumer, row: Provider, config: dict[str, Any], code: str
) -> None:
    made = api.post("/agents/", {"slug": "helper", "config": config})
    assert pointers(made) == {"/config/credential": code}
    if code == "unknown_credential":
        assert "team-b" in made.json()["detail"]
    assert not AgentVersion.objects.exists()


def test_a_key_of_less_than_admin_chooses_a_row_but_not_which_key_travels_to_an_address(
    api: Consumer, row: Provider
) -> None:
    author = Consumer("agents:write", "agents:read")
    config = {"model": "openai/gpt-4o-mini", "credential": "team-b"}
    assert author.post("/agents/", {"slug": "helper", "config": config}).status_code == 201
    assert api.patch("/agents/helper/", {"config": {"api_base": "https://a.example/v1"}}).status_code == 200

    for patch, pointer in (({"credential": None}, "/config/credential"), ({"model": "scripted/echo"}, "/config/model")):
        refused = author.patch("/agents/helper/", {"config": patch | {"credential": None}})
        assert refused.status_code == 403
        assert pointer in pointers(refused)
    assert author.patch("/agents/helper/", {"config": {"model": "openai/gpt-4.1-mini"}}).status_code == 200
    dropped = author.patch("/agents/helper/", {"config": {"api_base": None, "credential": None}})
    assert dropped.status_code == 200


def test_a_model_that_is_not_known_is_saved_with_a_warning(api: Consumer) -> None:
    made = api.post("/agents/", {"slug": "typo", "config": {"model": "openai/gpt-4o-mni"}})
    assert made.status_code == 201
    assert made["Warning"].startswith('299 - "Model ')
    assert "openai/gpt-4o-mini" in made["Warning"]
    assert "Warning" not in api.get("/agents/typo/")
    assert "Warning" not in api.patch("/agents/typo/", {"config": {"model": "openai/gpt-4o-mini"}})
    odd = api.post("/agents/", {"slug": "odd", "config": {"model": 'openai/"é\\\r\nSet-Cookie: x'}})
    assert odd.status_code == 201
    assert odd["Warning"].isascii()
    assert "Set-Cookie" not in odd


# The test that a worker makes.


def test_without_a_worker_the_test_says_so_with_the_cure(api: Consumer, row: Provider) -> None:
    answer = api.post(f"{ROW}test/", {})
    assert answer.status_code == 200
    assert answer.json() | {"error": ""} == {
        "ok": False, "latency_ms": None, "error": "", "model": "openai/gpt-4.1-mini", "at": None,
    }  # fmt: skip
    assert "./opspawn up" in answer.json()["error"]


def test_without_redis_the_test_says_so(api: Consumer, row: Provider, settings: Any) -> None:
    settings.CELERY_APPLICATION = "tasks.tests.dead_broker.app"
    now = timezone.now()
    WorkerRow.objects.create(
        name="worker-1@host", host="host", pid=1, version="x", queues=["default"], slots=1, started_at=now,
        heartbeat_at=now,
    )  # fmt: skip

    answer = api.post(f"{ROW}test/", {})

    assert (answer.status_code, answer.json()["ok"]) == (200, False)
    assert "Redis does not answer" in answer.json()["error"]


@pytest.mark.parametrize(("body", "expected"), [
    ({"model": "anthropic/claude-sonnet-4-6"}, {"/model": "wrong_provider"}), ({"model": 7}, {"/model": "wrong_type"}),
    ({"model": "x" * 300}, {"/model": "max_length"}), ({"models": "x"}, {"/models": "unknown_field"}),
])  # fmt: skip
def test_a_test_of_what_the_row_cannot_call_is_a_400(
    api: Consumer, row: Provider, body: Any, expected: dict[str, str]
) -> None:
    assert pointers(api.post(f"{ROW}test/", body)) == expected


def test_a_provider_without_a_default_model_wants_one_named(api: Consumer) -> None:
    api.post("/providers/", {"label": "own", "provider": "hosted_vllm", "base_url": "http://127.0.0.1:1/v1"})
    assert pointers(api.post("/providers/own/test/", {})) == {"/model": "required"}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_worker_makes_the_smallest_call_and_the_row_keeps_what_came_of_it(worker: Worker) -> None:
    api = Consumer("admin")
    with OpenAIServer([text("pong"), error(401, f"Incorrect API key: {KEY}"), hang()]) as server:
        assert WorkerRow.objects.exists()
        api.post("/providers/", NEW | {"base_url": server.base_url})

        good = api.post(f"{ROW}test/", {"model": "gpt-4o-mini"}).json()
        assert (good["ok"], good["error"], good["model"]) == (True, None, "openai/gpt-4o-mini")
        assert good["latency_ms"] > 0
        (request,) = server.requests
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body["max_tokens"] == 16

        refused = api.post(f"{ROW}test/", {}).json()
        assert (refused["ok"], refused["model"]) == (False, "openai/gpt-4.1-mini")
        assert "refused the key" in refused["error"]
        assert len(server.requests) == 2

    assert api.get(ROW).json()["last_test"] == refused
    closed = api.post(f"{ROW}test/", {}).json()  # the port is closed by now
    assert not closed["ok"]
    assert "could not be reached" in closed["error"]
    assert KEY not in str(list(TaskResult.objects.values()) + list(Provider.objects.values()))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_worker_says_which_variables_of_rows_it_does_not_have(worker: Worker) -> None:
    api = Consumer("admin")
    api.post("/providers/", NEW | {"key": "env:NOBODY_SETS_THIS_API_KEY"})
    api.post("/providers/", NEW | {"label": "off", "key": "env:NOR_THIS_API_KEY", "enabled": False})

    answer = app.send_task("tasks.fleet_check", queue="default").get(timeout=15)

    assert answer["variables_missing"] == ["NOBODY_SETS_THIS_API_KEY"]
