"""Become another program: under another user if asked, and never outliving the process that started it.

Run as a script: launch.py UID GID SIGNAL NICE PARENT PROGRAM [ARGUMENT …], with UID -1 for no change of user.
The death signal is set after the change of user, because that change clears it, and by a program of its own,
because code between fork and exec is not safe in a process with threads.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(uid: int, gid: int, signal_number: int, nice: int, parent: int, program: list[str]) -> None:
    os.umask(0o077)
    os.nice(nice)
    die_with_parent = death_signal() if sys.platform == "linux" else None  # while Python's library can be read
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if die_with_parent:
        die_with_parent(signal_number)
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    try:
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


def death_signal() -> Callable[[int], object]:
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda number: prctl(PR_SET_PDEATHSIG, number)


if __name__ == "__main__":
    uid, gid, number, nice, parent = map(int, sys.argv[1:6])
    main(uid, gid, number, nice, parent, sys.argv[6:])
