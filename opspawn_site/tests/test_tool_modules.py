"""Tools of one's own: there when TOOL_MODULES names their module, and never half there."""
from __future__ import annotations

import subprocess
import sys

from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import clean_environment, manage

LIST = "import django; django.setup(); from agents.tools import registry; print([one.name for one in registry.names()])"


def tools_with(modules: str) -> str:
    environment = clean_environment(DJANGO_SETTINGS_MODULE="opspawn_site.settings", TOOL_MODULES=modules)
    done = subprocess.run(
        [sys.executable, "-c", LIST], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_the_proof_tools_are_there_only_when_asked_for() -> None:
    assert "ledger_once" not in tools_with("")
    assert "ledger_once" in tools_with("opspawn_site.chaos.tools")


def test_a_module_that_cannot_be_imported_ends_the_start_with_its_name_and_the_cure() -> None:
    done = manage("check", TOOL_MODULES="opspawn_site.chaos.tools,no_such.tools")
    assert done.returncode == 1
    assert "TOOL_MODULES='no_such.tools': cannot be imported (ModuleNotFoundError" in done.stderr
    assert "Traceback" not in done.stderr
