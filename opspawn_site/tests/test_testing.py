"""A test run's own services: there before the settings, gone with the run, however it ends."""
from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import alive, clean_environment, data_folder, until

INNER = """
import os, pathlib, time
from django.conf import settings
from django.db import connection

def test_inner(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_postmaster_start_time(), current_setting('fsync')")
        assert cursor.fetchone()[1] == "off"
    assert settings.REDIS_URL.endswith("/0")
    place = pathlib.Path(os.environ["INNER_PLACE"])
    (place / "running").write_text(settings.DATABASE_URL)
    while not (place / "go-on").exists():
        time.sleep(0.05)
"""


class Run:
    """A pytest of its own, in a temporary folder of its own, that waits inside a test."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.place.mkdir()
        (place / "test_inner.py").write_text(INNER)
        (place / "tmp").mkdir()
        place.chmod(0o711)
        environment = clean_environment(INNER_PLACE=str(place), TMPDIR=str(place / "tmp"))
        command = [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "--rootdir", ".", str(place)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    def url(self) -> str:
        def written() -> str:
            assert self.process.poll() is None, self.process.communicate()[0]
            path = self.place / "running"
            return path.read_text() if path.exists() else ""

        return until(written, 60)

    def children(self) -> list[int]:
        return [one.pid for one in psutil.Process(self.process.pid).children(recursive=True)]


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    with data_folder() as folder:  # one that PostgreSQL's user can pass through
        yield folder.path


@pytest.mark.slow
def test_two_runs_at_once_have_services_of_their_own_which_end_with_them(place: pathlib.Path) -> None:
    runs = [Run(place / "one"), Run(place / "two")]
    assert runs[0].url() != runs[1].url()
    servers = [pid for run in runs for pid in run.children()]
    for run in runs:
        (run.place / "go-on").touch()
    for run in runs:
        said = run.process.communicate(timeout=30)[0]
        assert run.process.returncode == 0, said
        assert list((run.place / "tmp").glob("opspawn-test-*")) == []
    until(lambda: not any(alive(pid) for pid in servers), 5)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_or_killed_leaves_no_server(place: pathlib.Path, number: signal.Signals) -> None:
    run = Run(place / "one")
    run.url()
    servers = run.children()
    assert len(servers) > 2
    run.process.send_signal(number)
    run.process.communicate(timeout=30)
    until(lambda: not any(alive(pid) for pid in servers), 10)
