"""The data folder: secrets, remembered ports, logs, and the word of the fleet that runs in it."""
from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import time
from collections.abc import Iterator
from typing import Any

from opspawn_site.fleet.errors import FleetError, FolderInUse

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
DEFAULT = REPOSITORY / ".opspawn"
DATA = ("postgres", "postgres.new", "redis", "secrets", "logs", "ports.json", "up.json")  # all that `reset` removes
LOCK_PATIENCE_SECONDS = 1.0  # whoever only looks whether a fleet runs holds the lock for an instant


def write_private(path: pathlib.Path, text: str) -> None:
    """Replace the file in one move, so that no reader sees half of it; readable by its owner only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


class DataFolder:
    """One folder, one fleet. Nothing is made before `make`."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = pathlib.Path(path).expanduser().resolve() if path else DEFAULT

    def make(self) -> None:
        """Make the folder (0700) and its subfolders. A folder that was there keeps its rights."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("secrets", "logs"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            write_private(self.path / ".writable", "")
            (self.path / ".writable").unlink()
        except OSError as error:
            cure = "make it writable for this user, or choose another with --data-dir"
            raise FleetError(f"cannot write the data folder {self.path} ({error.strerror}): {cure}") from None

    # Who runs here.

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. The lock goes with the process, however it ends. Raises FolderInUse."""
        with self._open_lock() as file:
            deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
            while not _try_lock(file.fileno(), fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise FolderInUse(self.path, self.holder())
                time.sleep(0.05)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def holder(self) -> int | None:
        """The pid of the fleet that runs here, or None. A pid in the file alone proves nothing: the lock does."""
        try:
            with open(self.path / "lock", encoding="utf-8") as file:
                if _try_lock(file.fileno(), fcntl.LOCK_SH):
                    return None
                return int(file.read() or 0) or None
        except (OSError, ValueError):
            return None

    def running(self) -> dict[str, Any] | None:
        """The ready line of the fleet that runs here, or None."""
        if self.holder() is None:
            return None
        try:
            state: dict[str, Any] = json.loads((self.path / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        write_private(self.path / "up.json", json.dumps(state) + "\n")

    def last_state(self) -> dict[str, Any]:
        """What a fleet that did not end properly left behind, or {}."""
        try:
            state: dict[str, Any] = json.loads((self.path / "up.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state

    def forget_state(self) -> None:
        (self.path / "up.json").unlink(missing_ok=True)

    # What is kept.

    def secret(self, name: str) -> str:
        """The secret of that name, made the first time it is asked for."""
        path = self.path / "secrets" / name
        if not path.exists():
            write_private(path, fernet_key() if name == "credential_keys" else secrets.token_urlsafe(32))
        return self.kept_secret(name)

    def kept_secret(self, name: str) -> str:
        """The secret of that name, or '' when it was never made."""
        path = self.path / "secrets" / name
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise FleetError(f"cannot read {path} ({error.strerror}): run as the user who made it") from None

    def keep_secret(self, name: str, value: str) -> None:
        write_private(self.path / "secrets" / name, value)

    def log(self, name: str) -> pathlib.Path:
        return self.path / "logs" / f"{name}.log"

    def reset(self) -> None:
        """Remove everything a fleet keeps here. The caller holds the lock."""
        for name in DATA:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.make()

    def _open_lock(self) -> Any:
        return os.fdopen(os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
