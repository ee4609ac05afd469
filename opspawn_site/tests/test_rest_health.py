"""/healthz, /readyz and /metrics."""
from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext

from opspawn_site import health


@pytest.mark.django_db(transaction=True)
def test_ready_when_every_part_answers() -> None:
    response = Client().get("/readyz")
    assert response.status_code == 200, response.content
    assert response.json()["checks"] == {"database": "ok", "migrations": "ok", "redis": "ok"}


@pytest.mark.django_db
def test_healthz_touches_nothing() -> None:
    with CaptureQueriesContext(connection) as captured:
        assert Client().get("/healthz").json() == {"status": "ok"}
    assert len(captured) == 0


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_says_so_and_in_time(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "redis://:hunter2@127.0.0.1:1/0"
    started = time.monotonic()

    response = Client().get("/readyz")

    assert time.monotonic() - started < 3
    assert response.status_code == 503
    assert response["Content-Type"] == "application/problem+json"
    assert [one["pointer"] for one in response.json()["errors"]] == ["/redis"]
    assert response.json()["code"] == "not_ready"
    assert b"hunter2" not in response.content


@pytest.mark.django_db(transaction=True)
def test_a_missing_migration_is_named() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("tasks", "0002_final_is_final")
    try:
        problem = Client().get("/readyz").json()
    finally:
        recorder.record_applied("tasks", "0002_final_is_final")

    assert problem["status"] == 503
    assert "tasks.0002_final_is_final" in problem["detail"]
    assert "migrate" in problem["detail"]


def test_a_check_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = health.CHECKERS.submit(time.sleep, 3)
    started = time.monotonic()
    assert "did not answer" in health.state_of("redis", asleep)
    assert time.monotonic() - started < 2.8


def test_metrics_count_requests_by_route_and_never_by_path() -> None:
    client = Client()
    client.get("/api/v1/nothing/here")
    client.get("/healthz")

    text = client.get("/metrics").content.decode()

    assert 'opspawn_build_info{python="' in text
    assert 'opspawn_http_requests_total{method="GET",route="/healthz",status="200"}' in text
    assert "opspawn_http_request_seconds_bucket" in text
    assert "process_resident_memory_bytes" in text
    assert "nothing/here" not in text
