"""Every way to ask wrongly, and the problem document that answers it."""
from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils import timezone

from agents.tests.factories import AgentFactory
from opspawn_site import urls
from tasks import keys
from tasks.models import ApiKey, Task
from tasks.tests.clients import Consumer, pointers

FIELDS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable", "errors"}


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the secret recipe")


class WithBrokenView:
    urlpatterns = [path("api/broken/", broken), path("broken/", broken), *urls.urlpatterns]
    handler500 = staticmethod(urls.handler500)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == FIELDS
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response["X-Request-ID"]
    return problem


# Who asks.


@pytest.mark.django_db
def test_without_a_key_every_door_is_a_401_that_says_how() -> None:
    for method, where in (("GET", "/tasks/"), ("POST", "/tasks/"), ("GET", "/agents/"), ("PATCH", "/agents/x/")):
        response = Client().generic(method, f"/api/v1{where}")
        assert_problem(response, 401, "not_authenticated")
        assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.django_db
def test_an_unknown_a_revoked_and_an_expired_key_are_told_apart_and_refused() -> None:
    now = timezone.now()
    gone, gone_token = keys.issue("gone")
    ApiKey.objects.filter(id=gone.id).update(revoked_at=now)
    _, late_token = keys.issue("late", expires_at=now - timedelta(seconds=1))
    details = set()
    unknown = gone_token[:-1] + "~"
    for header in (f"Bearer {gone_token}", f"Bearer {late_token}", f"Bearer {unknown}", "Basic eDp5", "Bearer", "x"):
        response = Client().get("/api/v1/tasks/", HTTP_AUTHORIZATION=header)
        problem = assert_problem(response, 401, "authentication_failed")
        assert response["WWW-Authenticate"] == "Bearer"
        assert gone_token not in response.content.decode()
        details.add(problem["detail"])
    assert len(details) == 4


@pytest.mark.django_db
def test_the_scheme_is_read_in_any_case() -> None:
    token = Consumer().token
    assert Client().get("/api/v1/tasks/", HTTP_AUTHORIZATION=f"bearer {token}").status_code == 200


@pytest.mark.django_db
def test_a_missing_scope_is_named() -> None:
    problem = assert_problem(Consumer("tasks:read").post("/tasks/", {}), 403, "permission_denied")
    assert "tasks:write" in problem["detail"]


# What is asked.


@pytest.mark.parametrize("where", [
    "/api/v1/nothing/", "/api/v1/tasks", "/api/", "/api/v2/tasks/", "/api/v1/tasks/x/y/",
])  # fmt: skip
def test_an_address_that_does_not_exist_is_a_problem_too(where: str) -> None:
    problem = assert_problem(Client().get(where), 404, "not_found")
    assert problem["instance"] == where


@pytest.mark.parametrize(("where", "status"), [
    ("/api/v1/tasks", 404), ("/api/v1/tasks/x/resume/", 404), ("/api/v1/mcp-servers/", 404), ("/api/", 404),
    ("/healthz", 405), ("/readyz", 405), ("/metrics", 405), ("/api/schema/", 405),
])  # fmt: skip
def test_whoever_writes_where_nothing_is_written_is_told_so_and_not_asked_for_a_cookie(
    where: str, status: int
) -> None:
    # A test client passes over the check of cookies unless it is told to make it, as a server does.
    response = Client(enforce_csrf_checks=True).post(where, b"{}", "application/json")
    assert_problem(response, status, "not_found" if status == 404 else "method_not_allowed")


def test_an_address_outside_of_the_api_is_a_page() -> None:
    assert Client().get("/nothing").headers["Content-Type"].startswith("text/html")


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "where", "allow"), [
    ("DELETE", "/tasks/", "GET, POST, HEAD"), ("PUT", "/tasks/", "GET, POST, HEAD"),
    ("OPTIONS", "/tasks/", "GET, POST, HEAD"), ("POST", "/agents/x/", "GET, HEAD, PATCH"),
    ("GET", "/tasks/task_00000000000000000000000000000000/cancel/", "POST"),
])  # fmt: skip
def test_a_method_that_does_not_exist_is_a_405_with_those_that_do(method: str, where: str, allow: str) -> None:
    response = Consumer("admin").raw(method, where, b"")
    assert_problem(response, 405, "method_not_allowed")
    assert sorted(response["Allow"].split(", ")) == sorted(allow.split(", "))


@pytest.mark.parametrize("where", ["/healthz", "/readyz", "/metrics", "/api/schema/", "/api/docs/"])
def test_the_public_addresses_can_only_be_read(where: str) -> None:
    response = Client().post(where)
    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.django_db
@pytest.mark.parametrize("content_type", [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "",
    "application/merge-patch+json", "application/json; charset=latin-1", "application/jsonx",
])  # fmt: skip
def test_a_body_that_is_not_json_is_a_415(content_type: str) -> None:
    response = Consumer().raw("POST", "/tasks/", b'{"input_data": {"prompt": "x"}}', content_type)
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.django_db
@pytest.mark.parametrize("content_type", [
    "application/json;charset=UTF-8", "Application/JSON", 'application/json; charset="utf-8"',
])  # fmt: skip
def test_json_may_name_its_charset(content_type: str) -> None:
    response = Consumer().raw("POST", "/tasks/", b"{}", content_type)
    assert pointers(response) == {"/input_data": "required"}


@pytest.mark.django_db
@pytest.mark.parametrize("accept", [
    "text/html", "application/xml", "*/*", "application/json;q=0", "nonsense", "", "text/event-stream",
])  # fmt: skip
def test_whatever_is_accepted_json_is_answered(accept: str) -> None:
    response = Consumer().get("/tasks/", HTTP_ACCEPT=accept)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


@pytest.mark.django_db
@pytest.mark.parametrize(("body", "pointer", "code"), [
    (b"", "/input_data", "required"),
    (b"[]", "", "wrong_type"),
    (b"null", "", "wrong_type"),
    (b'"text"', "", "wrong_type"),
    (b'{"input_data": {"prompt": "a\\u0000b"}}', "/input_data/prompt", "not_storable"),
    (b'{"input_data": {"prompt": "\\ud800"}}', "/input_data/prompt", "not_storable"),
    (b'{"input_data": {"prompt": "x", "list": ["\\udfff"]}}', "/input_data/list/0", "not_storable"),
    (b'{"metadata": {"a\\u0000": "x"}}', "/metadata/a\ufffd", "not_storable"),
    (b'{"name": "a", "name": "b"}', "/name", "repeated"),
    (b'{"input_data": {"deep": [{"x": 1, "x": 1}]}}', "/input_data/deep/0/x", "repeated"),
])  # fmt: skip
def test_a_body_that_cannot_be_kept_is_a_400_with_the_place(body: bytes, pointer: str, code: str) -> None:
    response = Consumer().raw("POST", "/tasks/", body)
    assert_problem(response, 400, code)
    assert pointers(response) == {pointer: code}
    assert not Task.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("body", [
    b"{", b"{'a': 1}", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": "\xff"}', b"\xef\xbb\xbf{}", b"{} {}", b'{"a": "\x00"}', b"\x00",
    b'{"a": "' + "é".encode("latin-1") + b'"}',
])  # fmt: skip
def test_what_is_no_json_is_a_400(body: bytes) -> None:
    assert_problem(Consumer().raw("POST", "/tasks/", body), 400, "parse_error")


@pytest.mark.django_db
@pytest.mark.parametrize("levels", [101, 990, 5_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_without_end_is_a_400(levels: int, opening: bytes, closing: bytes) -> None:
    body = b'{"input_data": {"prompt": "x", "deep": ' + opening * levels + b"1" + closing * levels + b"}}"
    response = Consumer().raw("POST", "/tasks/", body)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_a_surrogate_pair_is_a_character_and_large_integers_survive() -> None:
    AgentFactory()
    Consumer("admin").post("/agents/", {"slug": "echo", "config": {"model": "scripted/echo"}})
    api = Consumer()
    body = b'{"agent": "echo", "input_data": {"prompt": "\\ud83d\\ude00", "n": 123456789012345678901234567890}}'
    task = api.raw("POST", "/tasks/", body).json()
    stored = api.get(f"/tasks/{task['task_id']}/").json()["input_data"]
    assert stored == task["input_data"] == {"prompt": "😀", "n": 123456789012345678901234567890}


# How it is answered.


@pytest.mark.parametrize(("given", "kept"), [
    ("abc-1._X", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False), ("ä", False), ("a\n", False),
])  # fmt: skip
def test_a_request_keeps_the_id_that_the_client_gave_it_if_it_can_be_one(given: str, kept: bool) -> None:
    response = Client().get("/api/nothing", HTTP_X_REQUEST_ID=given)
    assert (response["X-Request-ID"] == given) is kept
    assert_problem(response, 404, "not_found")


def test_a_defect_is_a_500_without_its_text_and_logged_under_the_id(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROOT_URLCONF = WithBrokenView
    client = Client(raise_request_exception=False)

    with caplog.at_level(logging.ERROR):
        response = client.get("/api/broken/")
    page = client.get("/broken/")

    assert_problem(response, 500, "internal_error")
    assert b"recipe" not in response.content + page.content
    assert (page.status_code, page["Content-Type"].split(";")[0]) == (500, "text/html")
    assert "recipe" in caplog.text


def test_a_host_that_is_not_ours_is_a_400() -> None:
    assert_problem(Client().get("/api/v1/nothing/", HTTP_HOST="evil.example"), 400, "invalid")


@pytest.mark.django_db
def test_every_problem_of_a_body_is_named_at_once() -> None:
    problem = json.loads(Consumer().raw("POST", "/tasks/", b'{"a":1,"b":2}').content)
    assert problem["code"] == "invalid"
    assert {one["pointer"] for one in problem["errors"]} == {"/a", "/b", "/input_data"}
