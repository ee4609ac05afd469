"""An embedded PostgreSQL: made once, started as a child, believed only when it answers."""
from __future__ import annotations

import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from opspawn_site.fleet import unprivileged
from opspawn_site.fleet.errors import PartFailed
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.process import Program, end_living

ADMIN = "postgres"  # the superuser: makes the role, the database and the extension, and is used for nothing else
NAME = "opspawn"  # the database and the role that owns it
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
INITDB = (
    "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8", "--no-instructions",
)  # fmt: skip
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# SIGINT: fast shutdown. SIGQUIT: immediate, the next start recovers (PostgreSQL manual, 18.5).
LEFTOVERS_END = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 3.0))


class Postgres:
    """One data directory and the server on it."""

    stop_signal = signal.SIGINT

    def __init__(self, folder: DataFolder, port: int, *, throwaway: bool = False) -> None:
        self._folder = folder
        self._throwaway = throwaway
        self.port = port
        self._account = unprivileged.account()
        self._home = unprivileged.home_of(folder.path, self._account)
        self.data = self._home / "postgres"
        self.log = folder.log("postgres")

    @property
    def url(self) -> str:
        return self._url(NAME, NAME, "database")

    def program(self) -> Program:
        """The server, after whatever an earlier one left behind is ended. Makes the data directory when new."""
        self._end_leftovers()
        if self._home != self._folder.path:
            unprivileged.make(self._home)
        programs = unprivileged.programs(self._home, self._account)
        self._own_the_data()
        if not (self.data / "PG_VERSION").exists():
            self._create(programs)
        settings = SETTINGS | {"port": str(self.port)} | (THROWAWAY if self._throwaway else {})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._program([str(programs / "postgres"), "-D", str(self.data), *options], self.data)

    def wait(self, died: Callable[[], str | None], pause: Callable[[float], None], seconds: float = 60) -> None:
        """Return when the server takes the password, has the role, the database and the extension."""
        deadline = time.monotonic() + seconds
        while True:
            problem = self._problem()
            if problem is None:
                return
            if reason := died():
                raise PartFailed("postgres", reason, self.log)
            if "password authentication failed" in problem:
                cure = f"{self.data} was made with other secrets: put those back, or start over with demo --reset"
                raise PartFailed("postgres", cure)
            if time.monotonic() > deadline:
                raise PartFailed("postgres", f"no answer in {seconds:g} s: {problem}", self.log)
            pause(0.05)

    def remove(self) -> None:
        """End what runs on the data and remove all of it."""
        self._end_leftovers()
        for path in (self.data, self.data.with_name("postgres.new"), self.data.with_name("postgres.old")):
            shutil.rmtree(path, ignore_errors=True)
        if self._home != self._folder.path:
            shutil.rmtree(self._home, ignore_errors=True)

    def _url(self, database: str, user: str, secret: str) -> str:
        return f"postgresql://{user}:{quote(self._folder.secret(secret))}@127.0.0.1:{self.port}/{database}"

    def _program(self, arguments: list[str], folder: pathlib.Path) -> Program:
        death = signal.SIGQUIT if self._throwaway else signal.SIGINT
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        return Program(arguments, folder, self.log, environment, self._account, death)

    def _end_leftovers(self) -> None:
        """End every server process on this data, orphaned backends too, then take away the pid file.

        The pid in it may be a zombie's, or by now another program's: PostgreSQL would believe it and not start.
        """
        if self.data.exists():
            end_living(self.data, "postgres", *LEFTOVERS_END)
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _own_the_data(self) -> None:
        """Set data aside that belongs to a data folder of the same path which has been removed since."""
        if self._home == self._folder.path:
            return
        mark, owner = self._home / "owner", f"{self._folder.secret('folder_id')}\n{self._folder.path}\n"
        if self.data.exists() and (not mark.exists() or mark.read_text() != owner):
            old = self.data.with_name("postgres.old")
            shutil.rmtree(old, ignore_errors=True)
            self.data.rename(old)
        mark.write_text(owner)

    def _create(self, programs: pathlib.Path) -> None:
        """initdb beside the place and move it there, so that an interrupted one is begun again."""
        draft, password = self.data.with_name("postgres.new"), self._home / ".password"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._folder.secret("database_admin") + "\n")
        if self._account:
            for path in (draft, password):
                os.chown(path, self._account.uid, self._account.gid)
        arguments = [str(programs / "initdb"), "-D", str(draft), f"--pwfile={password}", *INITDB]
        arguments += ["--no-sync"] if self._throwaway else []
        try:
            code = self._program(arguments, draft).start().wait()
        finally:
            password.unlink(missing_ok=True)
        if code:
            raise PartFailed("postgres", f"initdb ended with {code}", self.log)
        draft.rename(self.data)

    def _problem(self) -> str | None:
        """None when everything is in place; what a fresh server lacks is made on the way."""
        import psycopg

        try:
            self._prepare(psycopg)
        except psycopg.OperationalError as error:
            return str(error).strip()
        return None

    def _prepare(self, psycopg: Any) -> None:
        """The extension goes into template1, so that databases made later by the plain role (tests) have it too."""
        with psycopg.connect(self._url("template1", ADMIN, "database_admin"), autocommit=True, connect_timeout=3) as db:
            made = db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone()
            if made:
                return
            db.execute("CREATE EXTENSION IF NOT EXISTS vector")
            if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME]).fetchone():
                db.execute(f"CREATE ROLE {NAME} LOGIN CREATEDB")
            password = psycopg.sql.Literal(self._folder.secret("database"))
            db.execute(psycopg.sql.SQL(f"ALTER ROLE {NAME} PASSWORD {{}}").format(password))
        with psycopg.connect(self._url(ADMIN, ADMIN, "database_admin"), autocommit=True, connect_timeout=3) as db:
            db.execute(f"CREATE DATABASE {NAME} OWNER {NAME}")

