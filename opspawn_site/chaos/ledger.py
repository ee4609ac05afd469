"""The ledger: an append-only file outside the system under test that says what really happened, and how often."""
from __future__ import annotations

import json
import os
import pathlib
import time
from dataclasses import asdict, dataclass

FOLDER = "OPSPAWN_LEDGER"  # in the environment of the workers
FILE = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `mark` is `began`, `did` (the effect itself) or `ended`; `key` is `task:step`."""

    tool: str
    key: str
    mark: str
    pid: int
    at: float  # seconds since the epoch


class Ledger:
    """Appended to by many processes, any of which may be killed between two lines, never within one."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(folder) / FILE

    def append(self, tool: str, key: str, mark: str) -> None:
        """Add a line in one write, which O_APPEND keeps whole among many writers."""
        line = json.dumps(asdict(Entry(tool, key, mark, os.getpid(), time.time()))) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """All lines, oldest first; none when nothing was written yet."""
        if not self.path.exists():
            return []
        return [Entry(**json.loads(line)) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def count(self, key: str, mark: str = "did") -> int:
        return sum(1 for entry in self.entries() if entry.key == key and entry.mark == mark)
