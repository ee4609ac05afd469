"""A provider's key, followed: it leaves for its provider and stands nowhere else, whatever goes wrong."""
from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client, RequestFactory
from django.views.debug import ExceptionReporter, get_exception_reporter_class

from agents import provider_rows, versions
from agents.tests.people import person
from llm import masking
from llm.models import Provider
from llm.tests.openai_server import Answer, OpenAIServer, Request, error, hang, raw, text, tool_calls
from tasks.models import Step, Task
from tasks.tests.clients import Consumer
from tasks.tests.walking import ended, submit
from tasks.tests.workers import Worker, running_worker, until

OF_THE_ROW = "canary-row-5f2c9a7e1b3d4f60"
OF_THE_ENVIRONMENT = "canary-env-8d1e6b4a2c9f7035"
OF_A_VARIABLE = "canary-var-3a9d7c5e1f2b4068"
CANARIES = (OF_THE_ROW, OF_THE_ENVIRONMENT, OF_A_VARIABLE)
ENVIRONMENT = {"OPENAI_API_KEY": OF_THE_ENVIRONMENT, "CANARY_API_KEY": OF_A_VARIABLE, "LLM_MAX_ATTEMPTS": "2"}


def sent_key(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


ANSWERS: dict[str, Callable[[str], Answer]] = {
    "fine": lambda key: text("It is 8."),
    "refused": lambda key: error(401, f"Incorrect API key provided: {key}. Find yours at https://x/?key={key}"),
    "broken": lambda key: error(500, f"Traceback: client(api_key='{key}')"),
    "limited": lambda key: error(429, f"Limit of {key}", retry_after="0.01"),
    "bad": lambda key: error(400, f"Bearer {key} is not allowed this model"),
    "missing": lambda key: error(404, f"no such model for {key}"),
    "html": lambda key: raw(502, f"<html><body>{key}</body></html>", content_type="text/html"),
    "nonsense": lambda key: raw(200, f'{{"choices": "{key}"'),
    "empty": lambda key: raw(200, {"choices": [], "note": key}),
    "odd": lambda key: raw(200, {"choices": [{"message": key}]}),
    "redirect": lambda key: raw(302, key, headers={"Location": f"http://127.0.0.1:1/?key={key}"}),
    "silent": lambda key: hang(),
    "badcall": lambda key: tool_calls(("no_such_tool", f'{{"a": "{"x" * 10}')),
}


def act(request: Request) -> Answer:
    """What the last user message names, with the key that came in."""
    said = [message["content"] for message in request.body["messages"] if message["role"] == "user"]
    return ANSWERS.get(said[0], ANSWERS["fine"])(sent_key(request))


def rows_with(word: str) -> list[str]:
    """Tables with a row that holds the word in any column, whatever its type."""
    with connection.cursor() as cursor:
        tables = [table.name for table in connection.introspection.get_table_list(cursor)]
        found = []
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE strpos(t::text, %s) > 0', [word])  # noqa: S608
            if cursor.fetchone()[0]:
                found.append(table)
    return found


class Wiretap:
    """Every command that Redis is sent while it listens, with what is base64 in it decoded."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        client = redis.Redis.from_url(settings.REDIS_URL)
        with client.monitor() as monitor:
            thread = threading.Thread(target=self._listen, args=(monitor,), daemon=True)
            thread.start()
            yield
            client.set("wiretap", "end")
            thread.join(10)
        client.delete("wiretap")

    def _listen(self, monitor: Any) -> None:
        for command in monitor.listen():
            self.heard.append(command["command"])
            if "wiretap" in command["command"]:
                return

    def everything(self) -> str:
        whole = "\n".join(self.heard)
        decoded = []
        for coded in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", whole):
            with contextlib.suppress(ValueError):
                decoded.append(base64.b64decode(coded).decode("utf-8", "replace"))
        return whole + "\n".join(decoded)


def left_in_redis() -> str:
    client = redis.Redis.from_url(settings.REDIS_URL)
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"string": client.get, b"list": lambda key: client.lrange(key, 0, -1), b"hash": client.hgetall,
        b"set": client.smembers, b"zset": lambda key: client.zrange(key, 0, -1),
    }  # fmt: skip
    return str([readers[client.type(key)](key) for key in client.scan_iter() if client.type(key) in readers])


@pytest.fixture
def worker(transactional_db: None, caplog: pytest.LogCaptureFixture) -> Iterator[Worker]:
    with running_worker(**ENVIRONMENT, LOG_LEVEL="DEBUG") as running:
        yield running


def agents_of(server: OpenAIServer) -> list[str]:
    """Agents that are called with a key of the row, of the environment, and of a variable that a row names."""
    for label, key in (("row", OF_THE_ROW), ("var", "env:CANARY_API_KEY")):
        provider_rows.create({"label": label, "provider": "openai", "key": key, "base_url": server.base_url})
    base = {"model": "openai/gpt-4o-mini", "call_timeout_seconds": 1, "limits": {"max_steps": 3}}
    ways = {
        "by-row": {"credential": "row"}, "by-variable": {"credential": "var"},
        "by-environment": {"api_base": server.base_url},
    }  # fmt: skip
    for slug, way in ways.items():
        versions.create(slug, base | way, by="test")
    return list(ways)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_key_stands_nowhere_but_in_the_request_to_its_provider(
    worker: Worker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    api, boss, tap = Consumer("admin"), person("boss", superuser=True), Wiretap()
    with OpenAIServer(act) as server, tap.listening():
        slugs = agents_of(server)
        tasks = [submit(slug, input_data={"prompt": prompt}) for slug in slugs for prompt in ANSWERS]
        done = [ended(task) for task in tasks]
        tests = [api.post(f"/providers/{label}/test/", {}).json() for label in ("row", "var")]
    assert {sent_key(request) for request in server.requests} == set(CANARIES)
    assert {task.status for task in done} == {"completed", "failed"}
    assert {task.error_code for task in done} >= {"provider_auth", "provider_error", "rate_limited", None}
    assert all(test["ok"] for test in tests)
    assert Step.objects.exclude(error=None).filter(error__contains="***").exists()  # the echo was there to be masked

    pages = [*pages_of(boss, done), *answers_of(api, done)]
    seen = {
        "pages": "".join(pages), "the worker's log": worker.log.read_text(errors="replace"),
        "this process's log": caplog.text, "this process's output": str(capfd.readouterr()),
        "what Redis was told": tap.everything(), "what Redis keeps": left_in_redis(),
    }  # fmt: skip
    for canary in CANARIES:
        assert rows_with(canary) == []
        assert [place for place, words in seen.items() if canary in words] == []
        for coded in (base64.b64encode(canary.encode()).decode().rstrip("="), json.dumps(canary)):
            assert [place for place, words in seen.items() if coded in words] == []


def pages_of(boss: Client, tasks: list[Task]) -> Iterator[str]:
    addresses = ["/admin/llm/provider/", "/admin/auditlog/logentry/", "/admin/django_celery_results/taskresult/",
                 "/admin/tasks/task/", "/admin/tasks/step/", "/admin/"]  # fmt: skip
    addresses += [f"/admin/llm/provider/{pk}/change/" for pk in Provider.objects.values_list("pk", flat=True)]
    addresses += [f"/admin/tasks/task/{task.id}/change/" for task in tasks]
    for address in addresses:
        answer = boss.get(address)
        assert answer.status_code == 200, address
        yield answer.content.decode()


def answers_of(api: Consumer, tasks: list[Task]) -> Iterator[str]:
    paths = ["/providers/", "/providers/row/", "/agents/", "/tasks/?limit=200"]
    parts = ("?include=history", "steps/", "events/", "why/")
    paths += [f"/tasks/{task.id}/{part}" for task in tasks for part in parts]
    for path in paths:
        answer = api.get(path)
        assert answer.status_code == 200, path
        yield answer.content.decode()


def failing_page(monkeypatch: pytest.MonkeyPatch) -> str:
    """Django's page, as DEBUG shows it, of an exception with keys in its message, its locals and its form."""
    request = RequestFactory().post("/admin/llm/provider/add/", {"label": "x", "key": OF_THE_ROW})
    masking.remember(OF_THE_ROW)
    monkeypatch.setenv("CANARY_API_KEY", OF_A_VARIABLE)

    def fail() -> None:
        row_key, nested = OF_THE_ROW, {"headers": [{"authorization": f"Bearer {OF_A_VARIABLE}"}]}
        raise ValueError(f"cannot send {row_key} and {nested}")

    try:
        fail()
    except ValueError as failure:
        reporter: ExceptionReporter = get_exception_reporter_class(request)(
            request, type(failure), failure, failure.__traceback__
        )
        return reporter.get_traceback_html() + reporter.get_traceback_text()


def test_the_page_of_an_exception_shows_no_key_in_its_locals_form_or_settings(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = True
    settings.PROVIDER_KEYS = {"openai": OF_THE_ENVIRONMENT}

    page = failing_page(monkeypatch)

    assert "cannot send" in page
    assert "row_key" in page
    assert [canary for canary in CANARIES if canary in page] == []
    assert [key for key in settings.CREDENTIAL_KEYS if key in page] == []
    password = settings.DATABASES["default"]["PASSWORD"]
    assert f":{password}@" not in page


@pytest.mark.django_db
def test_a_failing_save_logs_no_key(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """The table is gone in the middle of it: the exception passes every layer with the key in its locals."""
    api = Consumer("admin")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE llm_provider DROP COLUMN key_last")

    answer = api.post("/providers/", {"label": "x", "provider": "openai", "key": OF_THE_ROW})

    assert answer.status_code == 500
    written = answer.content.decode() + caplog.text + str(capfd.readouterr())
    assert "key_last" in written
    assert OF_THE_ROW not in written


def test_the_watcher_would_see_a_key_that_is_there(transactional_db: None) -> None:
    """Without this, a search that finds nothing proves nothing."""
    tap = Wiretap()
    with tap.listening():
        client = redis.Redis.from_url(settings.REDIS_URL)
        client.rpush("canary", base64.b64encode(json.dumps({"secret": OF_THE_ROW}).encode()))
        assert until(lambda: any("canary" in heard for heard in tap.heard))
    client.rpush("canary", OF_THE_ROW)
    versions.create("leak", {"model": "scripted/echo", "instructions": OF_THE_ROW}, by="test")

    assert OF_THE_ROW in tap.everything()
    assert OF_THE_ROW in left_in_redis()
    assert set(rows_with(OF_THE_ROW)) >= {"agents_agentversion", "auditlog_logentry"}
    client.delete("canary")
