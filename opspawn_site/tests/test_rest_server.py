"""The web process on a real port: waits, large bodies, and a database that goes away."""
from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from opspawn_site.tests.servers import Cable, served_by_process, serving
from tasks.models import ApiKey, Task
from tasks.tests.clients import Consumer
from tasks.tests.factories import TaskFactory
from tasks.watch import WATCH

LIMIT = 4 * 1024 * 1024


@pytest.fixture
def site(transactional_db: None) -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def api(site: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {Consumer('admin').token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=f"{site}/api/v1", headers=headers, timeout=30) as client:
        yield client


def database_url(port: int | str = "") -> str:
    """Of the tests' own database, for a process; by way of another port."""
    of = settings.DATABASES["default"]
    return f"postgresql://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{port or of['PORT']}/{of['NAME']}"


def complete(task: Task) -> None:
    now = timezone.now()
    Task.objects.filter(id=task.id).update(
        status="completed", result={"agent_outcome": "done"}, started_at=now, completed_at=now
    )


def until(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


# Waiting.


def test_a_wait_ends_with_the_task(api: httpx.Client) -> None:
    task = TaskFactory()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.get, f"/tasks/{task.id}/?wait=20")
        until(lambda: WATCH._waiting)
        assert not answer.done()
        complete(task)
        response = answer.result(5)

    assert (response.status_code, response.json()["status"]) == (200, "completed")
    until(lambda: not WATCH._waiting)


def test_a_wait_for_a_final_task_or_with_no_time_answers_at_once(api: httpx.Client) -> None:
    task = TaskFactory()
    started = time.monotonic()
    assert api.get(f"/tasks/{task.id}/?wait=0").json()["status"] == "pending"
    complete(task)
    assert api.get(f"/tasks/{task.id}/?wait=20").json()["status"] == "completed"
    assert time.monotonic() - started < 5


def test_a_wait_that_runs_out_answers_the_task_as_it_is(api: httpx.Client) -> None:
    task = TaskFactory()
    started = time.monotonic()
    response = api.get(f"/tasks/{task.id}/?wait=0.7")
    assert (response.status_code, response.json()["status"]) == (200, "pending")
    assert 0.7 <= time.monotonic() - started < 5


def test_many_waits_hold_neither_threads_nor_connections(api: httpx.Client, site: str) -> None:
    task = TaskFactory()
    token = api.headers["Authorization"]
    threads = threading.active_count()
    request = f"GET /api/v1/tasks/{task.id}/?wait=30 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n"
    waiting = [socket.create_connection(("127.0.0.1", int(site.rsplit(":", 1)[1]))) for _ in range(100)]
    try:
        for one in waiting:
            one.sendall(f"{request}Connection: close\r\n\r\n".encode())
        until(lambda: len(WATCH._waiting.get(task.id, ())) == 100, 30)

        assert threading.active_count() - threads < 90  # the request pool's own 64, and the watch's few
        assert api.get("/tasks/?limit=1").status_code == 200  # others are served meanwhile
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            assert cursor.fetchone()[0] <= 22
        complete(task)
        answers = [read_all(one) for one in waiting]
    finally:
        for one in waiting:
            one.close()

    assert all(answer.startswith(b"HTTP/1.1 200") and b'"completed"' in answer for answer in answers)


def test_a_client_that_leaves_ends_its_wait(api: httpx.Client) -> None:
    task = TaskFactory()
    with pytest.raises(httpx.ReadTimeout):
        api.get(f"/tasks/{task.id}/?wait=30", timeout=0.5)
    until(lambda: not WATCH._waiting)


@pytest.mark.slow
def test_a_server_that_is_told_to_stop_answers_who_waits_and_ends(transactional_db: None) -> None:
    task = TaskFactory()
    headers = {"Authorization": f"Bearer {Consumer('admin').token}"}
    ApiKey.objects.update(last_used_at=None)
    with ThreadPoolExecutor(1) as pool, served_by_process(DATABASE_URL=database_url()) as site:
        answer = pool.submit(httpx.get, f"{site}/api/v1/tasks/{task.id}/?wait=30", headers=headers, timeout=40)
        until(lambda: ApiKey.objects.filter(last_used_at__isnull=False).exists())  # it has been let in
        assert not answer.done()
        stopped = time.monotonic()
    response = answer.result(0)

    assert (response.status_code, response.json()["status"]) == (200, "pending")
    assert time.monotonic() - stopped < 3


# Bodies.


def assert_too_large(response: httpx.Response) -> None:
    assert response.status_code == 413
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "body_too_large"
    assert response.json()["request_id"] == response.headers["X-Request-ID"]


def test_a_body_over_the_limit_is_a_413_declared_or_chunked(api: httpx.Client) -> None:
    assert_too_large(api.post("/tasks/", content=b"x" * (LIMIT + 1)))
    assert_too_large(api.post("/tasks/", content=(b"x" * 65536 for _ in range(100))))
    assert_too_large(api.post("/tasks/", content=b"x" * (20 * LIMIT)))
    assert api.get("/tasks/").status_code == 200


def test_a_body_of_just_the_limit_is_read_also_when_chunked(api: httpx.Client) -> None:
    Consumer("admin").post("/agents/", {"slug": "echo", "config": {"model": "scripted/echo"}})
    frame = len(json.dumps({"agent": "echo", "input_data": {"prompt": ""}}))
    body = json.dumps({"agent": "echo", "input_data": {"prompt": "x" * (LIMIT - frame)}}).encode()
    assert len(body) == LIMIT

    assert api.post("/tasks/", content=body).status_code == 201
    chunked = api.post("/tasks/", content=(body[at : at + 65536] for at in range(0, LIMIT, 65536)))

    assert chunked.status_code == 201
    assert len(chunked.json()["input_data"]["prompt"]) == LIMIT - frame


# The server.


def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen(site: str) -> None:
    token = Consumer("admin").token
    with socket.create_connection(("127.0.0.1", int(site.rsplit(":", 1)[1]))) as raw:
        raw.sendall(f"GET /api/v1/tasks/ HTTP/1.1\r\nHost: localhost\r\nX_Request_ID: spoofed\r\n"
                    f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode())  # fmt: skip
        answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"spoofed" not in answer


def test_who_asks_for_a_web_socket_is_answered_without(transactional_db: None) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    with served_by_process(DATABASE_URL=database_url()) as site:
        response = httpx.get(f"{site}/api/v1/tasks/", headers=upgrade)
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"


def test_docs_and_their_assets_come_from_this_server(site: str) -> None:
    page = httpx.get(f"{site}/api/docs/")
    assert page.status_code == 200
    assert "http://" not in page.text.replace(site, "")
    assert "https://" not in page.text
    assets = [part.split('"')[0] for part in page.text.split('="')[1:] if part.startswith("/static/")]
    assert any(asset.endswith("swagger-ui-bundle.js") for asset in assets)
    for asset in assets:
        assert httpx.get(f"{site}{asset}").status_code == 200


def test_the_root_leads_to_the_admin(site: str) -> None:
    response = httpx.get(f"{site}/")
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/")


# PostgreSQL is away.


@pytest.fixture(scope="module")
def lonely_site() -> Iterator[str]:
    with served_by_process(DATABASE_URL="postgresql://nobody:wrong@127.0.0.1:1/none") as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize(("method", "where"), [
    ("GET", "/api/v1/tasks/"), ("POST", "/api/v1/tasks/"), ("GET", "/api/v1/agents/x/"), ("GET", "/readyz"),
])  # fmt: skip
def test_without_postgresql_the_api_answers_503_in_time(lonely_site: str, method: str, where: str) -> None:
    started = time.monotonic()
    headers = {"Authorization": "Bearer ops_" + "A" * 51, "Content-Type": "application/json"}
    response = httpx.request(method, f"{lonely_site}{where}", headers=headers, timeout=20)

    assert time.monotonic() - started < 5
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    problem = response.json()
    assert problem["retryable"] is True
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert "nobody" not in response.text
    if where == "/readyz":
        assert {one["pointer"] for one in problem["errors"]} == {"/database", "/migrations"}


@pytest.mark.slow
def test_without_postgresql_forty_at_once_are_all_answered_in_time(lonely_site: str) -> None:
    headers = {"Authorization": "Bearer ops_" + "A" * 51}
    with ThreadPoolExecutor(40) as pool, httpx.Client(headers=headers, timeout=20) as client:
        started = time.monotonic()
        asked = [pool.submit(client.get, f"{lonely_site}/api/v1/tasks/") for _ in range(40)]
        assert {one.result().status_code for one in asked} == {503}
        assert time.monotonic() - started < 5.5


@pytest.mark.slow
def test_without_postgresql_the_admin_is_a_503_page_and_the_process_is_up(lonely_site: str) -> None:
    cookies = {"opspawn_session": "x" * 32}
    page = httpx.get(f"{lonely_site}/admin/", cookies=cookies, timeout=20)
    assert page.status_code == 503
    assert page.headers["Content-Type"].startswith("text/html")
    assert "Traceback" not in page.text
    assert httpx.get(f"{lonely_site}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{lonely_site}/api/schema/").status_code == 200


@pytest.mark.slow
def test_after_an_outage_of_postgresql_the_site_is_back_within_seconds(transactional_db: None) -> None:
    database = settings.DATABASES["default"]
    cable = Cable(database["HOST"], int(database["PORT"]))
    headers = {"Authorization": f"Bearer {Consumer('admin').token}"}
    with served_by_process(DATABASE_URL=database_url(cable.port)) as site:

        def status() -> int:
            return httpx.get(f"{site}/api/v1/tasks/", headers=headers, timeout=20).status_code

        assert status() == 200
        cable.pull()
        pulled = time.monotonic()
        while time.monotonic() - pulled < 9:  # the pool's own back-off would have reached eight seconds by now
            assert status() == 503
        cable.plug_in()
        try:
            until(lambda: status() == 200, 4)
        finally:
            cable.pull()
