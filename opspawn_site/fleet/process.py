"""Child processes: started by the launcher, written to a log, ended for certain."""
from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

LAUNCHER = str(pathlib.Path(__file__).with_name("launch.py"))


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine without a password of ours."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What is run, and how. No secret belongs in `arguments`: every user of the machine can read them."""

    arguments: Sequence[str]
    folder: pathlib.Path
    log: pathlib.Path
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    death_signal: signal.Signals = signal.SIGKILL  # sent when the supervisor is gone
    descriptors: tuple[int, ...] = ()
    nice: int = 0  # 0 to 19: how far it stands back when the machine is busy

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, so that a Ctrl-C on the terminal reaches the supervisor alone.

        Call this from the main thread: the death signal is sent when the *thread* that started a child ends.
        """
        uid, gid = (self.account.uid, self.account.gid) if self.account else (-1, -1)
        launch = [sys.executable, "-I", "-S", LAUNCHER, *map(str, (uid, gid, int(self.death_signal), self.nice))]
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            return subprocess.Popen(
                [*launch, str(os.getpid()), *self.arguments],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=self.descriptors,
            )


def rotate(log: pathlib.Path) -> None:
    """Begin a new log; the one of the start before is kept beside it."""
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def say(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started in its session, without asking."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def why_it_ended(code: int) -> str:
    """`exit 3` or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def living_in(folder: pathlib.Path, name: str) -> list[psutil.Process]:
    """Live processes called `name` whose working directory is that folder: the truth that a pid file only claims."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            other = process.name() != name or process.status() == psutil.STATUS_ZOMBIE
            if not other and pathlib.Path(process.cwd()) == folder.resolve():
                found.append(process)
    return found


def end_living(folder: pathlib.Path, name: str, *signals: tuple[signal.Signals, float]) -> None:
    """End what an earlier fleet left running there: each signal in turn, with seconds to obey, then SIGKILL."""
    for number, seconds in (*signals, (signal.SIGKILL, 5.0)):
        left = living_in(folder, name)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        psutil.wait_procs(left, timeout=seconds)
