"""Web, admin and commands start without the heavy packages that only workers need."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from opspawn_site.tests.declared import ROOT

HEAVY = ("litellm", "mcp", "grpc", "openai", "transformers", "torch", "numpy")

WEB = """
import django
django.setup()
from django.urls import get_resolver
import opspawn_site.asgi

def walk(patterns):
    for pattern in patterns:
        walk(getattr(pattern, "url_patterns", ()))
walk(get_resolver().url_patterns)
"""
ADMIN = """
from django.contrib import admin
assert admin.site._registry
from django.urls import reverse
reverse("admin:index")
for model_admin in admin.site._registry.values():
    model_admin.form
"""
SCHEMA = """
from drf_spectacular.generators import SchemaGenerator
assert SchemaGenerator().get_schema(public=True)["paths"]
"""
SAVING_AN_AGENT = """
from agents import config
from agents.tools import registry
assert list(registry.names())
assert not config.check({"model": "openai/gpt-4o-mini", "instructions": "Be brief.", "tools": ["calculator"]})
assert config.check({"tools": ["no_such_tool"]})
"""
CHECK = """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "check"])
"""
COMMANDS = """
from opspawn_site.cli import run
try:
    run(["doctor", "--help"])
except SystemExit:
    pass
"""
RESULT = """
import json, sys
print("loaded:" + json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""


def loaded_after(code: str) -> list[str]:
    """Which of the heavy packages a Python of its own has loaded when that code has run."""
    done = subprocess.run(
        [sys.executable, "-c", code + RESULT.format(heavy=HEAVY)], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "opspawn_site.settings"}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("loaded:")]
    return json.loads(lines[-1].removeprefix("loaded:"))


@pytest.mark.parametrize(
    "code",
    [WEB + ADMIN + SCHEMA + SAVING_AN_AGENT, CHECK, COMMANDS],
    ids=["the site and all that it answers", "a Django command", "a command of the fleet"],
)
def test_what_is_not_a_worker_never_loads_what_only_workers_need(code: str) -> None:
    assert loaded_after(code) == []


def test_a_heavy_package_that_is_loaded_is_seen() -> None:
    assert loaded_after("import mcp") == ["mcp"]
