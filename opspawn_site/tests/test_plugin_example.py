"""The example package of the documentation: installed by pip, found by the fleet, and used by a worker."""
from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

from agents import versions
from agents.tests.plugins import Install, install, look_anew, write_package
from agents.tools.registry import REGISTRY
from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import manage
from tasks.models import Step
from tasks.tests.walking import ended, submit
from tasks.tests.workers import running_worker

__all__ = ["install"]

EXAMPLE = ROOT / "docs" / "examples" / "opspawn-plugin-example"
UNREACHABLE = ("Could not find a version", "Temporary failure", "NewConnectionError", "No matching distribution")
COUNT = {"tool_calls": [{"name": "count_words", "arguments": {"text": "one two three"}}]}


@pytest.fixture
def installed(install: Install, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder that pip put the example into, on this process's path."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(EXAMPLE, source)  # pip builds in the folder
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if "No module named pip" in done.stderr or any(words in done.stderr for words in UNREACHABLE):
        pytest.skip("pip, or the package index with setuptools, cannot be had here")
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(target))
    look_anew()
    return target


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_example_s_planner_and_tool_are_used_by_a_worker(installed: pathlib.Path) -> None:
    script = [COUNT, {"text": "Two words."}, {"text": "Three words."}]
    config = {"model": "scripted/list", "provider_options": {"script": script}, "planner": "second_opinion",
              "tools": ["count_words"]}  # fmt: skip
    versions.create("counter", config, by="test")

    with running_worker(PYTHONPATH=str(installed)):
        task = ended(submit("counter"))

    assert (task.status, task.result) == ("completed", {"agent_outcome": "Three words."})
    steps = list(Step.objects.filter(task=task).order_by("seq"))
    assert [step.kind for step in steps] == ["llm", "tool", "llm", "llm"]
    assert (steps[1].name, steps[1].output) == ("count_words", {"words": 3})
    assert "Check your answer" in steps[3].input["messages"][0]["content"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_broken_package_is_logged_fails_its_agents_and_the_worker_goes_on(
    install: Install, tmp_path: pathlib.Path
) -> None:
    points = "[opspawn.planners]\nbroken = broken_planner:Broken\n[opspawn.tools]\nt = broken_tools\n"
    fine = "from agents.planners.native import NativePlanner as Broken"
    folder = install("broken", points, broken_planner=fine, broken_tools="import no_such_module")
    script = {"script": [{"tool_calls": [{"name": "add_numbers", "arguments": {"a": 5, "b": 3}}]}, {"text": "8"}]}
    scripted = {"model": "scripted/list", "provider_options": script, "tools": ["add_numbers"]}
    versions.create("victim", scripted | {"planner": "broken"}, by="test")
    versions.create("bystander", scripted, by="test")
    (folder / "broken_planner.py").write_text("raise RuntimeError('it broke since')")

    with running_worker(PYTHONPATH=str(folder)) as worker:
        victim, bystander = ended(submit("victim")), ended(submit("bystander"))
        log = worker.log.read_text()

    assert (victim.status, victim.error_code) == ("failed", "invalid_agent_config")
    assert "it cannot be loaded (RuntimeError: it broke since)" in (victim.error_message or "")
    assert (bystander.status, bystander.result) == ("completed", {"agent_outcome": "8"})
    assert "opspawn.tools 't' of broken 1.0 (broken_tools) is not used: it cannot be loaded (ModuleNotFoundError" in log


def test_doctor_names_what_packages_add_and_what_is_wrong_with_it(tmp_path: pathlib.Path) -> None:
    fine, bad = tmp_path / "fine", tmp_path / "bad"
    write_package(fine, "fine", "[opspawn.tools]\nfine = fine_tools\n", fine_tools="")
    write_package(bad, "bad", "[opspawn.planners]\nnative = x:Y\nbad = bad_planner:Bad\n", bad_planner="1 / 0")

    done = manage("doctor", "--data-dir", str(tmp_path / "none"), PYTHONPATH=f"{fine}:{bad}")

    lines = [line for line in done.stdout.splitlines() if " plugins " in line]
    assert "✓ plugins        tools fine of fine 1.0" in lines
    assert any(line.startswith("✗") and "the name 'native' is Opspawn's own" in line for line in lines)
    assert any("bad_planner:Bad) is not used: it cannot be loaded (ZeroDivisionError" in line
               and line.endswith("→ repair or uninstall bad, and restart the fleet") for line in lines)  # fmt: skip
    assert "Traceback" not in done.stdout


def test_doctor_says_that_nothing_is_added_where_nothing_is(tmp_path: pathlib.Path) -> None:
    done = manage("doctor", "--data-dir", str(tmp_path / "none"))

    assert "no installed package adds planners or tools" in done.stdout
    assert "calculator" in [listed.name for listed in REGISTRY.names()]
