"""A suspect is run in a process of its own: when it kills its process, no neighbour dies with it."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import structlog
from django.conf import settings

from tasks import bell
from tasks.claims import claim
from tasks.journal import Fenced, Journal
from tasks.leases import LEASES, Held
from tasks.models import Task

log = structlog.get_logger(__name__)

AT_ONCE = 2  # processes that one worker starts beside itself: each takes a second of CPU and 60 MB or more
BOOT_SECONDS = 60.0  # for so long the worker renews the lease in place of the process that is starting
LOOK_SECONDS = 0.2
COMMAND = "run_task_alone"
SEATS = threading.BoundedSemaphore(AT_ONCE)


def run_alone(task_id: str, worker: str) -> int | None:
    """Claim the task, run it in a child process and return its exit code; None when it was not to be had.

    Blocks; a drain is handed on to the child. The claim comes before the child is started: while that takes its time
    nobody rings again for the task. When as many run already, the bell is taken back and the sweeper rings anew.
    """
    if not SEATS.acquire(blocking=False):
        bell.unmark([task_id])
        return None
    try:
        asked = time.monotonic()
        task = claim(task_id, f"{worker} alone", alone=True)
        return None if task is None else _run_claimed(task, LEASES.hold(task.id, task.attempt, asked))
    finally:
        SEATS.release()


def _run_claimed(task: Task, held: Held) -> int:
    log.warning("task_tried_alone", task_id=task.id, attempt=task.attempt)
    held.progress_by = held.claimed + BOOT_SECONDS
    try:
        code = _child(task)
        if code == -signal.SIGTERM:  # told to stop before it could do so in good order: nothing was begun
            _hand_back(held)
    finally:
        LEASES.drop(held)
        bell.nudge(task.queue)
    return code


def _child(task: Task) -> int:
    command = [sys.executable, "-m", "django", COMMAND, task.id, str(task.attempt), str(os.getpid())]
    told = False
    with subprocess.Popen(command, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL) as child:
        while True:
            try:
                return child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if LEASES.draining.is_set() and not told:
                    told = True
                    child.terminate()


def _hand_back(held: Held) -> None:
    try:
        Journal(held, []).release()
    except Fenced:
        log.info("task_not_handed_back", task_id=held.task_id)
