"""`chaos`: a fleet with services of its own in a temporary folder, one trial on it, and the verdict."""
from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import shutil
import tempfile
import time

import psutil

from opspawn_site.chaos import screen
from opspawn_site.chaos.ledger import FOLDER, Ledger
from opspawn_site.chaos.trial import Result, Trial, Wish
from opspawn_site.fleet import parts, start, unprivileged
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.process import living_in
from opspawn_site.fleet.progress import progress

PREFIX = "opspawn-chaos-"
WORKERS = 2
LEASE_SECONDS = 6
SETTINGS = {
    "TASK_LEASE_SECONDS": str(LEASE_SECONDS),
    "TASK_HEARTBEAT_SECONDS": "2",
    "TASK_SWEEP_SECONDS": "1",
    "TASK_REPUBLISH_SECONDS": "5",
    "WORKER_CONCURRENCY": "20",
}
OWN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "CREDENTIAL_KEYS", "DJANGO_SETTINGS_MODULE")


def run(wish: Wish) -> int:
    """Exit code 0 when every promise was kept, 1 when not, 130 when it was interrupted. `.opspawn/` is not touched."""
    place = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
    place.chmod(0o711)  # our own: as root, the unprivileged user of PostgreSQL has to pass through
    code = 1
    try:
        code = _run(wish, DataFolder(place))
    finally:
        if code == 1:
            _keep_logs(place)
        shutil.rmtree(place, ignore_errors=True)
    return code


def _run(wish: Wish, folder: DataFolder) -> int:
    _set_environment(folder)
    ledger, shown = Ledger(folder.path), progress(wish.as_json)
    results: list[Result] = []

    def attempt(fleet: start.Fleet) -> int:
        logging.disable(logging.CRITICAL)  # this process sees PostgreSQL go, too; the workers' logs are in files
        seen = screen.Screen(shown)
        shown.pause()
        shown.note("settings: " + ", ".join(f"{name}={value}" for name, value in SETTINGS.items()))
        try:
            results.append(Trial(fleet, wish, ledger, LEASE_SECONDS, seen).run())
        finally:
            seen.close()
        return 0

    code = start.bring_up(start.Options(folder, workers=WORKERS), shown, attempt)
    if not results:
        return code
    results[0].orphans = _left_of(folder)
    screen.report(wish, results[0], SETTINGS, wish.as_json)
    return 1 if screen.broken(results[0]) else 0


def _set_environment(folder: DataFolder) -> None:
    """Services and secrets of its own whatever the environment names; short leases; the proof tools."""
    for name in OWN:
        for variable in (name, f"{name}_FILE"):
            os.environ.pop(variable, None)
    os.environ |= SETTINGS | {
        "DJANGO_SETTINGS_MODULE": "opspawn_site.settings", "OPSPAWN_DOTENV": "off",
        "TOOL_MODULES": "opspawn_site.chaos.tools", FOLDER: str(folder.path),
    }  # fmt: skip


def _left_of(folder: DataFolder, seconds: float = 5.0) -> list[int]:
    """Processes of this fleet that still run after it was ended; they get a moment to go."""
    deadline = time.monotonic() + seconds
    while left := [*_marked(folder), *_servers(folder)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left


def _marked(folder: DataFolder) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(parts.MARK) == str(folder.path):
                found.append(process.pid)
    return found


def _servers(folder: DataFolder) -> list[int]:
    data = unprivileged.home_of(folder.path, unprivileged.account()) / "postgres"
    servers = [*living_in(data, "postgres"), *living_in(folder.path / "redis", "valkey-server")]
    return [process.pid for process in servers]


def _keep_logs(place: pathlib.Path) -> None:
    """After a failure, what the processes said is worth more than a clean temporary folder."""
    kept = place.with_name(f"{place.name}.logs")
    with contextlib.suppress(OSError):
        shutil.copytree(place / "logs", kept)
        shutil.copy2(place / "ledger.jsonl", kept)
