#!/usr/bin/env python
"""Memory of each process of a fleet at rest.

Usage: python benchmarks/rss.py [--json] [--seconds N]      (from the repository root, in its environment)
Starts a fleet, runs one task, waits N seconds (default 10), and prints RSS and PSS in MiB. RSS counts pages that
processes share once for each of them, PSS (Linux) divides them; PostgreSQL's row holds its server and all its children.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1024**2


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process and its children in MiB; PSS 0 where the system does not tell."""
    rss = pss = 0.0
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            rss += one.memory_info().rss / MIB
            pss += getattr(one.memory_full_info(), "pss", 0) / MIB
    return rss, pss


def measure(seconds: float) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="opspawn-bench-") as folder:
        pathlib.Path(folder).chmod(0o711)  # as root, the user of PostgreSQL passes through: nothing is left elsewhere
        where = ["--data-dir", folder]
        command = [sys.executable, "manage.py", "up", "--json", *where]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
            assert up.stdout
            pids = json.loads(up.stdout.readline())["pids"]
            demo = [sys.executable, "manage.py", "demo", "--once", "--json", *where]
            subprocess.run(demo, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            time.sleep(seconds)
            found = {name: memory(pid) for name, (pid,) in named(pids).items()}
            own = psutil.Process(pids["supervisor"])
            found["supervisor"] = (own.memory_info().rss / MIB, own.memory_full_info().pss / MIB)
            up.send_signal(signal.SIGTERM)
    return {name: {"rss_mib": round(rss, 1), "pss_mib": round(pss, 1)} for name, (rss, pss) in found.items()}


def named(pids: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name: found for name, found in pids.items() if name != "supervisor" and found}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--seconds", type=float, default=10.0)
    options = asked.parse_args()
    found = measure(options.seconds)
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{'process':<12}{'RSS':>10}{'PSS':>10}   MiB")
    for name, values in found.items():
        print(f"{name:<12}{values['rss_mib']:>10.1f}{values['pss_mib']:>10.1f}")
    total = [sum(values[key] for values in found.values()) for key in ("rss_mib", "pss_mib")]
    print(f"{'all':<12}{total[0]:>10.1f}{total[1]:>10.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
