"""Keeps the parts of a fleet alive: starts them, restarts what dies with growing pauses, ends them all."""
from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.process import Program, kill_group, say, why_it_ended
from opspawn_site.fleet.progress import Progress

TICK_SECONDS = 0.2
WORK_ENDS_SECONDS = 6.0  # for web, workers and Flower, then SIGKILL
DATA_ENDS_SECONDS = 2.5  # for the database and Redis after them, then SIGKILL: all of it within 10 s


class Stopped(BaseException):
    """A signal asks the fleet to end. Not an Exception: nothing on the way may swallow it."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP raise Stopped in the main thread, but not while they are held.

    A SIGHUP that is ignored stays ignored: `nohup ./opspawn up &` is meant to outlive its terminal.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._holds = 0
        self._asked = False

    def __enter__(self) -> Signals:
        numbers = [one for one in self.NUMBERS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is interrupted inside; what was asked meanwhile is raised at the end."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._deliver()

    def ignore(self) -> None:
        """From here on everything ends anyway."""
        self._holds += 1

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._deliver()

    def _deliver(self) -> None:
        if self._asked and not self._holds:
            self._asked = False
            raise Stopped


@dataclass
class Backoff:
    """How long to wait before the next start: 0.5 s, doubled at each death up to 30 s, anew after a minute of life."""

    first_seconds: float = 0.5
    most_seconds: float = 30.0
    healthy_seconds: float = 60.0
    _next: float = 0.0

    def after(self, lived_seconds: float) -> float:
        """For deaths after 1 s each: 0.5, 1, 2, 4, 8, 16, 30, 30."""
        if lived_seconds >= self.healthy_seconds or not self._next:
            self._next = self.first_seconds
        wait = self._next
        self._next = min(self._next * 2, self.most_seconds)
        return wait


@dataclass
class Part:
    """One process of the fleet. `program` is asked before every start and may clear away what the last one left."""

    name: str
    kind: str  # its key in `pids`
    program: Callable[[], Program]
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    backoff: Backoff = field(default_factory=Backoff)

    def death(self) -> str | None:
        """Why it is not running, or None while it is."""
        if self.process is None:
            return "not started"
        code = self.process.poll()
        return None if code is None else why_it_ended(code)


class Supervisor:
    """The parts in the order in which they start; the last of them end first."""

    def __init__(self, signals: Signals, progress: Progress, changed: Callable[[], None]) -> None:
        self.signals = signals
        self.parts: list[Part] = []
        self._progress = progress
        self._changed = changed

    def start(self, part: Part) -> None:
        """Start a part, which from now on belongs to the fleet. Raises FleetError when it cannot be prepared."""
        self.parts.append(part)
        self._start(part)

    def pids(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for part in self.parts:
            alive = [part.process.pid] if part.process and part.death() is None else []
            found.setdefault(part.kind, []).extend(alive)
        return found

    def pause(self, seconds: float) -> None:
        """Let that time pass while the parts are looked after."""
        deadline = time.monotonic() + seconds
        while True:
            self.tick()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(TICK_SECONDS, left))

    def tick(self) -> None:
        """Look at every part once: notice deaths, start again what is due."""
        for part in self.parts:
            if part.restart_at is not None:
                if time.monotonic() >= part.restart_at:
                    self._restart(part)
            elif reason := part.death():
                self._plan_restart(part, reason)

    def stop(self) -> None:
        """End everything and return when nothing is left, within 10 s."""
        self.signals.ignore()
        data = [part for part in self.parts if part.kind in ("postgres", "redis")]
        _end([part for part in self.parts if part not in data], WORK_ENDS_SECONDS)
        _end(data, DATA_ENDS_SECONDS)

    def _start(self, part: Part) -> None:
        program = part.program()
        with self.signals.held():
            part.process = program.start()
        part.started_at = time.monotonic()
        part.restart_at = None

    def _plan_restart(self, part: Part, reason: str) -> None:
        wait = part.backoff.after(time.monotonic() - part.started_at)
        part.restart_at = time.monotonic() + wait
        self._progress.died(part.name, reason, wait)
        self._changed()

    def _restart(self, part: Part) -> None:
        try:
            self._start(part)
        except (FleetError, OSError) as error:
            part.started_at = time.monotonic()
            self._plan_restart(part, str(error))
            return
        self._progress.restarted(part.name, part.process.pid if part.process else 0)
        self._changed()


def _end(parts: Sequence[Part], seconds: float) -> None:
    living = [part.process for part in parts if part.process]
    for part in parts:
        if part.process:
            say(part.process, part.stop_signal)
    deadline = time.monotonic() + seconds
    for process in living:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
    for process in living:
        kill_group(process)
