"""What a durable task costs: CPU of the worker, CPU, WAL and commits of PostgreSQL, by number of steps.

    .venv/bin/python -m benchmarks.durable_task

Each task asks a local model server (0 ms, its own process) and calls `add_numbers` in turn, through every real part
but the broker: claim, journal, loop, gateway, LiteLLM, HTTP. `LiteLLM alone` are the same calls with the same growing
history, without anything of ours; `raw httpx` the same requests over one connection. They take turns, so that the
ratios hold when the machine's speed drifts. PostgreSQL is embedded and syncs its commits.
"""
from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
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
RUNS = 40
OWN_COMMITS = 2  # of reading the counters


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
    """Seconds of CPU that the processes of this PostgreSQL have used."""
    server = _server()
    return sum(_on_cpu(process.pid) for process in (server, *server.children()))


def _on_cpu(pid: int) -> float:
    """To the nanosecond, where psutil has ticks of 10 ms (Linux, sched-stats.txt)."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):  # it ended just now
        return 0.0


@cache
def _server() -> Any:
    import psutil
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return psutil.Process(cursor.fetchone()[0]).parent()


def counters() -> tuple[float, float]:
    """WAL position in bytes and commits so far."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0', pg_stat_get_db_xact_commit(oid) "
                       "FROM pg_database WHERE datname = current_database()")  # fmt: skip
        wal, commits = cursor.fetchone()
    return float(wal), float(commits)


def measured_in_turn(contenders: Mapping[str, Callable[[], None]], runs: int) -> dict[str, Cost]:
    """The median of so many runs of each, one after the other in turn: a machine that slows down slows all of them.

    Commits are a mean: PostgreSQL tells of them late.
    """
    for run in contenders.values():
        run()  # connections, prepared statements, imports
    seen: dict[str, list[Cost]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, run in contenders.items():
            seen[name].append(_cost_of(run))
    return {name: _middle(costs) for name, costs in seen.items()}


def _middle(costs: list[Cost]) -> Cost:
    middle = Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))
    return middle._replace(commits=statistics.mean(cost.commits for cost in costs))


def _cost_of(run: Callable[[], None]) -> Cost:
    wal, commits = counters()
    database, worker, wall = backends_cpu(), time.process_time(), time.perf_counter()
    run()
    wall, worker = time.perf_counter() - wall, time.process_time() - worker
    database = backends_cpu() - database
    wal_after, commits_after = counters()
    return Cost(worker * 1000, database * 1000, wall * 1000, wal_after - wal, commits_after - commits - OWN_COMMITS)


def contenders(base: str, turns: int) -> dict[str, Callable[[], None]]:
    """Submitting a task of that many model calls, executing it, and the same calls without anything of ours."""
    from django.conf import settings

    from agents import versions
    from tasks import lifecycle
    from tasks.execution import execute
    from tasks.models import Task

    settings.PROVIDER_KEYS["openai"], settings.PROVIDER_API_BASES["openai"] = "benchmark", base
    config = {"model": "openai/gpt-4o-mini", "tools": ["add_numbers"], "limits": {"max_steps": 1000}}
    slug = versions.create(f"bench-{turns}-{os.getpid()}", config, by="benchmark").slug
    submitted: list[str] = []

    def submit() -> None:
        asked = lifecycle.Submission(agent=slug, input_data={"prompt": "add"}, limits={"max_steps": 1000})
        submitted.append(lifecycle.submit(asked)[0].id)

    def run() -> None:
        execute(submitted[-1], "benchmark")

    def check() -> None:
        row = Task.objects.get(id=submitted[-1])
        if row.status != "completed" or row.steps_count != 2 * turns - 1:
            raise RuntimeError(f"{row.status} after {row.steps_count} steps: {row.error_message}")

    return {
        "submit": submit, "execute": run, "check": check,
        "litellm": litellm_alone(base, turns), "httpx": httpx_alone(base, turns),
    }  # fmt: skip


TOOL = {"name": "add_numbers", "description": "Add two numbers.", "parameters": {
    "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}  # fmt: skip
TOOLS = [{"type": "function", "function": TOOL}]
Conversation = list[dict[str, Any]]


def litellm_alone(base: str, turns: int) -> Callable[[], None]:
    """The same calls without a journal: LiteLLM with its base HTTP handler, and the history that grows."""
    from llm import litellm_calls

    litellm = litellm_calls.load()

    def ask(history: Conversation) -> dict[str, Any]:
        reply = litellm.completion(model="openai/gpt-4o-mini", messages=history, tools=TOOLS, api_base=base,
                                   api_key="benchmark", max_retries=0).choices[0].message  # fmt: skip
        made = [{"id": call.id, "type": "function", "function": call.function.model_dump()}
                for call in reply.tool_calls or []]  # fmt: skip
        return {"role": "assistant", "content": reply.content, "tool_calls": made or None}

    return lambda: _converse(ask, turns)


def httpx_alone(base: str, turns: int) -> Callable[[], None]:
    """The same requests over one connection, their answers read as JSON."""
    import httpx

    client = httpx.Client(headers={"Authorization": "Bearer benchmark"})

    def ask(history: Conversation) -> dict[str, Any]:
        body = {"model": "gpt-4o-mini", "messages": history, "tools": TOOLS}
        answer: dict[str, Any] = client.post(f"{base}/chat/completions", json=body).json()["choices"][0]["message"]
        return answer

    return lambda: _converse(ask, turns)


def _converse(ask: Callable[[Conversation], dict[str, Any]], turns: int) -> None:
    history: Conversation = [{"role": "user", "content": "add"}]
    for _ in range(turns):
        reply = ask(history)
        history.append(reply)
        for call in reply.get("tool_calls") or []:
            history.append({"role": "tool", "tool_call_id": call["id"], "content": '{"sum": 1}'})


def main() -> int:
    from opspawn_site import testing

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    end = testing.start(throwaway=False)
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
    per_step, alone = {}, 0.0
    for turns, runs in ((10, RUNS), (25, 8), (50, 4), (250, 1)):
        with model_server(turns) as base:
            costs = measured_in_turn(contenders(base, turns), runs)
        show(f"{turns} model + {turns - 1} tool calls", costs["execute"])
        per_step[turns] = costs["execute"].worker_ms / (2 * turns - 1)
        if turns == 10:
            show("  its submission", costs["submit"])
            show("  LiteLLM alone, the same calls", costs["litellm"])
            show("  raw httpx, the same requests", costs["httpx"])
            alone = costs["litellm"].worker_ms
            first = costs["execute"]
    print(f"\n10 model calls: worker {first.worker_ms / alone:.2f}, PostgreSQL {first.database_ms / alone:.2f} times "
          f"LiteLLM alone; 50: {per_step[50] * 99 / alone:.2f} times LiteLLM alone for 10")  # fmt: skip
    print(f"a step of the 499-step task costs {per_step[250] / per_step[10]:.2f} times one of the 19-step task")


def show(name: str, cost: Cost) -> None:
    print(f"{name:34s} {cost.worker_ms:7.1f} ms {cost.database_ms:10.1f} ms {cost.wall_ms:10.1f} ms "
          f"{cost.wal_bytes / 1024:7.1f} KB {cost.commits:7.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
