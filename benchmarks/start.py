#!/usr/bin/env python
"""How long a start takes, phase by phase: the first in a fresh data folder, and a later one.

Usage: python benchmarks/start.py [--json]      (from the repository root, in its environment)
A phase ends when its part answers; parts start side by side, so the times overlap. Limits on two cores: 30 s for the
first start, 12 s for later ones. Exits 1 when one is missed.
"""
from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = {"first": 30.0, "later": 12.0}


def start_once(folder: str) -> dict[str, float]:
    """Seconds from the command to each part's answer and to the ready line; processor time until then; the end."""
    began = time.monotonic()
    command = [sys.executable, "manage.py", "up", "--json", "--data-dir", folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as up:
        assert up.stdout
        assert up.stderr
        if not up.stdout.readline():
            sys.exit(up.stderr.read())
        ready = time.monotonic() - began
        work = cpu_seconds(up.pid)
        up.send_signal(signal.SIGTERM)
        events = [json.loads(line) for line in up.stderr if line.startswith("{")]
    whole = time.monotonic() - began
    phases = {event["part"]: event["seconds"] for event in events if event["event"] == "started"}
    return {**phases, "ready": round(ready, 3), "cpu": round(work, 3), "end": round(whole - ready, 3)}


def cpu_seconds(pid: int) -> float:
    """What the fleet's processes have worked so far: unlike the times, it does not grow with the machine's load."""
    supervisor = psutil.Process(pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    return sum(one.cpu_times().user + one.cpu_times().system for one in family)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="opspawn-bench-") as folder:
        pathlib.Path(folder).chmod(0o711)  # as root, the user of PostgreSQL passes through: nothing is left elsewhere
        found = {name: start_once(folder) for name in LIMITS}
    late = [name for name, limit in LIMITS.items() if found[name]["ready"] > limit]
    if "--json" in sys.argv:
        print(json.dumps(found | {"missed": late}))
        return len(late) and 1
    print(f"{'phase':<12}" + "".join(f"{name:>10}" for name in found))
    for phase in found["first"]:
        print(f"{phase:<12}" + "".join(f"{times.get(phase, 0):>8.2f} s" for times in found.values()))
    for name, limit in LIMITS.items():
        print(f"{name} start: limit {limit:g} s, {'MISSED' if name in late else 'kept'}")
    return len(late) and 1


if __name__ == "__main__":
    sys.exit(main())
