"""docker-compose.yml and the Dockerfile against the Compose Specification, the settings and the real tree."""
from __future__ import annotations

import asyncio
import base64
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve
from django.utils.module_loading import import_string
from flower.urls import handlers

from opspawn_site.fleet import parts
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.tests.declared import ROOT, declared

SCHEMA = pathlib.Path(__file__).parent / "data" / "compose-spec.json"
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
GUIDE = ROOT / "docs" / "how-to" / "deploy-with-compose.md"
OURS = ("migrate", "web", "worker", "flower")
REQUIRED = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD", "SECRET_KEY", "CREDENTIAL_KEYS"}
OF_THE_FILE = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_PASSWORD", "WEB_PORT", "FLOWER_PORT"}
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_0-9]+)(?:(:?[-?])([^}]*))?\}")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|KEY|AUTH")


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_file_is_valid_by_the_compose_specification() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(compose())


def test_every_variable_is_a_setting_or_explained_in_the_guide() -> None:
    used = {name for name, _, _ in VARIABLE.findall(COMPOSE.read_text(encoding="utf-8"))}
    assert used <= set(declared()) | OF_THE_FILE
    guide = GUIDE.read_text(encoding="utf-8")
    assert not [name for name in OF_THE_FILE | REQUIRED if f"`{name}`" not in guide]


def test_what_a_container_is_given_is_read_by_the_settings() -> None:
    flower = {"FLOWER_BASIC_AUTH", "FLOWER_READ_ONLY", "FLOWER_TASKS_COLUMNS"}  # read by Flower itself
    for name in OURS:
        assert set(services()[name]["environment"]) - flower <= set(declared()), name


def test_every_setting_that_an_operator_may_change_reaches_the_worker() -> None:
    of_the_image = {"DEBUG", "HOST"}
    assert set(declared()) - of_the_image <= set(services()["worker"]["environment"])


def given(name: str) -> dict[str, str]:
    """A service's environment with the required variables filled in and the others at their defaults."""
    fernet = base64.urlsafe_b64encode(bytes(32)).decode()
    return {
        variable: VARIABLE.sub(
            lambda found: fernet if found[1] == "CREDENTIAL_KEYS" else "x" if found[2] == ":?" else found[3], str(text)
        )
        for variable, text in services()[name]["environment"].items()
    }


@pytest.mark.parametrize("name", OURS)
def test_the_settings_take_what_a_container_is_given(name: str) -> None:
    code = "from opspawn_site import settings as s; print(s.TASK_LEASE_SECONDS, s.LOG_FORMAT, s.ALLOWED_HOSTS)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
        env=given(name) | {"PATH": os.defpath, "OPSPAWN_DOTENV": "off"},
    )  # fmt: skip
    assert done.stdout.strip() == "30.0 json ['localhost', '127.0.0.1', 'web']", done.stderr


def test_secrets_are_required_and_have_no_default() -> None:
    for name, operator, word in VARIABLE.findall(COMPOSE.read_text(encoding="utf-8")):
        if name in REQUIRED:
            assert operator == ":?", f"{name} has no message for when it is missing"
            assert f"set {name} in .env" in word
        elif SECRET_NAME.search(name):
            assert (operator, word) == (":-", ""), f"{name} has a fixed default"


def test_no_secret_is_written_into_the_file_or_the_image() -> None:
    for name, service in services().items():
        for variable, text in service.get("environment", {}).items():
            if SECRET_NAME.search(variable):
                assert VARIABLE.search(text), f"{name} fixes {variable}"
        assert not [word for word in service.get("command", []) if "PASSWORD" in word or "SECRET" in word]
    assert not [line for kind, line in instructions() if kind in ("ENV", "ARG") and SECRET_NAME.search(line)]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".env", ".opspawn", ".git"} <= set(ignored)


def test_only_loopback_is_published() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert not [port for port in ports if not port.startswith("127.0.0.1:")]


def test_each_service_that_stays_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name, service in services().items():
        assert name == "migrate" or service["healthcheck"]["test"], name
        for other, how in service.get("depends_on", {}).items():
            needed = services()[other]
            assert how["condition"] == (
                "service_healthy" if "healthcheck" in needed else "service_completed_successfully"
            ), f"{name} → {other}"


def test_redis_keeps_its_messages_and_never_evicts_them() -> None:
    lines = compose()["configs"]["redis.conf"]["content"].splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(lines)
    assert any(line.startswith("requirepass ${REDIS_PASSWORD:?") for line in lines)
    assert services()["redis"]["configs"][0]["target"] == services()["redis"]["command"][1]


def test_images_are_pinned_to_a_version() -> None:
    images = [service["image"] for service in services().values()]
    images += [line for kind, line in instructions() if kind == "FROM"]
    assert not [image for image in images if ":" not in image or image.endswith(":latest")]
    assert any(re.fullmatch(r"pgvector/pgvector:\d.*-pg1[78]", image) for image in images)


def test_volumes_and_configs_that_are_used_are_declared() -> None:
    for service in services().values():
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose()["volumes"])
        assert {config["source"] for config in service.get("configs", [])} <= set(compose()["configs"])


def test_the_image_is_built_from_files_that_exist() -> None:
    for name in OURS:
        build = services()[name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
    copied = [word for kind, line in instructions() if kind == "COPY" for word in shlex.split(line)[:-1]]
    assert not [name for name in copied if not (ROOT / name).exists()]
    assert {"opspawn_site/", "tasks/", "agents/", "memory/", "llm/", "manage.py"} <= set(copied)


def test_the_image_runs_as_a_user_without_rights() -> None:
    users = [line for kind, line in instructions() if kind == "USER"]
    assert users[-1] not in ("root", "0")
    assert any(kind == "RUN" and "useradd --system --uid 10001" in line and users[-1] in line
               for kind, line in instructions())  # fmt: skip


def test_migrate_brings_the_schema_and_the_default_agent() -> None:
    shell, option, script = services()["migrate"]["command"]
    assert (shell, option) == ("sh", "-c")
    steps = [shlex.split(step) for step in script.split("&&")]
    assert [step[:3] for step in steps] == [["python", "manage.py", "migrate"], ["python", "manage.py", "seed"]]
    assert {"migrate", "seed"} <= set(get_commands())


def test_web_serves_the_site_and_is_what_the_image_runs_by_itself() -> None:
    command = services()["web"]["command"]
    assert command[:4] == ["python", "-m", "uvicorn", "opspawn_site.asgi:application"]
    assert asyncio.iscoroutinefunction(import_string("opspawn_site.asgi.application"))
    assert command == json.loads(dict(instructions())["CMD"])
    assert "8000" in dict(instructions())["EXPOSE"].split()


def test_worker_and_flower_are_started_as_up_starts_them(tmp_path: pathlib.Path) -> None:
    folder = DataFolder(tmp_path)
    folder.make()
    for name, by_up in {
        "worker": parts.worker(folder, "worker", ["${WORKER_QUEUES:-default}"]).arguments[1:],
        "flower": parts.flower(folder, "0.0.0.0", 5555).arguments[1:],  # noqa: S104
    }.items():
        command = services()[name]["command"]
        assert command[0] == "python"
        assert command[1:] == [word for word in by_up if not word.startswith("--read_only")]
    assert services()["flower"]["environment"]["FLOWER_READ_ONLY"] == "true"
    assert services()["flower"]["environment"]["FLOWER_TASKS_COLUMNS"] == parts.FLOWER_COLUMNS


def test_each_health_check_asks_something_that_answers() -> None:
    checks = {name: " ".join(service["healthcheck"]["test"])
              for name, service in services().items() if "healthcheck" in service}  # fmt: skip
    assert resolve("/readyz")
    assert "http://127.0.0.1:8000/readyz" in checks["web"]
    assert "127.0.0.1" in services()["web"]["environment"]["ALLOWED_HOSTS"].split(",")
    assert "http://127.0.0.1:5555/healthcheck" in checks["flower"]
    assert "/healthcheck" in [handler[0] for handler in handlers if isinstance(handler, tuple)]
    assert "-A opspawn_site.celery inspect ping" in checks["worker"]
    assert "worker@%h" in services()["worker"]["command"]
    assert "--destination worker@$$HOSTNAME" in checks["worker"]
    assert "pg_isready" in checks["postgres"]
    assert services()["postgres"]["environment"]["POSTGRES_USER"] in checks["postgres"]
    assert "redis-cli ping" in checks["redis"]
    assert "REDISCLI_AUTH" in services()["redis"]["environment"]


def config(tmp_path: pathlib.Path, values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`docker compose config` of a copy, with these variables and no others."""
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker compose plugin is not installed")
    shutil.copy(COMPOSE, tmp_path)
    (tmp_path / ".env").write_text("".join(f"{name}={text}\n" for name, text in values.items()))
    return subprocess.run(
        [docker, "compose", "config", "--format", "json"], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(pathlib.Path.home())}, check=False, timeout=60,
    )  # fmt: skip


def test_docker_compose_reads_the_file_as_it_is_meant(tmp_path: pathlib.Path) -> None:
    done = config(tmp_path, {name: f"the-{name.lower()}" for name in REQUIRED})
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)["services"]
    assert read["web"]["environment"]["REDIS_URL"] == "redis://:the-redis_password@redis:6379/0"
    assert read["worker"]["environment"]["OPENAI_API_KEY"] == ""


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_docker_compose_refuses_to_start_without_a_secret(name: str, tmp_path: pathlib.Path) -> None:
    done = config(tmp_path, dict.fromkeys(REQUIRED - {name}, "x"))
    assert done.returncode != 0
    assert f"set {name} in .env" in done.stderr
