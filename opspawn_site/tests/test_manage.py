"""The command line where there is no fleet: a sentence with the cure, never a traceback."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings

from opspawn_site import VERSION

SERVICES = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "CREDENTIAL_KEYS")


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in SERVICES}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=settings.BASE_DIR, env=clean | environment, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def no_fleet() -> None:
    if (settings.BASE_DIR / ".opspawn" / "up.json").exists():
        pytest.skip("a fleet runs in this checkout")


def test_a_command_that_needs_a_database_says_how_to_get_one(no_fleet: None) -> None:
    ended = manage("migrate")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: migrate needs a database")
    assert "./opspawn up" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["--version", "version"])
def test_the_version_is_opspawns(command: str) -> None:
    assert manage(command).stdout.strip() == VERSION


@pytest.mark.parametrize("command", ["test", "up", "check"])
def test_a_wrong_setting_is_one_line_from_every_command(command: str) -> None:
    ended = manage(command, LOG_LEVEL="banana")
    assert ended.returncode == 1
    assert "LOG_LEVEL='banana'" in ended.stderr
    assert "Traceback" not in ended.stderr
