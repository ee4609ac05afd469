"""The supervisor: what dies is started again with growing pauses, and at the end nothing is left."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.process import Program
from opspawn_site.fleet.progress import Progress
from opspawn_site.fleet.supervisor import Backoff, Part, Signals, Stopped, Supervisor
from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import alive, until


class Told(Progress):
    """Remembers what a person would have read."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def _line(self, text: str) -> None:
        self.lines.append(text)


class House:
    """A supervisor over shell scripts."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.told = Told()
        self.changes = 0
        self.supervisor = Supervisor(Signals(), self.told, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def program(self, script: str) -> Program:
        return Program(["/bin/sh", "-c", script], self.folder, self.folder / "part.log", {"PATH": os.defpath})

    def start(self, script: str, kind: str = "web") -> Part:
        part = Part(kind, kind, lambda: self.program(script), backoff=Backoff(first_seconds=0.1))
        self.supervisor.start(part)
        return part

    def log(self) -> str:
        return (self.folder / "part.log").read_text()

    def tick_until(self, condition) -> None:
        until(lambda: self.supervisor.tick() or condition())


@pytest.fixture
def house(tmp_path: pathlib.Path):
    made = House(tmp_path)
    yield made
    made.supervisor.stop()


def test_the_pause_doubles_to_half_a_minute_and_a_minute_of_life_ends_that() -> None:
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(59.9) == 30
    assert backoff.after(60) == 0.5
    assert backoff.after(1) == 1


def test_a_part_that_dies_is_started_again_and_said_so(house: House) -> None:
    part = house.start("exec sleep 60")
    assert part.process
    first = part.process.pid
    os.kill(first, signal.SIGKILL)
    house.tick_until(lambda: part.process and part.process.pid != first)
    assert house.supervisor.pids() == {"web": [part.process.pid]}
    assert house.told.lines == [
        "web died (killed by SIGKILL); starting it again in 0.1 s",
        f"web runs again (pid {part.process.pid})",
    ]
    assert house.changes == 2  # gone from up.json, and back in it


def test_a_dead_part_has_no_pid(house: House) -> None:
    part = house.start("exit 3")
    house.tick_until(lambda: part.restart_at is not None)
    assert house.supervisor.pids() == {"web": []}
    assert "web died (exit 3)" in house.told.lines[0]


def test_a_part_that_cannot_be_prepared_is_tried_again_later(house: House) -> None:
    part = house.start("exit 0")
    broken = house.program("exec sleep 60")
    tries = []

    def prepare() -> Program:
        tries.append(1)
        if len(tries) == 1:
            raise FleetError("the disk is full")
        return broken

    part.program = prepare
    house.tick_until(lambda: len(tries) == 2)
    assert "web died (the disk is full); starting it again in 0.2 s" in house.told.lines
    assert part.death() is None


def test_one_part_dying_for_ever_does_not_keep_another_from_coming_back(house: House) -> None:
    house.start("exit 1")
    good = house.start("exec sleep 60", kind="worker")
    assert good.process
    first = good.process.pid
    os.kill(first, signal.SIGKILL)
    house.tick_until(lambda: good.process and good.process.pid != first)


def test_at_the_end_also_what_ignores_the_signal_and_what_it_started_is_gone(house: House, monkeypatch) -> None:
    monkeypatch.setattr("opspawn_site.fleet.supervisor.WORK_ENDS_SECONDS", 0.5)
    part = house.start("trap '' TERM; sleep 61 & echo $!; while true; do sleep 1; done")
    child = int(until(lambda: house.log().strip()))
    started = time.monotonic()
    house.supervisor.stop()
    assert time.monotonic() - started < 3
    assert part.process
    assert part.process.returncode == -signal.SIGKILL
    until(lambda: not alive(child), 2)


def test_the_database_ends_after_everything_that_uses_it(house: House) -> None:
    house.start("trap 'echo postgres; exit 0' TERM; while true; do sleep 0.05; done", kind="postgres")
    house.start("trap 'sleep 0.3; echo web; exit 0' TERM; echo ready; while true; do sleep 0.05; done", kind="web")
    until(lambda: "ready" in house.log())
    house.supervisor.stop()
    assert house.log().split() == ["ready", "web", "postgres"]


def test_a_signal_interrupts_but_one_that_comes_while_held_is_kept_for_the_end() -> None:
    passed = []

    def work(signals: Signals) -> None:
        with signals.held():
            os.kill(os.getpid(), signal.SIGTERM)
            passed.append("all of what was held")
        passed.append("never")

    with Signals() as signals:
        with pytest.raises(Stopped):
            work(signals)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGHUP)
    assert passed == ["all of what was held"]


def test_a_program_that_cannot_be_run_says_so_in_its_log(house: House) -> None:
    process = Program(["/no/such/program"], house.folder, house.folder / "part.log").start()
    assert process.wait(10) == 1
    assert house.log() == "cannot run /no/such/program: No such file or directory\n"


def test_logs_are_for_their_owner_only(house: House) -> None:
    house.start("exec sleep 60")
    assert (house.folder / "part.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next `up` ends what is left")
def test_a_child_dies_with_a_supervisor_that_is_killed(tmp_path: pathlib.Path) -> None:
    script = (
        "import pathlib, sys, time\n"
        "from opspawn_site.fleet.process import Program\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "child = Program(['/bin/sh', '-c', 'exec sleep 62'], folder, folder / 'log', {}).start()\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    with parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        until(lambda: _name(child) == "sleep")  # the launcher has become the program
        parent.kill()
    until(lambda: not alive(child), 5)


def _name(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
