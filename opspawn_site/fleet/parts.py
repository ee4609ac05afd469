"""The processes that do the work: web, workers, Flower; how each is run and how it shows that it is ready."""
from __future__ import annotations

import base64
import http.client
import os
import socket
import sys
from collections.abc import Mapping

from opspawn_site.fleet.folder import REPOSITORY, DataFolder
from opspawn_site.fleet.process import Program

FLOWER_USER = "ops"
MARK = "OPSPAWN_FLEET"  # in the environment of every child: the data folder it belongs to
WORKER = ("-m", "celery", "-A", "opspawn_site.celery", "worker")
FLOWER_COLUMNS = "args,state,received,runtime,worker,uuid"  # `args` shows the task's id and its agent
FLOWER = ("-m", "celery", "-A", "opspawn_site.fleet.monitor", "flower")
STAND_BACK = 5  # a machine that is busy with tasks still answers those who submit and watch them
# Two malloc arenas instead of eight a core: a process of a hundred threads stays tens of megabytes smaller.
LEAN = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}


def environment(folder: DataFolder, **more: str) -> dict[str, str]:
    return {**os.environ, **LEAN, MARK: str(folder.path), **more}


def python(folder: DataFolder, name: str, *arguments: str, more: Mapping[str, str] | None = None,
           descriptors: tuple[int, ...] = (), nice: int = 0) -> Program:  # fmt: skip
    command, given = [sys.executable, *arguments], environment(folder, **(more or {}))
    return Program(command, REPOSITORY, folder.log(name), given, descriptors=descriptors, nice=nice)


def web(folder: DataFolder, listener: socket.socket) -> Program:
    descriptor = listener.fileno()
    return python(folder, "web", "-m", "opspawn_site.fleet.web", str(descriptor), descriptors=(descriptor,))


def worker(folder: DataFolder, name: str, queues: list[str]) -> Program:
    options = ("--pool", "threads", "-Q", ",".join(queues), "-n", f"{name}@%h", "--without-gossip", "--without-mingle")
    return python(folder, name, *WORKER, *options, nice=STAND_BACK)


def flower(folder: DataFolder, host: str, port: int) -> Program:
    """Its password and the broker's address travel in the environment, not in the arguments."""
    options = (f"--address={host}", f"--port={port}", "--read_only=True", "--persistent=False")
    more = {
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{folder.secret('flower')}",
        "FLOWER_TASKS_COLUMNS": FLOWER_COLUMNS,
    }
    return python(folder, "flower", *FLOWER, *options, more=more, nice=STAND_BACK)


def get(host: str, port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body; status 0 when nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, type(error).__name__
    finally:
        connection.close()


def web_problem(host: str, port: int) -> str | None:
    status, body = get(host, port, "/readyz")
    return None if status == 200 else f"/readyz answers {status} {body[:300]}"


def flower_problem(host: str, port: int, password: str) -> str | None:
    token = base64.b64encode(f"{FLOWER_USER}:{password}".encode()).decode()
    status, body = get(host, port, "/workers", {"Authorization": f"Basic {token}"})
    return None if status == 200 else f"Flower answers {status} {body[:100]}"


def worker_problem(name: str) -> str | None:
    """Ask the worker of that name for a pong. Needs django.setup()."""
    from celery.utils.nodenames import gethostname

    from opspawn_site.celery import app

    asked = f"{name}@{gethostname()}"
    try:
        answers = app.control.ping(destination=[asked], timeout=0.5, limit=1) or []
    except OSError as error:
        return f"Redis does not answer: {error}"
    return None if any(asked in answer for answer in answers) else f"no pong from {asked}"
