"""PostgreSQL and Redis that are killed, emptied, frozen and away, under a whole fleet with servers of its own."""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import redis

from opspawn_site.fleet.client import Client
from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.tests.fleets import alive, data_folder, ready_line, start_up, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LEASE_SECONDS = 3.0
QUICK = {
    "TASK_LEASE_SECONDS": str(LEASE_SECONDS), "TASK_HEARTBEAT_SECONDS": "1", "TASK_SWEEP_SECONDS": "0.5",
    "TASK_REPUBLISH_SECONDS": "2", "WORKER_CONCURRENCY": "4",
}  # fmt: skip
SCRIPT = [
    {"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}], "delay_seconds": 0.5},
    {"text": "8", "delay_seconds": 0.5},
]
HISTORY = """
SELECT count(*) = max(seq) AND min(seq) = 1 AND count(*) FILTER (WHERE type = 'task.completed') = 1,
    count(*) FILTER (WHERE type = 'step.started' AND data->>'kind' = 'llm') - 2,
    count(*) FILTER (WHERE type = 'task.recovered')
FROM tasks_event WHERE task_id = %s
"""


class Up:
    """A fleet that runs in a process of its own, seen through its ready line and its API."""

    def __init__(self, folder: DataFolder, process: subprocess.Popen[str], line: dict[str, Any]) -> None:
        self.folder, self.process, self.line = folder, process, line
        self.client = Client(line)

    def pid(self, kind: str) -> int:
        state = json.loads((self.folder.path / "up.json").read_text())
        found: int = (state["pids"][kind] or [0])[0]
        return found

    def submit(self, count: int) -> list[str]:
        body = {"agent": "adder", "input_data": {"prompt": "add"}}
        return [self.client.submit(body)["task_id"] for _ in range(count)]

    def submit_in_time(self) -> tuple[str, float]:
        began = time.monotonic()
        return self.submit(1)[0], time.monotonic() - began

    def submit_or_refusal(self) -> tuple[int, float]:
        """The status of one POST, and the seconds it took."""
        began = time.monotonic()
        body = {"agent": "adder", "input_data": {"prompt": "add"}}
        headers = {"Authorization": f"Bearer {self.line['api_key']}"}
        status = httpx.post(f"{self.line['api']}/tasks/", json=body, headers=headers, timeout=20).status_code
        return status, time.monotonic() - began

    def submit_when_it_answers(self, count: int) -> list[str]:
        with contextlib.suppress(FleetError):
            return self.submit(count)
        return []

    def kill(self, kind: str) -> None:
        pid = self.pid(kind)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))

    @contextlib.contextmanager
    def away(self, kind: str) -> Iterator[None]:
        """Without that part: its supervisor sleeps meanwhile, and starts it again afterwards."""
        pid = self.pid(kind)
        self.process.send_signal(signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            until(lambda: not alive(pid))
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
        until(lambda: self.pid(kind) not in (0, pid) and alive(self.pid(kind)), 30)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.line["redis_url"], socket_timeout=5)

    def redis_answers(self) -> bool:
        try:
            return bool(self.redis().ping())
        except redis.RedisError:
            return False

    def all_complete_once(self, task_ids: list[str], seconds: float = 60) -> None:
        """Each completes, its history has no gap and one end, and no call was repeated without a takeover."""
        until(lambda: all(self.status(task_id) == "completed" for task_id in task_ids), seconds)
        with psycopg.connect(self.line["database_url"]) as database:
            for task_id in task_ids:
                whole, repeated, takeovers = database.execute(HISTORY, [task_id]).fetchone() or (False, 0, 0)
                assert whole, task_id
                assert repeated <= takeovers, task_id

    def status(self, task_id: str) -> str:
        try:
            found: str = self.client.task(task_id)["status"]
        except FleetError:
            return "not answered"
        return found


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with data_folder() as folder:
        process = start_up(folder.path, **QUICK)
        try:
            fleet = Up(folder, process, ready_line(process, folder.path))
            config = {"model": "scripted/list", "provider_options": {"script": SCRIPT}, "tools": ["add_numbers"]}
            fleet.client._ask("POST", "/agents/", {"slug": "adder", "config": config})
            yield fleet
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(20)
            pathlib.Path(f"{folder.path}.progress").unlink(missing_ok=True)


def test_redis_emptied_with_a_backlog_loses_no_task(up: Up) -> None:
    tasks = up.submit(20)
    up.redis().flushall()
    up.all_complete_once(tasks)


def test_redis_killed_and_started_empty_after_ten_seconds_loses_no_task(up: Up) -> None:
    before = up.submit(12)
    with up.away("redis"):
        meanwhile, seconds = up.submit_in_time()
        assert seconds < 3
        time.sleep(10)  # the outage itself
        shutil.rmtree(up.folder.path / "redis" / "appendonlydir", ignore_errors=True)
    until(up.redis_answers)
    up.all_complete_once([*before, meanwhile, *up.submit(2)])


def test_while_redis_is_frozen_submissions_are_accepted_at_once_and_run_afterwards(up: Up) -> None:
    frozen = psutil.Process(up.pid("redis"))
    frozen.suspend()
    try:
        tasks, seconds = zip(*[up.submit_in_time() for _ in range(20)], strict=True)
    finally:
        frozen.resume()
    assert max(seconds) < 3
    up.all_complete_once(list(tasks))


def test_postgresql_restarted_at_once_costs_no_task(up: Up) -> None:
    tasks = up.submit(8)
    until(lambda: "running" in {up.status(task_id) for task_id in tasks})
    up.kill("postgres")
    up.all_complete_once(tasks)


def test_postgresql_away_past_the_lease_costs_no_task_and_the_api_says_so_meanwhile(up: Up) -> None:
    tasks = up.submit(8)
    until(lambda: "running" in {up.status(task_id) for task_id in tasks})
    with up.away("postgres"):
        began = time.monotonic()
        with pytest.raises(FleetError, match="503"):
            up.submit(1)
        assert time.monotonic() - began < 6
        time.sleep(LEASE_SECONDS + 2)  # the outage itself
    up.all_complete_once(tasks)


def test_a_frozen_postgresql_is_told_of_within_five_seconds_and_costs_no_task(up: Up) -> None:
    tasks = up.submit(4)
    until(lambda: all(up.status(task_id) == "completed" for task_id in tasks))
    server = psutil.Process(up.pid("postgres"))
    frozen = [server, *server.children()]
    for process in frozen:
        process.suspend()
    try:
        answers = [up.submit_or_refusal() for _ in range(3)]
    finally:
        for process in frozen:
            process.resume()
    assert [status for status, _ in answers] == [503] * 3
    assert max(seconds for _, seconds in answers) < 5
    up.all_complete_once([*tasks, *until(lambda: up.submit_when_it_answers(3))])


def test_afterwards_no_connection_is_left_in_a_transaction(up: Up) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"

    def idle() -> int:
        with psycopg.connect(up.line["database_url"]) as database:
            return int((database.execute(query).fetchone() or (1,))[0])

    until(lambda: idle() == 0, 5)
