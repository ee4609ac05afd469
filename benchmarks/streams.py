#!/usr/bin/env python
"""Many open event streams on one web process: memory, CPU, database connections, and time from commit to arrival.

Usage: python benchmarks/streams.py [--json] [--streams N] [--rate N] [--seconds N]      (from the repository root)
Starts a fleet, opens N streams (default 500), each of a task of its own, leaves them silent for that many seconds
(default 15), then commits `rate` events a second (default 100) to tasks in turn for as long. An event has arrived when
its last byte was read by this process; its commit is the moment at which PostgreSQL's answer was here.
"""
from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1024**2
APPEND = """
WITH moved AS (UPDATE tasks_task SET last_seq = last_seq + 1, updated_at = clock_timestamp() WHERE id = %s RETURNING *)
INSERT INTO tasks_event (task_id, seq, type, at, data)
SELECT id, last_seq, 'step.retrying', updated_at, '{"step": 1, "wait_seconds": 0.5, "error": "rate_limited"}' FROM moved
RETURNING seq
"""
Arrivals = dict[tuple[str, int], float]


@contextlib.contextmanager
def fleet() -> Iterator[dict[str, Any]]:
    """The ready line of a fleet of its own."""
    with tempfile.TemporaryDirectory(prefix="opspawn-bench-") as folder:
        pathlib.Path(folder).chmod(0o711)  # as root, the user of PostgreSQL passes through: nothing is left elsewhere
        command = [sys.executable, "manage.py", "up", "--json", "--data-dir", folder]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
            assert up.stdout
            try:
                yield json.loads(up.stdout.readline())
            finally:
                up.send_signal(signal.SIGTERM)


def submit(line: dict[str, Any]) -> str:
    """A task that waits for a day, so that nothing but this program writes its events."""
    body = {"agent": "assistant", "input_data": {"prompt": "x"}, "scheduled_at": "2099-01-01T00:00:00Z"}
    headers = {"Authorization": f"Bearer {line['api_key']}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{line['api']}/tasks/", json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(json.load(answer)["task_id"])


async def read(line: dict[str, Any], task_id: str, arrivals: Arrivals) -> None:
    at = urlsplit(line["api"])
    source, sink = await asyncio.open_connection(at.hostname, at.port)
    sink.write(f"GET {at.path}/tasks/{task_id}/stream/ HTTP/1.1\r\nHost: localhost\r\n"
               f"Authorization: Bearer {line['api_key']}\r\n\r\n".encode())  # fmt: skip
    while text := await source.readline():
        if text.startswith(b"id: "):
            arrivals[task_id, int(text[4:])] = time.monotonic()


class Readers(threading.Thread):
    """All streams, on an event loop of their own."""

    def __init__(self, line: dict[str, Any], tasks: list[str]) -> None:
        super().__init__(daemon=True)
        self.line, self.tasks = line, tasks
        self.arrivals: Arrivals = {}
        self.start()

    def run(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(read(self.line, task_id, self.arrivals) for task_id in self.tasks))

        asyncio.run(all_of_them())

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.arrivals) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.arrivals)} of {count} events arrived within 60 s")
            time.sleep(0.01)


class Web:
    """What the web process costs, since the last time it was asked."""

    def __init__(self, line: dict[str, Any]) -> None:
        self._process = psutil.Process(line["pids"]["web"][0])
        self._database_port = urlsplit(line["database_url"]).port
        self._seen = (time.monotonic(), 0.0)

    def look(self) -> dict[str, float]:
        times, now = self._process.cpu_times(), time.monotonic()
        cpu = times.user + times.system
        share = (cpu - self._seen[1]) / (now - self._seen[0]) * 100
        self._seen = (now, cpu)
        sockets = [one for one in self._process.net_connections("tcp") if one.raddr]
        return {
            "rss_mib": round(self._process.memory_info().rss / MIB, 1),
            "cpu_percent": round(share, 1),
            "database_connections": sum(one.raddr.port == self._database_port for one in sockets),
            "threads": self._process.num_threads(),
        }


def write(line: dict[str, Any], tasks: list[str], rate: float, seconds: float) -> Arrivals:
    """Commit the events, each at its time; when each was committed."""
    committed: Arrivals = {}
    with psycopg.connect(line["database_url"], autocommit=True) as database:
        started = time.monotonic()
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
            task_id = tasks[number % len(tasks)]
            row = database.execute(APPEND, (task_id,)).fetchone()
            assert row
            committed[task_id, row[0]] = time.monotonic()
    return committed


def measure(streams: int, rate: float, seconds: float) -> dict[str, Any]:
    with fleet() as line:
        web = Web(line)
        tasks = [submit(line) for _ in range(streams)]
        found: dict[str, Any] = {"before": web.look()}
        began = time.monotonic()
        readers = Readers(line, tasks)
        readers.wait_for(streams)  # each with its first event
        found["opened_after_seconds"] = round(time.monotonic() - began, 2)
        web.look()
        time.sleep(seconds)
        found["silent"] = web.look()
        committed = write(line, tasks, rate, seconds)
        found["busy"] = web.look()
        readers.wait_for(streams + len(committed))
        waits = sorted((readers.arrivals[key] - at) * 1000 for key, at in committed.items())
        cuts = statistics.quantiles(waits, n=100)
        found["arrival_ms"] = {"p50": round(cuts[49]), "p95": round(cuts[94]), "p99": round(cuts[98])}
    return found


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--streams", type=int, default=500)
    asked.add_argument("--rate", type=float, default=100.0)
    asked.add_argument("--seconds", type=float, default=15.0)
    options = asked.parse_args()
    found = measure(options.streams, options.rate, options.seconds)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{'':<10}{'RSS MiB':>9}{'CPU %':>8}{'connections':>13}{'threads':>9}")
    for name in ("before", "silent", "busy"):
        row = found[name]
        print(f"{name:<10}{row['rss_mib']:>9}{row['cpu_percent']:>8}{row['database_connections']:>13}{row['threads']:>9}")
    print(f"{options.streams} streams open after {found['opened_after_seconds']} s")
    print(f"commit to arrival in ms: {found['arrival_ms']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
