"""What is written to the log, and what never is."""
from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
import structlog
from django.test import Client

from llm import masking
from opspawn_site.telemetry import formatter
from opspawn_site.tests.fleets import until
from tasks.tests.clients import Consumer


@pytest.fixture
def lines() -> Any:
    """Everything that is logged during the test, as the JSON objects that are written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter("json"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.removeHandler(handler)


@pytest.mark.django_db
def test_a_request_leaves_one_access_line_with_its_id_route_status_time_and_key(lines: Any) -> None:
    api = Consumer()
    api.get("/tasks/task_00000000000000000000000000000000/?wait=0", HTTP_X_REQUEST_ID="abc")

    [line] = [line for line in lines() if line["logger"] == "opspawn.access"]

    assert (line["request_id"], line["method"], line["status"]) == ("abc", "GET", 404)
    assert line["route"] == "/api/v1/tasks/<task_id:task_id>/"
    assert line["key"] == api.key.prefix
    assert line["ms"] > 0


@pytest.mark.django_db
def test_no_line_holds_the_token(lines: Any) -> None:
    api = Consumer()
    api.get("/tasks/")
    Client().get(f"/api/v1/tasks/?token={api.token}")
    logging.getLogger("django.something").warning("Authorization: Bearer %s", api.token)
    assert api.token[12:] not in str(lines())


def test_secrets_are_cut_wherever_they_stand(lines: Any) -> None:
    log = structlog.get_logger("test")
    log.warning("connecting", url="postgresql://opspawn:hunter2@db:5432/x", headers={"Authorization": "Bearer abcdef"})
    log.warning("key sk-proj-abcdefghijkl", api_key="hunter2", deep=[{"password": "hunter2"}])
    logging.getLogger("library").warning("redis://:hunter2@localhost")
    try:
        raise ValueError("at https://user:hunter2@host/")
    except ValueError:
        log.exception("failed")

    text = str(lines())

    assert "hunter2" not in text
    assert "abcdef" not in text
    assert "postgresql://opspawn:…@db:5432/x" in text
    assert "ValueError" in text


def test_the_lines_of_libraries_are_json_with_the_bound_ids(lines: Any) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1", task_id="task_1"):
        logging.getLogger("celery.worker").warning("lost %s", "it", extra={"queue": "default"})
    [line] = lines()
    assert (line["event"], line["level"], line["logger"]) == ("lost it", "warning", "celery.worker")
    assert (line["request_id"], line["task_id"], line["queue"]) == ("r1", "task_1", "default")


def test_a_providers_key_is_cut_whatever_its_shape(lines: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    masking.remember("met-by-this-process-0123")
    monkeypatch.setenv("SOME_API_KEY", "of-the-environment-0123")
    until(lambda: masking.mask_known("of-the-environment-0123") == "***")
    try:
        raise ValueError("header met-by-this-process-0123 is refused")
    except ValueError:
        structlog.get_logger("test").exception("failed", given=["of-the-environment-0123"])

    text = str(lines())

    assert "is refused" in text
    assert "0123" not in text
