"""Bringing a fleet up: services, migrations and seeds, then web, workers and Flower; and down again."""
from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil

from opspawn_site.fleet import parts
from opspawn_site.fleet.backing import Backing
from opspawn_site.fleet.errors import FleetError, PartFailed
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.ports import Claims, first_listener
from opspawn_site.fleet.process import Program, rotate
from opspawn_site.fleet.progress import Progress
from opspawn_site.fleet.supervisor import Part, Signals, Stopped, Supervisor

FIRST_PORT, FIRST_FLOWER_PORT = 8000, 5555
LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0
INTERRUPTED = 130  # a signal before the fleet was ready, or before what was asked for was done


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` and `demo` take from the command line."""

    folder: DataFolder
    port: int | None = None
    flower_port: int | None = None
    workers: int = 1
    reset: bool = False


class Fleet:
    """One fleet in one data folder. `line` is the ready line once `start` has returned."""

    def __init__(self, options: Options, progress: Progress, signals: Signals) -> None:
        self.options = options
        self.folder = options.folder
        self.line: dict[str, Any] = {}
        self._progress = progress
        self._claims = Claims()
        self.supervisor = Supervisor(signals, progress, self._write_state)

    def start(self) -> None:
        """Return when everything answers. Raises FleetError or SettingError; the caller calls `stop` in any case."""
        _end_crashed(self.folder)
        backing = Backing(self.folder, self._claims)
        if self.options.reset:
            backing = _wiped(backing, self.folder, self._claims)
        backing.export()
        from opspawn_site import settings

        self._listener = first_listener(settings.HOST, self.options.port, FIRST_PORT, "--port")
        self._flower_port = self._claims.first(LOOPBACK, self.options.flower_port, FIRST_FLOWER_PORT, "--flower-port")
        self._start_backing(backing)
        password, key = self._prepare_database()
        self._start_the_rest(settings.WORKER_QUEUES)
        self._settle(settings.HOST)
        self.line = self._ready_line(settings.HOST, password, key)
        self._write_state()

    def run(self) -> None:
        """Look after the parts until a signal raises Stopped."""
        while True:
            self.supervisor.pause(3600)

    def stop(self) -> None:
        self._progress.stopping()
        self.supervisor.stop()
        self.folder.forget_state()
        self._progress.stopped()

    def _start_backing(self, backing: Backing) -> None:
        """Start the servers, and web beside them: it reads its modules while this process does the same."""
        self._progress.starting(*backing.embedded, "web", "migrations")
        backing.start(self.supervisor)
        self._start_part("web", "web", partial(parts.web, self.folder, self._listener))
        import django

        django.setup()
        backing.wait(self.supervisor, time.sleep, self._progress.started)

    def _prepare_database(self) -> tuple[str | None, str]:
        """Migrate and seed in this process. Returns the administrator's password, if known, and the fleet's key."""
        from django.core.management import call_command
        from django.db import DatabaseError, connection

        from opspawn_site.fleet import seeding

        try:
            call_command("migrate", verbosity=0, interactive=False)
            password = seeding.administrator(self.folder)
            key = seeding.api_key(self.folder)
            seeding.default_agent()
        except DatabaseError as error:
            raise PartFailed("migrations", f"{type(error).__name__}: {error}".strip()) from error
        finally:
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]  # its threads would log every restart of PostgreSQL
        self._progress.started("migrations")
        return password, key

    def _start_the_rest(self, queues: list[str]) -> None:
        """What needs the tables, or would only be in the way before."""
        self._progress.starting(*self._workers(), "flower")
        for name in self._workers():
            self._start_part(name, "worker", partial(parts.worker, self.folder, name, queues))
        self._start_part("flower", "flower", partial(parts.flower, self.folder, LOOPBACK, self._flower_port))

    def _workers(self) -> list[str]:
        return [f"worker-{number}" for number in range(1, self.options.workers + 1)]

    def _start_part(self, name: str, kind: str, program: Callable[[], Program]) -> None:
        rotate(self.folder.log(name))
        self.supervisor.start(Part(name, kind, program))

    def _settle(self, host: str) -> None:
        """Return when everything answers. Any part that dies meanwhile cannot start: PartFailed with its log."""
        secret = self.folder.secret("flower")
        problems: dict[str, Callable[[], str | None]] = {
            "web": partial(parts.web_problem, _reachable(host), self._listener.getsockname()[1]),
            "flower": partial(parts.flower_problem, LOOPBACK, self._flower_port, secret),
            **{name: partial(parts.worker_problem, name) for name in self._workers()},
        }
        deadline = time.monotonic() + READY_SECONDS
        while problems:
            self._nothing_died()
            late = time.monotonic() > deadline
            for name, problem in list(problems.items()):
                trouble = problem()
                if trouble and late:
                    raise PartFailed(name, f"not ready in {READY_SECONDS:g} s: {trouble}", self.folder.log(name))
                if not trouble:
                    self._progress.started(name)
                    del problems[name]
            time.sleep(0.05)
        _let_go_of_redis()

    def _nothing_died(self) -> None:
        for part in self.supervisor.parts:
            if reason := part.death():
                raise PartFailed(part.name, reason, self.folder.log(part.name))

    def _ready_line(self, host: str, password: str | None, key: str) -> dict[str, Any]:
        site = f"http://{_in_url(_reachable(host))}:{self._listener.getsockname()[1]}"
        flower = f"http://{LOOPBACK}:{self._flower_port}/"
        from opspawn_site.fleet.seeding import ADMIN

        return {
            "event": "ready",
            "api": f"{site}/api/v1",
            "api_key": key,
            "admin": {"url": f"{site}/admin/", "username": ADMIN, "password": password},
            "flower": {"url": flower, "username": parts.FLOWER_USER, "password": self.folder.secret("flower")},
            "grpc": None,
            "database_url": os.environ["DATABASE_URL"],
            "redis_url": os.environ["REDIS_URL"],
            "data_dir": str(self.folder.path),
            "pids": self._pids(),
        }

    def _pids(self) -> dict[str, Any]:
        nobody: dict[str, Any] = {"postgres": [], "redis": [], "web": [], "worker": [], "grpc": [], "flower": []}
        return {"supervisor": os.getpid()} | nobody | self.supervisor.pids()

    def _write_state(self) -> None:
        if self.line:
            self.line["pids"] = self._pids()
            self.folder.write_state(self.line)


def bring_up(options: Options, progress: Progress, then: Callable[[Fleet], int]) -> int:
    """Bring a fleet up, do `then`, and end every process whatever happens. Returns the exit code."""
    options.folder.make()
    with Signals() as signals, options.folder.locked():
        fleet = Fleet(options, progress, signals)
        try:
            fleet.start()
            return then(fleet)
        except Stopped:
            return INTERRUPTED
        except FleetError as error:
            progress.failed(str(error), getattr(error, "tail", []))
            return 1
        finally:
            fleet.stop()


def up(options: Options, progress: Progress) -> int:
    """`up`: exit code 0 when a signal ends a fleet that was ready."""

    def stay(fleet: Fleet) -> int:
        progress.ready(fleet.line)
        with contextlib.suppress(Stopped):
            fleet.run()
        return 0

    return bring_up(options, progress, stay)


def _wiped(backing: Backing, folder: DataFolder, claims: Claims) -> Backing:
    """Remove the data of the embedded servers and all that the folder keeps."""
    from opspawn_site.fleet.postgres import Postgres

    for server in backing.embedded.values():
        if isinstance(server, Postgres):
            server.remove()
    folder.reset()
    return Backing(folder, claims)


def _end_crashed(folder: DataFolder) -> None:
    """End what a fleet left running that could not end it itself, where the system did not do so already.

    A pid may belong to another program by now: only processes that carry this folder in their environment are ended.
    """
    left = []
    for kind, pids in folder.last_state().get("pids", {}).items():
        for pid in pids if isinstance(pids, list) and kind not in ("postgres", "redis") else []:
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                if process.environ().get(parts.MARK) == str(folder.path):
                    process.send_signal(signal.SIGKILL)
                    left.append(process)
    psutil.wait_procs(left, timeout=5)
    folder.forget_state()


def _let_go_of_redis() -> None:
    """The pings opened connections that nobody needs any more."""
    from opspawn_site.celery import app

    app.close()


def _reachable(host: str) -> str:
    """An address to talk to for one to listen on: the wildcards mean this machine too."""
    return {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
