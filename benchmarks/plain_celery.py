"""Plain Celery with `acks_late` under the faults of `./opspawn chaos` that concern workers and Redis, for comparison.

    python -m benchmarks.plain_celery [TASKS] [SEED]

Two workers (threads, 20 slots) on a Valkey of their own, `visibility_timeout` as long as the lease of `chaos`. Each
task does what the agent `proof-once` does: it waits as its model calls do and writes one effect to the ledger. Redis
keeps an append-only file, as the fleet's does. Printed: tasks that never ended, and effects that happened twice.
"""
from __future__ import annotations

import json
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from random import Random

from celery import Celery

from opspawn_site.chaos.faults import Faults
from opspawn_site.chaos.ledger import FOLDER, Ledger
from opspawn_site.fleet import parts
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.ports import Claims
from opspawn_site.fleet.process import Program
from opspawn_site.fleet.progress import Progress
from opspawn_site.fleet.supervisor import Backoff, Part, Signals, Supervisor
from opspawn_site.fleet.valkey import Valkey

LEASE_SECONDS = 6
GAP_SECONDS = (2.0, 9.0)
SETTLE_SECONDS = 60.0
WORKER = ("-m", "celery", "-A", "benchmarks.plain_celery", "worker", "--pool", "threads", "--concurrency", "20",
          "--without-gossip", "--without-mingle", "--loglevel", "ERROR")  # fmt: skip

app = Celery("plain", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:1/0"))
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, task_ignore_result=True,
    broker_connection_retry_on_startup=True, broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": LEASE_SECONDS, "socket_timeout": 5, "socket_connect_timeout": 2,
        "socket_keepalive": True, "health_check_interval": 10,
    },
)  # fmt: skip


@app.task(name="walk")  # the same in the workers and where this module is the program
def walk(number: int) -> None:
    """A model call, a tool with an effect, a model call."""
    ledger, key = Ledger(os.environ[FOLDER]), str(number)
    time.sleep(0.15 + 0.15)
    ledger.append("walk", key, "did")
    time.sleep(0.25 + 0.15)
    ledger.append("walk", key, "ended")


def main(tasks: int, seed: int) -> None:
    place = pathlib.Path(tempfile.mkdtemp(prefix="opspawn-plain-"))
    folder = DataFolder(place)
    folder.make()
    server = Valkey(folder, Claims().kept(folder, "redis"))
    os.environ |= {"REDIS_URL": server.url, FOLDER: str(place)}
    app.conf.update(broker_url=server.url)
    signals = Signals()
    supervisor = Supervisor(signals, Progress(), lambda: None)
    with signals:
        try:
            supervisor.start(Part("redis", "redis", server.program))
            server.wait(supervisor.parts[0].death, time.sleep)
            for name in ("worker-1", "worker-2"):
                supervisor.start(Part(name, "worker", partial(worker, folder, name)))
            for part in supervisor.parts:
                part.backoff = Backoff(first_seconds=0.3, most_seconds=1.0)
            print(json.dumps(trial(supervisor, server.url, Ledger(place), tasks, seed)))
        finally:
            supervisor.stop()
            shutil.rmtree(place, ignore_errors=True)


def worker(folder: DataFolder, name: str) -> Program:
    return parts.python(folder, name, *WORKER, "-n", f"{name}@%h")


def trial(supervisor: Supervisor, url: str, ledger: Ledger, tasks: int, seed: int) -> dict[str, object]:
    """Send the tasks over 85 % of the time and deal the faults over all of it, then wait for what still comes."""
    logging.disable(logging.CRITICAL)
    random, seconds = Random(seed), max(60.0, tasks / 200 * 60)
    faults = Faults(supervisor.parts, url, random, LEASE_SECONDS, lambda: None)
    began, next_at, sent = time.monotonic(), time.monotonic() + 2, 0
    while time.monotonic() < began + seconds:
        while sent < tasks and time.monotonic() > began + seconds * 0.85 * sent / tasks and send(sent):
            sent += 1
        if time.monotonic() >= next_at:
            _, lasting = faults.deal()
            next_at = time.monotonic() + lasting + random.uniform(*GAP_SECONDS)
        supervisor.pause(0.05)
        faults.tick()
    faults.end()
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        while sent < tasks and send(sent):
            sent += 1
        supervisor.pause(0.5)
    done = Counter((entry.key, entry.mark) for entry in ledger.entries())
    return {
        "tasks": tasks, "seed": seed, "sent": sent, "faults": sum(faults.counts.values()),
        "lost": sum(1 for number in range(sent) if not done[str(number), "ended"]),
        "effects_doubled": sum(1 for (_, mark), count in done.items() if mark == "did" and count > 1),
        "runs_too_many": sum(count - 1 for (_, mark), count in done.items() if mark == "did"),
    }  # fmt: skip


def send(number: int) -> bool:
    try:
        walk.apply_async((number,), retry=False)
    except Exception:  # Redis is away: again at the next look
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 7)
