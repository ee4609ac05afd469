"""What a command costs before it does anything: CPU seconds of `manage.py check`, and its heaviest imports.

Usage: .venv/bin/python benchmarks/imports.py [--runs N] [--top N]
"""
from __future__ import annotations

import argparse
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHECK = [str(ROOT / "manage.py"), "check"]
IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|( +)(\S+)")


def cpu_seconds() -> float:
    """User and system time of one run, waited for by itself."""
    process = subprocess.Popen([sys.executable, *CHECK], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"manage.py check ended with {process.returncode}; run it to see why")
    return usage.ru_utime + usage.ru_stime


def heaviest(top: int) -> list[tuple[float, str]]:
    """(milliseconds, package): the own time of all modules of each top-level package, the largest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *CHECK], cwd=ROOT, capture_output=True, text=True, check=True
    )
    spent: dict[str, float] = {}
    for own, _, _, module in IMPORT_LINE.findall(done.stderr):
        package = module.split(".")[0]
        spent[package] = spent.get(package, 0) + int(own) / 1000
    return sorted(((milliseconds, package) for package, milliseconds in spent.items()), reverse=True)[:top]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--top", type=int, default=15)
    chosen = parser.parse_args()
    cpu_seconds()  # warms the page cache and writes the bytecode
    runs = sorted(cpu_seconds() for _ in range(chosen.runs))
    print(f"manage.py check: CPU seconds, median {runs[len(runs) // 2]:.2f}, least {runs[0]:.2f}, most {runs[-1]:.2f}")
    print("imports, own milliseconds by package:")
    for milliseconds, package in heaviest(chosen.top):
        print(f"  {milliseconds:8.1f}  {package}")


if __name__ == "__main__":
    main()
