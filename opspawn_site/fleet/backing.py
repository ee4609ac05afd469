"""The database and Redis of a fleet: addresses from the environment, or embedded servers that belong to it."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from opspawn_site.environment import Environment
from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.ports import Claims
from opspawn_site.fleet.postgres import Postgres
from opspawn_site.fleet.process import rotate
from opspawn_site.fleet.supervisor import Part, Supervisor
from opspawn_site.fleet.valkey import Valkey

SECRETS = {"SECRET_KEY": "secret_key", "CREDENTIAL_KEYS": "credential_keys"}


class Backing:
    """What is embedded, decided once from the environment."""

    def __init__(self, folder: DataFolder, claims: Claims, *, throwaway: bool = False) -> None:
        values = Environment(os.environ)
        self._folder = folder
        self.embedded: dict[str, Postgres | Valkey] = {}
        if not values.text("DATABASE_URL"):
            self.embedded["postgres"] = Postgres(folder, claims.kept(folder, "postgres"), throwaway=throwaway)
        if not values.text("REDIS_URL"):
            self.embedded["redis"] = Valkey(folder, claims.kept(folder, "redis"), throwaway=throwaway)

    def export(self) -> None:
        """Put addresses and keys into the environment, where the settings read them. Before Django starts.

        Keys come from the data folder only with the folder's own database: what another database holds was
        encrypted with keys that are known elsewhere.
        """
        for variable, name in (("DATABASE_URL", "postgres"), ("REDIS_URL", "redis")):
            if name in self.embedded:
                os.environ[variable] = self.embedded[name].url
        values = Environment(os.environ)
        for variable, secret in SECRETS.items():
            if "postgres" in self.embedded and not values.secret(variable):
                os.environ[variable] = self._folder.secret(secret)

    def start(self, supervisor: Supervisor) -> None:
        """Start the servers; both come up at the same time."""
        for name, server in self.embedded.items():
            rotate(server.log)
            supervisor.start(Part(name, name, server.program, server.stop_signal))

    def wait(self, supervisor: Supervisor, pause: Callable[[float], None], ready: Callable[[str], None]) -> None:
        """Return when every server answers, embedded or not. Raises FleetError."""
        parts = {part.name: part for part in supervisor.parts}
        for name, server in self.embedded.items():
            server.wait(parts[name].death, pause)
            ready(name)
        for name, problem in problems().items():
            if problem and name not in self.embedded:
                raise FleetError(problem)


def problems() -> dict[str, str | None]:
    """What is wrong with the two addresses in the environment, by part; None where something answers."""
    redis = os.environ.get("REDIS_URL", "")
    return {
        "postgres": database_problem(os.environ["DATABASE_URL"]),
        "redis": redis_problem(redis) if redis else "REDIS_URL is not set",
    }


def database_problem(url: str) -> str | None:
    """Why the database does not answer, without its password; None when it does."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        return f"DATABASE_URL ({_shown(url)}) does not answer: {' '.join(str(error).split())}"
    return None


def redis_problem(url: str) -> str | None:
    """Why Redis does not answer, without its password; None when it does."""
    import redis

    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
        client.ping()
        client.close()
    except (redis.RedisError, OSError) as error:
        return f"REDIS_URL ({_shown(url)}) does not answer: {error}"
    return None


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def adopt(folder: DataFolder) -> bool:
    """Point this process at the fleet that runs in the folder, unless the environment names a database already.

    True when there is a database to talk to. Cheap: reads a few small files. Before Django starts.
    """
    if Environment(os.environ).text("DATABASE_URL"):
        return True
    line = folder.running()
    if line is None:
        return False
    join(folder, line)
    return True


def join(folder: DataFolder, line: Mapping[str, Any]) -> None:
    """Point this process at the fleet of that ready line, whatever the environment says. Before Django starts."""
    os.environ["DATABASE_URL"] = line["database_url"]
    os.environ["REDIS_URL"] = line["redis_url"]
    values = Environment(os.environ)
    for variable, secret in SECRETS.items():
        if not values.secret(variable) and (kept := folder.kept_secret(secret)):
            os.environ[variable] = kept
