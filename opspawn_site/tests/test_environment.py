"""Wrong settings are told by name, value and cure, before anything starts."""
from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from opspawn_site.environment import Environment, SettingError, load_dotenv
from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import clean_environment, manage


@pytest.mark.parametrize(
    ("read", "name", "value", "cure"),
    [
        (lambda e: e.integer("N", 5, 1, 10), "N", "eleven", "a whole number from 1 to 10"),
        (lambda e: e.integer("N", 5, 1, 10), "N", "0", "a whole number from 1 to 10"),
        (lambda e: e.integer("N", 5, 1, 10), "N", "11", "a whole number from 1 to 10"),
        (lambda e: e.seconds("N", 5, 0.1, 10), "N", "nan", "seconds from 0.1 to 10"),
        (lambda e: e.flag("N"), "N", "perhaps", "true or false"),
        (lambda e: e.choice("N", "json", ("json", "console")), "N", "xml", "one of json, console"),
        (lambda e: e.url("N", ("redis",)), "N", "localhost:6379", "use a URL like redis://"),
        (lambda e: e.url("N", ("redis",)), "N", "redis://host:99999/0", "use a URL like redis://"),
        *((lambda e: e.limits("N", ("concurrency",)), "N", value, "use JSON like") for value in (
            "lots", "[]", "7", '{"openai": 5}', '{"openai": {}}', '{"openai": {"speed": 1}}', '{"openai": null}',
            '{"openai": {"concurrency": 0}}', '{"openai": {"concurrency": true}}', '{"openai": {"concurrency": "9"}}',
        )),
        (lambda e: e.secret("N"), "N_FILE", "/no/such/file", "name a readable text file"),
    ],
)
def test_a_wrong_value_is_told_with_its_name_and_the_cure(read, name: str, value: str, cure: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(Environment({name: value}))
    assert name in str(caught.value)
    assert value in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10), ("", 5)])
def test_both_ends_of_a_range_and_the_empty_value_are_good(value: str, number: int) -> None:
    assert Environment({"N": value}).integer("N", 5, 1, 10) == number


def test_a_wrong_url_is_shown_without_its_password() -> None:
    with pytest.raises(SettingError) as caught:
        Environment({"N": "mysql://me:hunter2@host/db"}).url("N", ("postgresql",))
    assert "hunter2" not in str(caught.value)


def test_what_is_set_already_wins_over_the_dotenv_file(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setenv("OPSPAWN_DOTENV", "on")
    monkeypatch.setenv("OPSPAWN_A", "environment")
    monkeypatch.delenv("OPSPAWN_B", raising=False)
    (tmp_path / ".env").write_text("OPSPAWN_A=file\nOPSPAWN_B=file\n")
    load_dotenv(tmp_path / ".env")
    assert (os.environ["OPSPAWN_A"], os.environ.pop("OPSPAWN_B")) == ("environment", "file")


def test_a_test_run_reads_no_dotenv_file(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setenv("OPSPAWN_DOTENV", "off")
    monkeypatch.delenv("OPSPAWN_B", raising=False)
    (tmp_path / ".env").write_text("OPSPAWN_B=file\n")
    load_dotenv(tmp_path / ".env")
    assert "OPSPAWN_B" not in os.environ


@pytest.mark.parametrize("command", [["check"], ["up", "--data-dir", "{folder}"]])
def test_a_wrong_setting_ends_any_command_with_one_line(command: list[str], tmp_path: pathlib.Path) -> None:
    done = manage(*(word.format(folder=tmp_path / "data") for word in command), LOG_LEVEL="loud")
    assert done.returncode == 1
    assert "LOG_LEVEL='loud': use one of DEBUG, INFO" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_ones_own_needs_its_keys(tmp_path: pathlib.Path) -> None:
    done = manage("up", "--data-dir", str(tmp_path / "data"), DATABASE_URL="postgresql://a:b@127.0.0.1:1/c")
    assert done.returncode == 1
    assert "SECRET_KEY is not set: it is required with DATABASE_URL" in done.stderr


@pytest.mark.parametrize(
    ("host", "named", "allowed"),
    [
        ("", "", "localhost 127.0.0.1 [::1]"),
        ("10.1.2.3", "", "localhost 127.0.0.1 [::1] 10.1.2.3"),
        ("fd00::7", "", "localhost 127.0.0.1 [::1] [fd00::7]"),
        ("0.0.0.0", "", "localhost 127.0.0.1 [::1]"),  # noqa: S104
        ("10.1.2.3", "example.com", "example.com 10.1.2.3"),
    ],
)
def test_where_the_site_listens_it_may_be_called(host: str, named: str, allowed: str) -> None:
    code = "from opspawn_site import settings; print(*settings.ALLOWED_HOSTS)"
    environment = clean_environment(HOST=host, ALLOWED_HOSTS=named)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == allowed, done.stderr


def test_limits_are_known_by_the_name_of_an_existing_provider(tmp_path: pathlib.Path) -> None:
    code = "from opspawn_site import settings; print(settings.LLM_LIMITS)"

    def read(name: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(LLM_LIMITS=f'{{"{name}": {{"concurrency": 3}}}}')
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert read("Google").stdout.strip() == "{'gemini': {'concurrency': 3}}"
    assert read("openai/gpt-4o").stdout.strip() == "{'openai/gpt-4o': {'concurrency': 3}}"
    assert "LLM_LIMITS='opnai': name a provider" in read("opnai").stderr
