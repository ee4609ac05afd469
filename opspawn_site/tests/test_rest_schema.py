"""The OpenAPI document says what is there and nothing else."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.core.management import call_command
from django.test import Client
from jsonschema import Draft202012Validator

from agents.config import CONFIG_SCHEMA
from agents.tests.factories import AgentVersionFactory
from agents.versions import create
from tasks.tests.clients import Consumer

IMPORTS = """
import json, sys
from opspawn_site import asgi
from django.test import Client
assert Client(headers={"host": "localhost"}).get("/api/schema/").status_code == 200
print(json.dumps([name for name in ("litellm", "mcp", "grpc", "openai", "flower") if name in sys.modules]))
"""


def document() -> dict[str, object]:
    response = Client().get("/api/schema/")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    return response.json()


def test_the_schema_is_valid_and_complete(tmp_path: object) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", f"{tmp_path}/schema.yaml")


def test_it_lists_exactly_what_there_is() -> None:
    paths = document()["paths"]
    found = {(method.upper(), path.removeprefix("/api/v1")) for path, item in paths.items() for method in item}  # type: ignore[attr-defined]
    assert found == {
        ("GET", "/tasks/"), ("POST", "/tasks/"), ("GET", "/tasks/{task_id}/"), ("GET", "/tasks/{task_id}/steps/"),
        ("GET", "/tasks/{task_id}/events/"), ("GET", "/tasks/{task_id}/stream/"),
        ("DELETE", "/tasks/{task_id}/"), ("GET", "/tasks/{task_id}/why/"), ("POST", "/tasks/{task_id}/resume/"),
        ("POST", "/tasks/{task_id}/cancel/"), ("POST", "/tasks/{task_id}/retry/"), ("GET", "/workers/"),
        ("GET", "/agents/"), ("POST", "/agents/"), ("GET", "/agents/{slug}/"), ("PATCH", "/agents/{slug}/"),
        ("GET", "/agents/{slug}/versions/"), ("GET", "/agents/{slug}/versions/{version}/"),
        ("POST", "/agents/{slug}/rollback/"),
        ("GET", "/providers/"), ("POST", "/providers/"), ("GET", "/providers/{label}/"),
        ("PATCH", "/providers/{label}/"), ("DELETE", "/providers/{label}/"), ("POST", "/providers/{label}/test/"),
        ("GET", "/budgets/"), ("POST", "/budgets/"),
        ("GET", "/budgets/{budget_id}/"), ("PATCH", "/budgets/{budget_id}/"), ("DELETE", "/budgets/{budget_id}/"),
        ("GET", "/prices/"), ("POST", "/prices/"), ("GET", "/prices/{model}/"), ("PATCH", "/prices/{model}/"),
        ("DELETE", "/prices/{model}/"), ("GET", "/usage/"),
    }  # fmt: skip


def test_every_operation_wants_a_key_and_answers_problems() -> None:
    schema = document()
    assert schema["openapi"] == "3.1.0"
    assert schema["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"  # type: ignore[index]
    for path, item in schema["paths"].items():  # type: ignore[attr-defined]
        for method, operation in item.items():
            assert operation["security"] == [{"apiKey": []}], (method, path)
            for status in ("400", "401", "403", "500", "503"):
                assert "application/problem+json" in operation["responses"][status]["content"]


@pytest.mark.django_db
def test_what_is_answered_fits_the_schema() -> None:
    create("echo", {"model": "scripted/echo"}, by="test")
    AgentVersionFactory()
    api = Consumer("admin")
    task = api.post("/tasks/", {"agent": "echo", "input_data": {"prompt": "x"}}).json()
    schema = document()
    answers = {
        "Task": task,
        "TaskDetail": api.get(f"/tasks/{task['task_id']}/?include=history").json(),
        "PaginatedTaskList": api.get("/tasks/").json(),
        "PaginatedEventList": api.get(f"/tasks/{task['task_id']}/events/").json(),
        "PaginatedAgentList": api.get("/agents/").json(),
        "Agent": api.get("/agents/echo/").json(),
        "Version": api.get("/agents/echo/versions/1/").json(),
        "Problem": api.get("/agents/nobody/").json(),
    }
    for name, answer in answers.items():
        whole = {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}
        Draft202012Validator(whole).validate(answer)


def test_the_schema_of_a_configuration_is_the_one_that_is_checked() -> None:
    shown = document()["components"]["schemas"]["NewAgentRequest"]  # type: ignore[index]
    assert set(shown["properties"]["config"]["properties"]) == set(CONFIG_SCHEMA["properties"])
    assert shown["additionalProperties"] is False


def test_the_web_process_imports_no_model_client() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
