"""What can keep a fleet from starting; each message names the cure and is printed as one line."""
from __future__ import annotations

import pathlib


class FleetError(Exception):
    """The fleet cannot do that."""


class FolderInUse(FleetError):
    """Another fleet runs in the data folder."""

    def __init__(self, folder: pathlib.Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{folder} is in use by {holder}: stop it, or give this fleet a folder of its own with --data-dir"
        )


class NoFleet(FleetError):
    """No fleet runs in the data folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(f"no fleet runs in {folder}: start one with ./opspawn up, or name its folder with --data-dir")


class PartFailed(FleetError):
    """A part did not start; `tail` holds the last lines of its log."""

    def __init__(self, part: str, reason: str, log: pathlib.Path | None = None) -> None:
        where = f" (log: {log})" if log else ""
        super().__init__(f"{part} did not start: {reason}{where}")
        self.tail = last_lines(log) if log else []


def last_lines(log: pathlib.Path, count: int = 15) -> list[str]:
    """The last lines of a text file, read from its last 32 KiB."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 32_768))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return []
