"""What `doctor` says of models and of stored keys."""
from __future__ import annotations

import pathlib
from typing import Any

import pytest
from cryptography.fernet import Fernet

from agents import provider_rows, versions
from llm.tests.test_advice import dated
from opspawn_site.fleet.doctor import Check, look
from opspawn_site.fleet.folder import DataFolder

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "canary-of-doctor-0123456789"


@pytest.fixture
def found(tmp_path: pathlib.Path) -> Any:
    """The checks of that name, as `doctor` makes them now."""
    return lambda name: [check for check in look(DataFolder(tmp_path), deep=False) if check.name == name]


def agent(slug: str, **config: Any) -> None:
    versions.create(slug, config, by="test")


def test_a_fleet_without_agents_or_rows_is_well(found: Any) -> None:
    [models], [credentials] = found("models"), found("credentials")
    assert not models.fix
    assert credentials == Check("credentials", "no provider rows")


def test_a_model_that_has_ended_is_wrong_and_one_that_ends_soon_is_only_said(found: Any) -> None:
    agent("soon", model=dated(0, 30))
    [models] = found("models")
    assert "soon: " in models.found
    assert not models.fix

    agent("ended", model=dated(-4000, -1))
    [models] = found("models")
    assert "ended: " in models.found
    assert "change the model" in models.fix


def test_a_provider_that_does_not_exist_is_wrong_and_an_unknown_model_only_said(found: Any) -> None:
    agent("typo", model="openai/gpt-4o-mni")
    [models] = found("models")
    assert models.found.startswith("1 agent on openai/gpt-4o-mni. typo: ")
    assert "near it are openai/gpt-4o-mini" in models.found
    assert not models.fix

    agent("nowhere", model="opnai/gpt-4o")
    assert found("models")[0].fix
    versions.change("nowhere", {"archived": True}, by="test")
    assert not found("models")[0].fix


def test_a_variable_that_is_not_set_is_named_with_its_row(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    provider_rows.create({"label": "team-b", "provider": "openai", "key": "env:TEAM_B_API_KEY"})
    [credentials] = found("credentials")
    assert "TEAM_B_API_KEY of team-b" in credentials.found
    assert credentials.fix

    monkeypatch.setenv("TEAM_B_API_KEY", KEY)
    assert found("credentials") == [Check("credentials", "1 provider row can be read here")]
    monkeypatch.delenv("TEAM_B_API_KEY")
    provider_rows.change("team-b", {"enabled": False})
    assert not found("credentials")[0].fix


def test_a_row_that_cannot_be_read_is_named_with_the_cure(found: Any, settings: Any) -> None:
    provider_rows.create({"label": "team-b", "provider": "openai", "key": KEY})
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    [credentials] = found("credentials")
    assert credentials.found == "not readable with CREDENTIAL_KEYS: team-b"
    assert "CREDENTIAL_KEYS" in credentials.fix
