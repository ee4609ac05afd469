"""What the tests of the fleet share: folders that PostgreSQL can reach, clean environments, real `up` processes."""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from opspawn_site.fleet import unprivileged
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.tests.declared import ROOT, declared


@contextlib.contextmanager
def data_folder() -> Iterator[DataFolder]:
    """A made data folder; as root the unprivileged user may pass through it, so that all data stays inside."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="opspawn-fleet-"))
    place.chmod(0o711)
    folder = DataFolder(place)
    folder.make()
    try:
        yield folder
    finally:
        shutil.rmtree(place, ignore_errors=True)
        forget_elsewhere(place)


def forget_elsewhere(place: pathlib.Path) -> None:
    """As root, PostgreSQL's data of a folder that only root can enter lies under /var/lib/opspawn."""
    if account := unprivileged.account():
        home = unprivileged.home_of(place, account)
        if home != place:
            shutil.rmtree(home, ignore_errors=True)


def clean_environment(**more: str) -> dict[str, str]:
    """Nothing that the settings read, so that a fleet makes its own services and secrets; and no `.env`."""
    kept = {name: text for name, text in os.environ.items() if name.removesuffix("_FILE") not in declared()}
    return kept | {"OPSPAWN_DOTENV": "off"} | more


def manage(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One command of manage.py, run to its end."""
    command = [sys.executable, "manage.py", *arguments]
    environment = clean_environment(**more)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)


def start_up(folder: pathlib.Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """`up --json` in that data folder; its progress goes to a file beside the folder's name."""
    command = [sys.executable, "manage.py", "up", "--json", "--data-dir", str(folder), *arguments]
    with progress_of(folder).open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(**more), stdout=subprocess.PIPE, stderr=log, text=True
        )


def progress_of(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.progress")


def ready_line(process: subprocess.Popen[str], folder: pathlib.Path) -> dict[str, Any]:
    """The first line on standard output."""
    assert process.stdout
    first = process.stdout.readline()
    assert first, f"no ready line:\n{progress_of(folder).read_text()}"
    line: dict[str, Any] = json.loads(first)
    return line


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `condition` returns as soon as it is true; fails when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
