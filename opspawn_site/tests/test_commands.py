"""The fleet's commands without a fleet, and what is said when something is missing."""
from __future__ import annotations

import pathlib

import pytest

from opspawn_site.fleet.doctor import look
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.tests.fleets import manage


@pytest.mark.parametrize("command", [["submit", "assistant", "hi"], ["apikey", "me"], ["prune"]])
def test_without_a_fleet_it_says_so_and_how_to_start_one(command: list[str], tmp_path: pathlib.Path) -> None:
    done = manage(*command, "--data-dir", str(tmp_path / "none"))
    assert done.returncode == 1
    assert f"no fleet runs in {tmp_path / 'none'}: start one with ./opspawn up" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none").exists()


def test_doctor_without_a_fleet_fails_with_a_fix_beside_each_failure(tmp_path: pathlib.Path) -> None:
    done = manage("doctor", "--data-dir", str(tmp_path / "none"), OPENAI_API_KEY="sk-very-secret")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line for line in lines if line.startswith("✗ fleet")]
    assert all("→" in line for line in lines if line.startswith("✗"))
    assert [line for line in lines if line.startswith("✓ provider keys  set here for openai; not set for anthropic")]
    assert "sk-very-secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["up", "--port", "0"], "'0' is not a port: use 1 to 65535"),
        (["up", "--workers", "many"], "'many' is not a number of workers"),
        (["up", "--grpc-port", "none"], "'none' is not a port: use 1 to 65535"),
        (["submit", "assistant"], "the following arguments are required: prompt"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(command: list[str], reason: str) -> None:
    done = manage(*command)
    assert done.returncode == 2
    assert reason in done.stderr


@pytest.mark.django_db
def test_doctor_looks_at_the_services_that_the_environment_names(tmp_path: pathlib.Path) -> None:
    found = {check.name: check for check in look(DataFolder(tmp_path), deep=False)}
    assert found["database"].found == found["redis"].found == "answers"
    assert not found["disk"].fix
    assert found["sandbox"].found.startswith("none is in force")
