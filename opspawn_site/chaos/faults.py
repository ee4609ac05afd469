"""Faults: what can be done to a fleet's processes and servers, dealt in a random order from a seed."""
from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import redis

from opspawn_site.fleet.supervisor import Part

MARGIN_SECONDS = 3.0  # that an outage lasts longer than a lease
SHORT_SECONDS = 0.3
REDIS_AWAY_SECONDS = 10.0
REDIS_FROZEN_SECONDS = 8.0
BELLS = 50


@dataclass(frozen=True, slots=True)
class Loss:
    """A worker process that stopped working at a moment, by the machine's clock. Poison makes some besides."""

    pid: int
    at: float


class Faults:
    """The faults of one trial. Each method does one and returns the seconds until it is over."""

    def __init__(
        self, parts: Sequence[Part], redis_url: str, random: Random, lease_seconds: float,
        some_task: Callable[[], str | None],
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.losses: list[Loss] = []
        self.spans: list[tuple[float, float]] = []  # begin and end of each fault, by the machine's clock
        self.thawed_at = 0.0  # monotonic; of the last worker that went on after it was frozen
        self._parts = parts
        self._redis_url = redis_url
        self._random = random
        self._outage_seconds = lease_seconds + MARGIN_SECONDS
        self._some_task = some_task
        self._frozen: dict[int, float] = {}  # pid → monotonic time of the thaw
        self._deck: list[str] = []

    def deal(self) -> tuple[str, float]:
        """Do the next fault: every kind once, shuffled, then all of them again. Returns its name and seconds."""
        if not self._deck:
            there = {part.kind for part in self._parts}
            self._deck = sorted(name for name, (kind, _) in KINDS.items() if kind in there)
            self._random.shuffle(self._deck)
        name = self._deck.pop()
        began = time.time()
        seconds = KINDS[name][1](self)
        self.spans.append((began, time.time() + seconds))
        self.counts[name] += 1
        return name, seconds

    def tick(self) -> None:
        """Let go on what was frozen long enough."""
        for pid, until in list(self._frozen.items()):
            if time.monotonic() >= until:
                self._thaw(pid)

    def end(self) -> None:
        for pid in list(self._frozen):
            self._thaw(pid)

    @property
    def worker_is_frozen(self) -> bool:
        return any(part.process is not None and part.process.pid in self._frozen for part in self._of("worker"))

    # The faults.

    def kill_one_worker(self) -> float:
        self._kill(self._one_worker())
        return SHORT_SECONDS

    def kill_all_workers(self) -> float:
        for part in self._of("worker"):
            self._kill(part)
        return SHORT_SECONDS

    def drain_a_worker(self) -> float:
        self._say(self._one_worker(), signal.SIGTERM)
        return SHORT_SECONDS

    def freeze_a_worker(self) -> float:
        part = self._one_worker()
        if part.process and part.death() is None:
            self.losses.append(Loss(part.process.pid, time.time()))
        return self._freeze(part, self._outage_seconds)

    def kill_web(self) -> float:
        return self._kill(self._the("web"))

    def restart_postgres(self) -> float:
        return self._kill(self._the("postgres"))

    def stop_postgres(self) -> float:
        return self._kill(self._the("postgres"), away_seconds=self._outage_seconds)

    def restart_redis(self) -> float:
        return self._kill(self._the("redis"))

    def stop_redis(self) -> float:
        return self._kill(self._the("redis"), away_seconds=REDIS_AWAY_SECONDS)

    def freeze_redis(self) -> float:
        return self._freeze(self._the("redis"), REDIS_FROZEN_SECONDS)

    def empty_redis(self) -> float:
        with contextlib.suppress(redis.RedisError), self._redis() as client:
            client.flushall()
        return SHORT_SECONDS

    def ring_one_bell_often(self) -> float:
        """The same message many times: only one worker may get the task."""
        from tasks import bell

        task_id = self._some_task()
        if task_id:
            with contextlib.suppress(Exception):  # Redis may be coming back just now
                for _ in range(BELLS):
                    bell.publish("default", bell.Bell(task_id, "", "again", 1))
        return SHORT_SECONDS

    # What they are made of.

    def _of(self, kind: str) -> list[Part]:
        return [part for part in self._parts if part.kind == kind]

    def _the(self, kind: str) -> Part:
        return self._of(kind)[0]

    def _one_worker(self) -> Part:
        return self._random.choice(self._of("worker"))

    def _kill(self, part: Part, away_seconds: float = 0.0) -> float:
        """SIGKILL; the supervisor starts it again at once, or after `away_seconds`."""
        process = part.process
        if process is None or part.death() is not None:
            return 0.0
        if part.kind == "worker":
            self.losses.append(Loss(process.pid, time.time()))
        process.kill()
        process.wait()
        if away_seconds:
            part.restart_at = time.monotonic() + away_seconds
        return away_seconds + SHORT_SECONDS

    def _freeze(self, part: Part, seconds: float) -> float:
        self._say(part, signal.SIGSTOP)
        if part.process:
            self._frozen[part.process.pid] = time.monotonic() + seconds
        return seconds

    def _thaw(self, pid: int) -> None:
        workers = {part.process.pid for part in self._of("worker") if part.process}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        del self._frozen[pid]
        if pid in workers:
            self.thawed_at = time.monotonic()

    def _say(self, part: Part, number: signal.Signals) -> None:
        if part.process and part.death() is None:
            part.process.send_signal(number)

    @contextlib.contextmanager
    def _redis(self) -> Iterator[Any]:
        client = redis.Redis.from_url(self._redis_url, socket_timeout=2, socket_connect_timeout=2)
        try:
            yield client
        finally:
            client.close()


# By name: the kind of part that it is about, and what is done.
KINDS: dict[str, tuple[str, Callable[[Faults], float]]] = {
    "one worker killed": ("worker", Faults.kill_one_worker),
    "all workers killed": ("worker", Faults.kill_all_workers),
    "worker told to stop": ("worker", Faults.drain_a_worker),
    "worker frozen past its lease": ("worker", Faults.freeze_a_worker),
    "web killed": ("web", Faults.kill_web),
    "PostgreSQL killed": ("postgres", Faults.restart_postgres),
    "PostgreSQL away past the lease": ("postgres", Faults.stop_postgres),
    "Redis killed": ("redis", Faults.restart_redis),
    "Redis away": ("redis", Faults.stop_redis),
    "Redis frozen": ("redis", Faults.freeze_redis),
    "Redis emptied": ("redis", Faults.empty_redis),
    f"one bell rung {BELLS} times": ("web", Faults.ring_one_bell_often),
}
