"""Suspects are run in a process beside the worker: when one kills its process, no neighbour dies with it.

The process is kept for the next suspect, so that a hundred of them cost one start and not a hundred.
"""
from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time

import structlog
from django.conf import settings

from tasks import bell
from tasks.claims import claim
from tasks.leases import LEASES
from tasks.models import Task

log = structlog.get_logger(__name__)

AT_ONCE = 2  # processes beside one worker: each takes a second of CPU to start, and 60 MB
COMMAND = "run_suspects"
READY, RAN, STOP = "ready", "ran", "stop"  # the lines that the two processes exchange


class Cell:
    """A process that runs one suspect after the other for as long as it survives them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "django", COMMAND]
        self._process = subprocess.Popen(
            command, cwd=settings.BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        threading.Thread(target=self._pass_on_a_drain, name="drain", daemon=True).start()
        self.is_alive = self._answer() == READY

    def run(self, task: Task) -> None:
        """Return when the task was let go, or the process has died of it (`is_alive`)."""
        self._tell(f"{task.id} {task.attempt}")
        self.is_alive = self._answer() == RAN

    def end(self) -> None:
        self.is_alive = False
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def _pass_on_a_drain(self) -> None:
        while self._process.poll() is None:
            if LEASES.draining.wait(0.5):
                self._tell(STOP)
                return

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(line, file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        """The next line of the protocol; '' when it has died."""
        return self._process.stdout.readline().strip() if self._process.stdout else ""


class Cells:
    """The cells of one worker process, made when they are first needed."""

    def __init__(self, at_once: int) -> None:
        self._seats = threading.BoundedSemaphore(at_once)
        self._idle: queue.SimpleQueue[Cell] = queue.SimpleQueue()

    def run(self, task_id: str, worker: str) -> bool:
        """Run the suspect in a cell; False when all are taken. Blocks.

        It is claimed when the cell is there: what happens while that starts is no death of the task's.
        """
        if not self._seats.acquire(blocking=False):
            return False
        cell = None
        try:
            cell = self._cell()
            if cell.is_alive and not LEASES.draining.is_set():
                _run_in(cell, task_id, worker)
        finally:
            if cell is not None:
                self._put_back(cell)
            self._seats.release()
        return True

    def _cell(self) -> Cell:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return Cell()

    def _put_back(self, cell: Cell) -> None:
        if cell.is_alive and not LEASES.draining.is_set():
            self._idle.put(cell)
        else:
            cell.end()


CELLS = Cells(AT_ONCE)


def run_alone(task_id: str, worker: str) -> None:
    """Run the suspect beside this process, or take its bell back when no cell is free: the sweeper rings anew."""
    if not CELLS.run(task_id, worker):
        bell.unmark([task_id])


def _run_in(cell: Cell, task_id: str, worker: str) -> None:
    asked = time.monotonic()
    task = claim(task_id, f"{worker} alone", alone=True)
    if task is None:
        return
    log.warning("task_tried_alone", task_id=task.id, attempt=task.attempt)
    held = LEASES.hold(task.id, task.attempt, asked)  # it takes one of this worker's slots
    held.progress_by = 0.0  # and the other process renews the lease
    try:
        cell.run(task)
    finally:
        LEASES.drop(held)
        bell.nudge(task.queue)
    if not cell.is_alive:
        log.error("task_killed_its_process", task_id=task.id, attempt=task.attempt)
