"""`prune` as a person runs it, on the database that the environment names."""
from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import pytest
from django.utils import timezone

from agents import versions
from opspawn_site.tests.fleets import manage
from tasks.models import Task
from tasks.tests.factories import TaskFactory
from tasks.tests.workers import database_url

pytestmark = pytest.mark.django_db(transaction=True)


def prune(*options: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("SECRET_KEY", "CREDENTIAL_KEYS", "REDIS_URL")}
    return manage("prune", *options, **kept, DATABASE_URL=database_url())


def test_a_dry_run_says_what_would_go_and_the_run_removes_it() -> None:
    agent = versions.create("short", {"model": "scripted/echo", "retention_days": 7}, by="test")
    at = timezone.now() - timedelta(days=8)
    gone = {"id": f"task_{int(at.timestamp() * 1000):012x}{'0' * 20}", "completed_at": at}
    TaskFactory(version=agent.versions.get(), status="cancelled", **gone)
    stays = TaskFactory(version=agent.versions.get())

    dry = prune("--dry-run")
    assert (dry.returncode, dry.stdout.splitlines()) == (
        0,
        ["short: 1 would go, older than 7 days", "1 task and 0 idempotency keys would go; nothing was removed"],
    ), dry.stderr
    assert Task.objects.count() == 2

    done = prune()
    assert (done.returncode, done.stdout.splitlines()) == (
        0, ["short: 1 removed, older than 7 days", "removed 1 task and 0 idempotency keys"],
    ), done.stderr  # fmt: skip
    assert Task.objects.get().id == stays.id


def test_where_nothing_is_to_go_it_says_so() -> None:
    assert prune().stdout == "removed 0 tasks and 0 idempotency keys\n"
