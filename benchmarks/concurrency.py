"""A hundred tasks at once in one worker process: wall against the ideal, connections, memory per further task.

    .venv/bin/python -m benchmarks.concurrency [--tasks 100] [--calls 20] [--seconds 1]

Each task makes `--calls` model calls of `--seconds` each to a local server in OpenAI's protocol, with a tool call
between them. The worker is a real Celery worker on embedded services; its figures come from the operating system.
"""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import Any

import psutil

SERVER = """
import sys
from llm.tests.openai_server import OpenAIServer, text, tool_calls
calls, seconds = int(sys.argv[1]), float(sys.argv[2])

def answer(request):
    said = sum(message["role"] == "tool" for message in request.body["messages"])
    if said < calls - 1:
        return tool_calls(("add_numbers", {"a": said, "b": 1}), delay_seconds=seconds)
    return text("done", delay_seconds=seconds)

with OpenAIServer(answer) as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    from opspawn_site import testing

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opspawn_site.settings")
    end = testing.start()
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        program = [sys.executable, "-c", SERVER, str(asked.calls), str(asked.seconds)]
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            base = server.stdout.readline().strip()  # type: ignore[union-attr]
            measure(asked, base)
            server.stdin.close()  # type: ignore[union-attr]
    finally:
        end()
    return 0


def measure(asked: argparse.Namespace, base: str) -> None:
    from agents import versions
    from tasks.tests.workers import running_worker

    config = {"model": "openai/gpt-4o-mini", "tools": ["add_numbers"], "limits": {"max_steps": 1000}}
    versions.create("bench", config, by="benchmark")
    keys = {"OPENAI_API_KEY": "benchmark", "OPENAI_API_BASE": base, "WORKER_CONCURRENCY": str(asked.tasks),
            "TASK_LEASE_SECONDS": "30", "TASK_HEARTBEAT_SECONDS": "10", "TASK_SWEEP_SECONDS": "5"}  # fmt: skip
    with running_worker(**keys) as worker:
        process = psutil.Process(worker.process.pid)
        run(1)  # LiteLLM is imported
        at_rest = process.memory_info().rss
        cpu = sum(process.cpu_times()[:2])
        wall, most = run(asked.tasks, process)
        cpu = sum(process.cpu_times()[:2]) - cpu
    ideal = asked.calls * asked.seconds
    steps = asked.tasks * (2 * asked.calls - 1)
    print(f"{asked.tasks} tasks of {asked.calls} x {asked.seconds:g} s in one worker process")
    print(f"  wall              {wall:6.1f} s = {wall / ideal:.2f} times the ideal {ideal:g} s")
    print(f"  worker CPU        {cpu:6.1f} s = {1000 * cpu / steps:.2f} ms a step")
    print(f"  connections       {most['connections']:4.0f} to PostgreSQL at most")
    print(f"  RSS               {most['rss'] / 2**20:6.0f} MB at most, {at_rest / 2**20:.0f} after the first task, "
          f"{(most['rss'] - at_rest) / 2**20 / asked.tasks:.2f} MB for each further task")  # fmt: skip


def run(tasks: int, process: psutil.Process | None = None) -> tuple[float, dict[str, float]]:
    """Submit that many tasks and wait for their ends: seconds, and the most that was seen meanwhile."""
    from tasks import lifecycle
    from tasks.models import Task

    began = time.perf_counter()
    ids = [submitted(lifecycle) for _ in range(tasks)]
    most: dict[str, float] = {"connections": 0, "rss": 0}
    while Task.objects.filter(id__in=ids, status__in=["pending", "running"]).exists():
        if process is not None:
            most["connections"] = max(most["connections"], connections())
            most["rss"] = max(most["rss"], process.memory_info().rss)
        time.sleep(0.25)
    failed = Task.objects.filter(id__in=ids).exclude(status="completed").first()
    if failed is not None:
        raise RuntimeError(f"{failed.id} {failed.status}: {failed.error_message}")
    return time.perf_counter() - began, most


def submitted(lifecycle: Any) -> str:
    asked = lifecycle.Submission(agent="bench", input_data={"prompt": "add"})
    return str(lifecycle.submit(asked)[0].id)


def connections() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return int(cursor.fetchone()[0])


if __name__ == "__main__":
    sys.exit(main())
