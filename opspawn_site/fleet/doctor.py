"""`doctor`: one line a check, the fix beside each failure; exit code 1 if anything is wrong."""
from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from opspawn_site.environment import SettingError
from opspawn_site.fleet import parts
from opspawn_site.fleet.backing import adopt, join, problems
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.unprivileged import orphans

FREE_DISK_BYTES = 500 * 1024**2
DEEP_SECONDS = 15.0
START = "./opspawn up"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and found. `fix` is empty unless it is wrong."""

    name: str
    found: str
    fix: str = ""


MIGRATED = Check("migrations", "all applied")


def run(folder: DataFolder, *, deep: bool) -> int:
    checks = []
    for check in look(folder, deep=deep):
        checks.append(check)
        _show(check)
    wrong = sum(1 for check in checks if check.fix)
    print(f"\n{len(checks) - wrong} of {len(checks)} checks passed")
    return 1 if wrong else 0


def look(folder: DataFolder, *, deep: bool) -> Iterator[Check]:
    line = folder.running()
    if line is not None:
        join(folder, line)
    reachable = line is not None or adopt(folder)
    yield python()
    yield fleet(folder, line)
    try:
        from opspawn_site import settings
    except SettingError as error:
        yield Check("settings", str(error), "set it as the message says, in the environment or in .env")
        return
    yield Check("settings", "the environment is readable")
    migrated = False
    if reachable:
        for check in services():
            migrated |= check == MIGRATED
            yield check
    else:
        nothing = "not looked at: nothing runs here and DATABASE_URL is not set"
        yield Check("services", nothing, START)
        yield Check("migrations", nothing, START)
    yield provider_keys(settings.PROVIDER_KEYS)
    if migrated:
        from opspawn_site.fleet import model_checks

        yield from model_checks.look()
    from opspawn_site.fleet import plugin_checks

    yield from plugin_checks.look()
    yield Check("sandbox", "none is in force yet: agents have no tool that runs untrusted code")
    yield disk(folder)
    yield from ports(line, settings.HOST)
    if deep:
        yield from queues(settings.WORKER_QUEUES) if reachable else [Check("queues", "no worker to ask", START)]


def python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", f"{version} ({sys.executable})", "" if good else "use Python 3.11 to 3.13 (OPSPAWN_PYTHON)")


def fleet(folder: DataFolder, line: dict[str, Any] | None) -> Check:
    if line is not None:
        return Check("fleet", f"runs in {folder.path} (pid {line['pids']['supervisor']}), {line['api']}/")
    if holder := folder.holder():
        return Check("fleet", f"process {holder} holds {folder.path} and is not ready yet", "ask again in a moment")
    return Check("fleet", f"none runs in {folder.path}", f"{START}, or name its folder with --data-dir")


def services() -> Iterator[Check]:
    found = problems()
    problem = found["postgres"]
    yield Check("database", problem or "answers", f"start it: {START}, or correct DATABASE_URL" if problem else "")
    yield Check("migrations", "not looked at: no database", START) if problem else migrations()
    problem = found["redis"]
    yield Check("redis", problem or "answers", f"start it: {START}, or correct REDIS_URL" if problem else "")


def migrations() -> Check:
    import django

    django.setup()
    from django.db import DatabaseError, connection
    from django.db.migrations.executor import MigrationExecutor

    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return Check("migrations", " ".join(str(error).split()), "let the database's user read django_migrations")
    finally:
        connection.close()
    if missing:
        return Check("migrations", f"{len(missing)} are not applied, {missing[0][0]} first", "python manage.py migrate")
    return MIGRATED


def provider_keys(keys: dict[str, str]) -> Check:
    """Which are set, never what they are. None has to be: the scripted model needs no provider."""
    known = [provider for provider, key in keys.items() if key]
    unset = [provider for provider, key in keys.items() if not key]
    text = f"set here for {', '.join(known)}" if known else "none is set here; only the scripted models work without"
    return Check("provider keys", text + (f"; not set for {', '.join(unset)}" if known and unset else ""))


def disk(folder: DataFolder) -> Check:
    """Also says, without calling it wrong, where root's databases of removed data folders are left."""
    place = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    left = orphans() if os.geteuid() == 0 else []
    found = f"{free / 1024**3:.1f} GiB free at {place}"
    if left:
        found += f"; {len(left)} databases of removed data folders are left, {left[0]} first"
    if folder.path.exists() and not os.access(folder.path, os.W_OK | os.X_OK):
        return Check("disk", f"{folder.path} is not writable", "make it writable for this user, or use --data-dir")
    return Check("disk", found, "" if free > FREE_DISK_BYTES else "free at least 500 MiB, or use --data-dir")


def ports(line: dict[str, Any] | None, host: str) -> Iterator[Check]:
    if line is None:
        from opspawn_site.fleet.start import FIRST_FLOWER_PORT, FIRST_PORT, LOOPBACK

        for name, address, first in (("API", host, FIRST_PORT), ("Flower", LOOPBACK, FIRST_FLOWER_PORT)):
            yield Check("ports", _first_free(name, address, first))
        return
    api, flower = urlsplit(line["api"]), urlsplit(line["flower"]["url"])
    password = line["flower"]["password"]
    asked: tuple[tuple[str, Callable[[], str | None], Any], ...] = (
        ("API", lambda: parts.web_problem(api.hostname or "", api.port or 80), api),
        ("Flower", lambda: parts.flower_problem(flower.hostname or "", flower.port or 80, password), flower),
    )
    for name, ask, address in asked:
        problem = ask()
        log = os.path.join(line["data_dir"], "logs")
        yield Check("ports", f"{name} on {address.port}: {problem or 'answers'}", f"see {log}" if problem else "")


def queues(names: list[str]) -> Iterator[Check]:
    """Send one `fleet_check` through each queue and wait a bounded time for the worker's answer."""
    import django

    django.setup()
    from opspawn_site.celery import app

    app.autodiscover_tasks(["tasks"], related_name="jobs", force=True)
    for name in names:
        try:
            sent = app.send_task("tasks.fleet_check", queue=name, expires=DEEP_SECONDS)
            answer = sent.get(timeout=DEEP_SECONDS, interval=0.1)
        except Exception as error:  # a broker, a database or a worker that fails in its own way
            reason = f"no answer in {DEEP_SECONDS:g} s ({type(error).__name__}: {error})"
            yield Check(f"queue {name}", reason, f"start a worker on it: {START}, or see its log")
        else:
            missing = ", ".join(answer.get("variables_missing", ()))
            cure = f"set {missing}, which provider rows name, for the workers and restart them" if missing else ""
            yield Check(f"queue {name}", _answer(answer), cure)


def _answer(answer: dict[str, Any]) -> str:
    served = ", ".join(answer["queues"])
    latency = f"database {answer['database_ms']} ms, Redis {answer['redis_ms']} ms"
    return f"{answer['worker']} {answer['version']} serves {served}; {latency}"


def _first_free(name: str, host: str, first: int) -> str:
    from opspawn_site.fleet.ports import first_listener

    listener = first_listener(host, None, first, "--port")
    port = listener.getsockname()[1]
    listener.close()
    return f"{name} would get {port}"


def _show(check: Check) -> None:
    mark = "✗" if check.fix else "✓"
    fix = f"  → {check.fix}" if check.fix else ""
    print(f"{mark} {check.name:<14} {check.found}{fix}", flush=True)
