"""Real worker processes for tests, on the test database and the test broker."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from opspawn_site.celery import app

ROOT = pathlib.Path(settings.BASE_DIR)
QUICK = {"TASK_LEASE_SECONDS": "3", "TASK_HEARTBEAT_SECONDS": "0.5", "TASK_SWEEP_SECONDS": "0.5"}


def database_url() -> str:
    """The address of the test database, as another process needs it."""
    given = connection.settings_dict
    user = f"{quote(given['USER'])}:{quote(given['PASSWORD'])}"
    return f"postgresql://{user}@{given['HOST']}:{given['PORT']}/{quote(given['NAME'])}"


class Worker:
    """One Celery worker process, its log in a file."""

    def __init__(self, **environment: str) -> None:
        handle, path = tempfile.mkstemp(prefix="opspawn-worker-", suffix=".log")
        self.log = pathlib.Path(path)
        given = QUICK | {"DATABASE_URL": database_url(), "PYTHONUNBUFFERED": "1", "LOG_LEVEL": "INFO"} | environment
        self.name = f"test-{time.monotonic_ns()}@localhost"
        command = [sys.executable, "-m", "celery", "-A", "opspawn_site.celery", "worker", "-P", "threads",
                   "-Q", ",".join(settings.WORKER_QUEUES), "-n", self.name,
                   "--without-gossip", "--without-mingle"]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | given, stdout=handle, stderr=subprocess.STDOUT, start_new_session=True
        )
        os.close(handle)

    def wait_until_ready(self, seconds: float = 30) -> None:
        until(lambda: self._answers() or self.process.poll() is not None, seconds)
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended:\n{self.log.read_text(errors='replace')[-3000:]}")

    def _answers(self) -> bool:
        return bool(app.control.ping(destination=[self.name], timeout=0.3))

    def kill(self) -> None:
        """SIGKILL, as the kernel would for want of memory."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)


@contextmanager
def running_worker(**environment: str) -> Iterator[Worker]:
    worker = Worker(**environment)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.kill()
        worker.log.unlink(missing_ok=True)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of the condition, asked every 20 ms; AssertionError after that many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {condition}")
