"""One trial: tasks go in, faults go on, then everything comes to rest and is measured."""
from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from random import Random

import psycopg

from opspawn_site.chaos import findings
from opspawn_site.chaos.faults import Faults, Loss
from opspawn_site.chaos.ledger import Ledger
from opspawn_site.chaos.load import Load
from opspawn_site.chaos.person import Person
from opspawn_site.chaos.plan import make_agents, plan
from opspawn_site.chaos.screen import Screen
from opspawn_site.fleet.client import Client
from opspawn_site.fleet.start import Fleet
from opspawn_site.fleet.supervisor import Backoff

GAP_SECONDS = (2.0, 9.0)  # between the end of a fault and the next one
LOAD_SHARE = 0.85  # of the time in which tasks are submitted
SETTLE_SECONDS = 150.0  # a task that kills its process may die TASK_MAX_TAKEOVERS times, a lease each time
REST_SECONDS = 120.0  # a pool lets one unused connection go every few seconds
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What `chaos` was asked for."""

    minutes: float
    seed: int
    tasks: int
    as_json: bool = False


@dataclass
class Result:
    """What the trial found, and what it took."""

    found: findings.Findings = field(default_factory=findings.Findings)
    faults: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    submit_seconds: list[float] = field(default_factory=list)  # of each 201, sorted
    tries: int = 0
    connections_before: int = 0
    seconds: float = 0.0
    settle_seconds: float = 0.0
    orphans: list[int] = field(default_factory=list)


class Trial:
    """Runs in the supervisor's own thread, which looks after the parts at every pause."""

    def __init__(self, fleet: Fleet, wish: Wish, ledger: Ledger, lease_seconds: float, screen: Screen) -> None:
        self._fleet, self._wish, self._ledger, self._screen = fleet, wish, ledger, screen
        self._database_url = fleet.line["database_url"]
        random = Random(wish.seed)
        self._random = random
        self._planned = plan(wish.tasks, wish.minutes * 60 * LOAD_SHARE, random)
        self._load = Load(Client(fleet.line), self._planned)
        self._faults = Faults(
            fleet.supervisor.parts, fleet.line["redis_url"], random, lease_seconds, self._some_task
        )
        self._person = Person(self._database_url, ledger)
        self._looked = 0.0

    def run(self) -> Result:
        make_agents()
        for part in self._fleet.supervisor.parts:
            part.backoff = Backoff(first_seconds=0.3, most_seconds=1.0)
        before = findings.connections(self._database_url)
        began = time.monotonic()
        self._load.start()
        try:
            self._go_on_with_faults(began + self._wish.minutes * 60)
        finally:
            self._faults.end()
        ended = time.monotonic()
        self._settle(ended + SETTLE_SECONDS)
        settled = time.monotonic() - ended
        self._load.stop()
        self._rest(time.monotonic() + REST_SECONDS, before)
        result = Result(seconds=ended - began, settle_seconds=settled, connections_before=before)
        return self._measured(result)

    def _go_on_with_faults(self, until: float) -> None:
        """Faults one after the other, now and then two at once, until the time is over."""
        next_at = time.monotonic() + 2
        while time.monotonic() < until:
            if time.monotonic() >= next_at:
                name, seconds = self._faults.deal()
                self._screen.fault(name, seconds)
                both = self._random.random() < 0.2
                next_at = time.monotonic() + (1.0 if both else seconds + self._random.uniform(*GAP_SECONDS))
            self._pause(0.1)

    def _settle(self, until: float) -> None:
        """No more faults: wait until everything is final, or the bound is reached."""
        self._screen.settling()
        while time.monotonic() < until:
            self._pause(0.5)
            if self._load.is_over and findings.unfinished(self._database_url) == 0:
                return

    def _rest(self, until: float, connections: int) -> None:
        """Wait until PostgreSQL has no more connections than before, or the bound is reached."""
        while time.monotonic() < until and findings.connections(self._database_url) > connections:
            self._pause(0.5)

    def _pause(self, seconds: float) -> None:
        self._fleet.supervisor.pause(seconds)
        self._faults.tick()
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._screen.tally(len(self._load.accepted), self._wish.tasks, findings.unfinished(self._database_url))
            thawed = time.monotonic() - self._faults.thawed_at
            if not self._faults.worker_is_frozen and thawed > 3:  # a frozen worker might act yet: nobody can tell
                self._person.look()

    def _measured(self, result: Result) -> Result:
        entries = self._ledger.entries()
        poisoned = [Loss(one.pid, one.at) for one in entries if one.tool == "poison" and one.mark == "began"]
        losses = [*self._faults.losses, *poisoned]
        result.found = findings.measure(
            self._database_url, self._load.accepted, entries, losses, self._faults.spans
        )
        result.faults = dict(sorted(self._faults.counts.items()))
        result.answers = dict(self._person.answers)
        result.refusals, result.tries = self._load.refusals, self._load.tries
        result.submit_seconds = sorted(self._load.seconds)
        return result

    def _some_task(self) -> str | None:
        """A task that is not final, for the bell that is rung often."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._database_url, connect_timeout=2) as database:
            statement = "SELECT id FROM tasks_task WHERE status IN ('pending', 'running') ORDER BY id DESC LIMIT 1"
            row = database.execute(statement).fetchone()
            return row[0] if row else None
        return None
