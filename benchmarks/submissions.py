"""Submitting: latency of POST /tasks/ at a steady rate on one web process, also while Redis is frozen.

    .venv/bin/python benchmarks/submissions.py [--rate 100] [--seconds 20]

Starts a fleet of its own in a temporary folder. The clock of each request starts when it is due, not when it is
sent, so that a server that falls behind cannot hide it.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx
import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
BODY = {"agent": "bench", "input_data": {"prompt": "hello"}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="opspawn-bench-") as place:
        command = [sys.executable, str(ROOT / "manage.py"), "up", "--json", "--data-dir", place]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as fleet:
            try:
                asyncio.run(measure(json.loads(fleet.stdout.readline()), asked))  # type: ignore[union-attr]
            finally:
                fleet.terminate()
    return 0


async def measure(ready: dict[str, Any], asked: argparse.Namespace) -> None:
    headers = {"Authorization": f"Bearer {ready['api_key']}"}
    async with httpx.AsyncClient(base_url=ready["api"], headers=headers, timeout=30) as client:
        await client.post("/agents/", json={"slug": "bench", "config": {"model": "scripted/echo"}})
        await steady(client, asked.rate, 2)  # warm
        await report("Redis answers", client, ready, asked)
        [redis] = ready["pids"]["redis"]
        os.kill(redis, signal.SIGSTOP)
        try:
            await report("Redis is frozen", client, ready, asked)
        finally:
            os.kill(redis, signal.SIGCONT)


async def report(name: str, client: httpx.AsyncClient, ready: dict[str, Any], asked: argparse.Namespace) -> None:
    web = psutil.Process(ready["pids"]["web"][0])
    cpu = sum(web.cpu_times()[:2])
    seconds, refused = await steady(client, asked.rate, asked.seconds)
    cpu = sum(web.cpu_times()[:2]) - cpu
    cuts = statistics.quantiles(seconds, n=100)
    print(f"{name:16s} {len(seconds)} POSTs at {asked.rate:g}/s, {refused} not 201: p50 {cuts[49] * 1000:.0f} ms, "
          f"p95 {cuts[94] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms; "
          f"web CPU {cpu / len(seconds) * 1000:.1f} ms a POST", flush=True)  # fmt: skip


async def steady(client: httpx.AsyncClient, rate: float, seconds: float) -> tuple[list[float], int]:
    """Latency of each request in seconds, and how many were not answered 201."""
    began = time.perf_counter()
    answers = await asyncio.gather(*(one(client, began + n / rate) for n in range(int(rate * seconds))))
    return [latency for latency, _ in answers], sum(status != 201 for _, status in answers)


async def one(client: httpx.AsyncClient, due: float) -> tuple[float, int]:
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    answer = await client.post("/tasks/", json=BODY)
    return time.perf_counter() - due, answer.status_code


if __name__ == "__main__":
    sys.exit(main())
