"""A Valkey of a test's own, that can be frozen and killed; and the counters in the tests' shared one."""
from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import tempfile
import time
from types import TracebackType

import redis
from django.conf import settings

from llm.admission import PREFIX
from opspawn_site.fleet.valkey import binary


def forget() -> None:
    """Remove every circuit and every count from the Redis that the tests share."""
    with redis.Redis.from_url(settings.REDIS_URL) as shared:
        for key in shared.scan_iter(f"{PREFIX}*"):
            shared.delete(key)


class OwnRedis:
    """`with OwnRedis() as server: server.url, server.freeze(), server.thaw(), server.kill(), server.start()`."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", self._folder.name]
        self._process = subprocess.Popen([str(pathlib.Path(binary())), *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise AssertionError("the Valkey of this test does not answer")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> OwnRedis:
        self._folder = tempfile.TemporaryDirectory(prefix="opspawn-valkey-")
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        self._folder.cleanup()
