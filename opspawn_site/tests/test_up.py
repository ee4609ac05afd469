"""`up` and `demo` for real: every process, from another process's view."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from opspawn_site.fleet.client import Client
from opspawn_site.fleet.parts import get
from opspawn_site.tests.fleets import alive, forget_elsewhere, manage, progress_of, ready_line, start_up, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
KEYS = {
    "event", "api", "api_key", "admin", "flower", "grpc", "database_url", "redis_url", "data_dir", "pids",
}  # fmt: skip
SCRIPT = [{"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}]}, {"text": "8"}]


class Running:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.process = start_up(folder, "--grpc-port", "50051")
        self.line = ready_line(self.process, folder)

    def now(self) -> dict[str, Any]:
        return json.loads((self.folder / "up.json").read_text())

    def pids(self) -> list[int]:
        return [pid for pids in self.now()["pids"].values() for pid in (pids if isinstance(pids, list) else [pids])]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One fleet for the tests of this module, in their order; the last of them ends it."""
    folder = tmp_path_factory.mktemp("up") / "data"
    running = Running(folder)
    yield running
    running.process.kill()
    running.process.wait()
    time.sleep(0.5)  # its children are being killed by the system
    shutil.rmtree(folder, ignore_errors=True)
    forget_elsewhere(folder)


def test_the_first_line_says_where_everything_is(fleet: Running) -> None:
    line = fleet.line
    assert set(line) == KEYS
    assert line["event"] == "ready"
    assert line["grpc"] is None
    assert line["pids"]["grpc"] == []
    assert line["pids"]["supervisor"] == fleet.process.pid
    assert {name: len(line["pids"][name]) for name in ("postgres", "redis", "web", "worker", "flower")} == {
        "postgres": 1, "redis": 1, "web": 1, "worker": 1, "flower": 1,
    }  # fmt: skip
    assert all(alive(pid) for pid in fleet.pids())
    assert fleet.now() == line
    assert (fleet.folder / "up.json").stat().st_mode & 0o777 == 0o600
    assert fleet.folder.stat().st_mode & 0o777 == 0o700


def test_a_port_for_grpc_is_taken_and_said_to_have_no_effect(fleet: Running) -> None:
    assert "--grpc-port 50051 has no effect: there is no gRPC yet" in progress_of(fleet.folder).read_text()


def test_the_rows_of_flower_show_the_task_and_its_agent(fleet: Running) -> None:
    environment = psutil.Process(fleet.line["pids"]["flower"][0]).environ()
    assert environment["FLOWER_TASKS_COLUMNS"].split(",")[0] == "args"


def test_no_secret_is_on_a_command_line(fleet: Running) -> None:
    secrets = [path.read_text() for path in (fleet.folder / "secrets").iterdir()]
    words = " ".join(word for pid in fleet.pids() for word in psutil.Process(pid).cmdline())
    assert not [secret for secret in secrets if secret in words]


def test_a_task_of_the_printed_key_is_done(fleet: Running) -> None:
    client = Client(fleet.line)
    config = {"model": "scripted/list", "provider_options": {"script": SCRIPT}, "tools": ["add_numbers"]}
    client._ask("POST", "/agents/", {"slug": "adder", "config": config})
    task = client.submit({"agent": "adder", "input_data": {"prompt": "5 and 3"}})
    done = until(lambda: (now := client.task(task["task_id"]))["status"] == "completed" and now)
    assert done["result"] == {"agent_outcome": "8"}
    assert client._ask("GET", "/agents/assistant/")["slug"] == "assistant"


def test_flower_asks_for_its_password(fleet: Running) -> None:
    port = int(fleet.line["flower"]["url"].rstrip("/").rsplit(":", 1)[1])
    assert get("127.0.0.1", port, "/workers")[0] == 401


def test_a_second_up_on_the_folder_is_refused_naming_the_pid_and_the_option(fleet: Running) -> None:
    done = manage("up", "--json", "--data-dir", str(fleet.folder))
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"process {fleet.process.pid}" in done.stderr
    assert "--data-dir" in done.stderr
    assert fleet.now() == fleet.line


def test_demo_uses_the_running_fleet_and_follows_the_walk(fleet: Running) -> None:
    done = manage("demo", "--once", "--json", "--data-dir", str(fleet.folder))
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert done.returncode == 0, done.stderr
    assert sum(step["kind"] == "llm" for step in steps) >= 3
    assert {step["name"] for step in steps if step["kind"] == "tool"} == {"calculator", "add_numbers", "current_time"}
    assert all(step["simulated"] for step in steps if step["kind"] == "llm")
    assert {line["event"] for line in lines} >= {"task", "step", "ended", "links"}
    assert fleet.process.poll() is None


def test_demo_does_not_wipe_a_folder_in_use(fleet: Running) -> None:
    done = manage("demo", "--reset", "--data-dir", str(fleet.folder))
    assert done.returncode == 1
    assert f"process {fleet.process.pid}" in done.stderr


def test_submit_apikey_doctor_and_djangos_commands_find_the_fleet(fleet: Running) -> None:
    where = ("--data-dir", str(fleet.folder))
    followed = manage("submit", "demo-echo", "say this", "--follow", *where)
    assert followed.returncode == 0
    assert "completed" in followed.stdout
    assert manage("submit", "nobody", "hello", *where).stderr.startswith("error: 400: /agent:")
    token = manage("apikey", "mine", *where).stdout.strip()
    assert Client(fleet.line | {"api_key": token})._ask("GET", "/tasks/")["data"] == []
    checked = manage("doctor", "--deep", *where)
    assert checked.returncode == 0, checked.stdout
    assert "serves default; database " in checked.stdout


@pytest.mark.parametrize("kind", ["web", "postgres", "redis", "worker"])
def test_a_part_that_is_killed_comes_back_and_its_pid_is_kept_current(fleet: Running, kind: str) -> None:
    (old,) = fleet.now()["pids"][kind]
    os.kill(old, signal.SIGKILL)
    (new,) = until(lambda: [pid for pid in fleet.now()["pids"][kind] if pid != old])
    assert alive(new)
    told = [json.loads(line) for line in progress_of(fleet.folder).read_text().splitlines()]
    assert [one["reason"] for one in told if one["event"] == "died"][-1] == "killed by SIGKILL"


def test_work_goes_on_after_all_of_that(fleet: Running) -> None:
    done = manage("submit", "demo-echo", "still there?", "--follow", "--data-dir", str(fleet.folder))
    assert done.returncode == 0, done.stdout + done.stderr


def test_at_the_end_everything_ends_in_time_and_nothing_is_left(fleet: Running) -> None:
    family = psutil.Process(fleet.process.pid).children(recursive=True)
    started = time.monotonic()
    fleet.process.send_signal(signal.SIGTERM)
    assert fleet.process.wait(10) == 0
    assert time.monotonic() - started < 10
    assert [one for one in family if alive(one.pid)] == []
    assert not (fleet.folder / "up.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next `up` ends what is left")
def test_the_next_start_keeps_key_and_data_and_a_supervisor_that_is_killed_leaves_nothing(fleet: Running) -> None:
    again = Running(fleet.folder)
    assert again.line["api_key"] == fleet.line["api_key"]
    assert Client(again.line)._ask("GET", "/agents/adder/")["version"] == 1
    family = psutil.Process(again.process.pid).children(recursive=True)
    again.process.kill()
    again.process.wait()
    until(lambda: not [one for one in family if alive(one.pid)], 10)


def test_a_port_that_is_taken_ends_up_before_anything_starts(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = manage("up", "--json", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "data" / "logs" / "postgres.log").exists()


def test_a_part_that_cannot_start_ends_the_command_with_the_reason_and_its_log(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    done = manage("up", "--data-dir", str(folder), FLOWER_INSPECT_TIMEOUT="soon")
    assert done.returncode == 1
    assert "error: flower did not start: exit 1" in done.stderr
    assert "could not convert string to float: 'soon'" in done.stderr
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(folder) in (one.info["cmdline"] or [])]
    forget_elsewhere(folder)
