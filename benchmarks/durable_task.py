"""What a durable task costs: CPU of the worker, CPU, WAL and commits of PostgreSQL, by number of steps.

    .venv/bin/python -m benchmarks.durable_task

Each task asks a local model server (0 ms, its own process) and calls `add_numbers` in turn, through every real part
but the broker: claim, journal, loop, gateway, LiteLLM, HTTP. `LiteLLM alone` are the same calls with the same growing
history, without anything of ours; `raw httpx` the same requests over one connection. All in one run, so that the
ratios hold when the machine's speed drifts. PostgreSQL is embedded and syncs its commits (fsync on).
"""
from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

SERVER = """
import sys, time
from llm.tests.openai_server import OpenAIServer, Request, text, tool_calls
turns = int(sys.argv[1])

def answer(request):
    said = sum(message["role"] == "tool" for message in request.body["messages"])
    return tool_calls(("add_numbers", {"a": said, "b": 1})) if said < turns - 1 else text("done")

with OpenAIServer(answer) as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""
RUNS = 20


class Cost(NamedTuple):
    """Per task: milliseconds of CPU here and in PostgreSQL, wall, WAL bytes and commits."""

    worker_ms: float
    database_ms: float
    wall_ms: float
    wal_bytes: float
    commits: float


@contextmanager
def model_server(turns: int) -> Iterator[str]:
    """A server whose conversation takes that many model calls; the address of its API."""
    program = [sys.executable, "-c", SERVER, str(turns)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def backends_cpu() -> float:
    """Seconds of CPU that PostgreSQL's processes have used, those that ended included."""
    import psutil

    total = 0.0
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "postgres":
            times = process.cpu_times()
            total += times.user + times.system
            if process.parent() is None or process.parent().name() != "postgres":
                total += times.children_user + times.children_system
    return total


def counters() -> tuple[float, float]:
    """WAL position in bytes and commits so far."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0', pg_stat_get_db_xact_commit(oid) "
                       "FROM pg_database WHERE datname = current_database()")  # fmt: skip
        wal, commits = cursor.fetchone()
    return float(wal), float(commits)


def measured(run: Callable[[], None], runs: int) -> Cost:
    run()  # connections, prepared imports
    wal, commits = counters()
    database, worker, wall = backends_cpu(), time.process_time(), time.perf_counter()
    for _ in range(runs):
        run()
    wall, worker = time.perf_counter() - wall, time.process_time() - worker
    database = backends_cpu() - database
    wal_after, commits_after = counters()
    each = (worker * 1000, database * 1000, wall * 1000, wal_after - wal, commits_after - commits)
    return Cost(*(value / runs for value in each))


def durable(base: str, turns: int) -> Callable[[], None]:
    """Submit and execute one task of that many model calls."""
    from django.conf import settings

    from agents import versions
    from tasks import lifecycle
    from tasks.execution import execute
    from tasks.models import Task

    settings.PROVIDER_KEYS["openai"], settings.PROVIDER_API_BASES["openai"] = "benchmark", base
    config = {"model": "openai/gpt-4o-mini", "tools": ["add_numbers"], "limits": {"max_steps": 1000}}
    slug = versions.create(f"bench-{turns}-{os.getpid()}", config, by="benchmark").slug

    def run() -> None:
        asked = lifecycle.Submission(agent=slug, input_data={"prompt": "add"}, limits={"max_steps": 1000})
        task, _ = lifecycle.submit(asked)
        execute(task.id, "benchmark")
        row = Task.objects.get(id=task.id)
        if row.status != "completed" or row.steps_count != 2 * turns - 1:
            raise RuntimeError(f"{row.status} after {row.steps_count} steps: {row.error_message}")

    return run


def litellm_alone(base: str, turns: int) -> Callable[[], None]:
    """The same calls without a journal: LiteLLM with its base HTTP handler, and the history that grows."""
    from llm import litellm_calls

    litellm = litellm_calls.load()
    tool = {"name": "add_numbers", "description": "Add two numbers.", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}  # fmt: skip

    def run() -> None:
        history: list[dict[str, Any]] = [{"role": "user", "content": "add"}]
        for _ in range(turns):
            reply = litellm.completion(
                model="openai/gpt-4o-mini", messages=history, tools=[{"type": "function", "function": tool}],
                api_base=base, api_key="benchmark", max_retries=0,
            ).choices[0].message  # fmt: skip
            history.append({"role": "assistant", "content": reply.content, "tool_calls": [
                {"id": call.id, "type": "function", "function": {"name": call.function.name,
                 "arguments": call.function.arguments}} for call in reply.tool_calls or []] or None})  # fmt: skip
            for call in reply.tool_calls or []:
                history.append({"role": "tool", "tool_call_id": call.id, "content": '{"sum": 1}'})

    return run


def main() -> int:
    from opspawn_site import testing

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    end = testing.start()
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        report()
    finally:
        end()
    return 0


def report() -> None:
    print(f"{'per task':34s} worker CPU   PostgreSQL CPU    wall     WAL      commits")
    per_step = {}
    for turns, runs in ((10, RUNS), (25, 8), (50, 4), (250, 1)):
        with model_server(turns) as base:
            cost = measured(durable(base, turns), runs)
            show(f"durable, {turns} model + {turns - 1} tool calls", cost)
            per_step[turns] = cost.worker_ms / (2 * turns - 1)
            if turns == 10:
                show("LiteLLM alone, the same calls", measured(litellm_alone(base, turns), runs))
    print(f"\na step of the 499-step task costs {per_step[250] / per_step[10]:.2f} times one of the 19-step task")


def show(name: str, cost: Cost) -> None:
    print(f"{name:34s} {cost.worker_ms:7.1f} ms {cost.database_ms:10.1f} ms {cost.wall_ms:10.1f} ms "
          f"{cost.wal_bytes / 1024:7.1f} KB {cost.commits:7.1f}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
