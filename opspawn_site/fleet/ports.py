"""Finding ports: the one that was asked for, the one of last time, or the first that is free."""
from __future__ import annotations

import errno
import json
import random
import socket
import sys

from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.folder import DataFolder, write_private

# Below the range that the system takes for outgoing connections (32768 up on Linux): a client that keeps knocking
# on a dead port of that range can end up connected to itself, and the server never gets its port back.
OWN_RANGE = (20_000, 32_000)
TRIES = 100


def listen(host: str, port: int) -> socket.socket | None:
    """A listening socket on that address, or None when the port is taken. Other failures are FleetErrors."""
    family, _, _, _, address = _resolve(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        cure = "use an address of this machine and a port that this user may open"
        raise FleetError(f"HOST={host!r}, port {port}: {error.strerror}; {cure}") from None
    return listener


def first_listener(host: str, asked: int | None, first: int, option: str) -> socket.socket:
    """A listener on `asked`, else on the first free port from `first` up."""
    if asked is not None:
        listener = listen(host, asked)
        if listener is None:
            raise FleetError(f"port {asked} is taken: stop what listens there, or choose another with {option}")
        return listener
    for port in range(first, first + TRIES):
        listener = listen(host, port)
        if listener is not None:
            return listener
    raise FleetError(f"no free port from {first} to {first + TRIES - 1}: choose one with {option}")


class Claims:
    """Ports that a child will open later. A claim is known to every other fleet of this machine and ends with us."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def first(self, host: str, asked: int | None, first: int, option: str) -> int:
        if asked is not None:
            if not self._claim(host, asked):
                raise FleetError(f"port {asked} is taken: stop what listens there, or choose another with {option}")
            return asked
        for port in range(first, first + TRIES):
            if self._claim(host, port):
                return port
        raise FleetError(f"no free port from {first} to {first + TRIES - 1}: choose one with {option}")

    def kept(self, folder: DataFolder, name: str) -> int:
        """The port that `name` had last time when it is still free, else a new one, which is remembered."""
        path = folder.path / "ports.json"
        try:
            known = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            known = {}
        port = known.get(name)
        if not (isinstance(port, int) and 0 < port < 65_536 and self._claim("127.0.0.1", port)):
            port = self._any()
            write_private(path, json.dumps(known | {name: port}) + "\n")
        return port

    def _any(self) -> int:
        for _ in range(TRIES):
            port = random.randrange(*OWN_RANGE)
            if self._claim("127.0.0.1", port):
                return port
        raise FleetError(f"no free port between {OWN_RANGE[0]} and {OWN_RANGE[1]}: free some")

    def _claim(self, host: str, port: int) -> bool:
        """Say that the port is ours by an abstract socket (Linux): no file, gone with the process."""
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) if sys.platform == "linux" else None
        try:
            if claim:
                claim.bind(f"\0opspawn-port-{port}")
            listener = listen(host, port)
        except OSError:
            listener = None
        if listener is None:
            if claim:
                claim.close()
            return False
        listener.close()
        if claim:
            self._held.append(claim)
        return True


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise FleetError(f"HOST={host!r} is not an address ({error.strerror}): use one of this machine") from None
    return found[0]
