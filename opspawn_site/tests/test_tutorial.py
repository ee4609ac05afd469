"""The tutorial is run: its commands, in one shell, against a fleet that `up` has started; its outputs are compared."""
from __future__ import annotations

import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from opspawn_site.tests.declared import ROOT, declared

TUTORIAL = ROOT / "docs" / "tutorials" / "first-agent.md"
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START_SECONDS = 90
END_SECONDS = 15
MARK = "--- block %d ---"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def blocks() -> list[tuple[str, str]]:
    """(info string, content) of each fenced block."""
    return FENCE.findall(TUTORIAL.read_text(encoding="utf-8"))


def clean_environment() -> dict[str, str]:
    """Without what the settings read: the fleet makes its own services and secrets. This Python comes first."""
    kept = {name: text for name, text in os.environ.items() if name.removesuffix("_FILE") not in declared()}
    bin_folder = str(pathlib.Path(sys.executable).parent)
    return kept | {"PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def ready_line(process: subprocess.Popen[str]) -> dict[str, object]:
    """The JSON line that says `ready`; fails with what was printed when it does not come in time."""
    assert process.stdout
    printed: list[str] = []
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if not select.select([process.stdout], [], [], 1)[0]:
            continue
        line = process.stdout.readline()
        printed.append(line)
        if line.startswith("{") and json.loads(line).get("event") == "ready":
            return json.loads(line)
        if not line and process.poll() is not None:
            break
    pytest.fail("the fleet did not get ready:\n" + "".join(printed))


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The data folder of a running fleet, which is ended as Ctrl-C ends it."""
    folder = tmp_path / "data"
    log = (tmp_path / "up.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--json", "--data-dir", str(folder)],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=log, text=True,
    )  # fmt: skip
    try:
        ready_line(process)
        yield folder
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_SECONDS)
        finally:
            process.kill()
            log.close()


def script() -> str:
    """All blocks of the second terminal, each announced by its number, so that outputs can be told apart."""
    parts = ["set -eu -o pipefail"]
    for number, (info, content) in enumerate(blocks()):
        if info == "sh":
            parts += [f"echo '{MARK % number}'", content]
    return "\n".join(parts)


def outputs(printed: str) -> dict[int, str]:
    pieces = re.split(r"^--- block (\d+) ---\n", printed, flags=re.MULTILINE)[1:]
    return {int(number): text for number, text in zip(pieces[::2], pieces[1::2], strict=True)}


def pattern(shown: str) -> str:
    """What a page shows, as a regular expression: `…` stands for anything."""
    return re.escape(shown.strip()).replace("…", ".*")


def test_the_first_terminal_starts_a_fleet() -> None:
    assert [content for info, content in blocks() if info == "sh first-terminal"] == ["./opspawn up\n"]


def test_every_command_of_the_tutorial_does_what_the_page_says(fleet: pathlib.Path) -> None:
    missing = [program for program in ("bash", "curl", "python3") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    done = subprocess.run(
        ["bash", "-c", script()], cwd=ROOT, env=clean_environment() | {"DATA_DIR": str(fleet)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    printed, compared = outputs(done.stdout), 0
    last = -1
    for number, (info, content) in enumerate(blocks()):
        if info == "sh":
            last = number
        elif info == "text":
            assert re.fullmatch(pattern(content), printed[last].strip(), re.DOTALL), f"{content}\n≠\n{printed[last]}"
            compared += 1
    assert compared >= 8
