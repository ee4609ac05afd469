"""Provider rows as agents use them: a row that is named at the same moment is not deleted."""
from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from agents import credentials, provider_rows, versions
from agents.errors import ConfigInvalid, CredentialInUse, UnknownCredential
from llm.models import Provider

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
CONFIG = {"model": "openai/gpt-4o-mini", "credential": "team-b"}


@pytest.fixture
def row(transactional_db: None) -> Provider:
    return provider_rows.create({"label": "team-b", "provider": "openai", "key": "a-key-of-nobody-0123456789"})


def until_waiting_for_a_lock() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(WAITING)
            if cursor.fetchone()[0]:
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


def removed() -> str:
    """What came of removing the row, in another thread's transaction."""
    try:
        credentials.remove("team-b")
    except CredentialInUse as refused:
        return str(refused)
    finally:
        connection.close()
    return "removed"


def test_a_row_that_is_named_at_the_same_moment_is_not_deleted(row: Provider) -> None:
    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            versions.create("helper", CONFIG, by="test")
            asked = other.submit(removed)
            until_waiting_for_a_lock()
        assert "is the credential of helper" in asked.result(20)
    assert Provider.objects.exists()


def test_a_row_that_is_deleted_at_the_same_moment_cannot_be_named(row: Provider) -> None:
    def named() -> str:
        try:
            versions.create("helper", CONFIG, by="test")
        except ConfigInvalid as refused:
            return refused.problems[0].code
        finally:
            connection.close()
        return "named"

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            credentials.remove("team-b")
            asked = other.submit(named)
            until_waiting_for_a_lock()
        assert asked.result(20) == "unknown_credential"


def test_what_is_not_there_cannot_be_removed(transactional_db: None) -> None:
    with pytest.raises(UnknownCredential, match="nobody"):
        credentials.remove("nobody")


def test_an_archived_agent_still_holds_its_row(row: Provider) -> None:
    versions.create("helper", CONFIG, by="test")
    versions.change("helper", {"archived": True}, by="test")
    with pytest.raises(CredentialInUse):
        credentials.remove("team-b")


@pytest.mark.parametrize("label", ["nobody", "\0", "\ud800", "Ü", "x" * 64])
def test_an_agent_that_names_no_row_is_refused_whatever_it_is_called(row: Provider, label: str) -> None:
    with pytest.raises(ConfigInvalid, match="/config"):
        versions.create("helper", CONFIG | {"credential": label}, by="test")
    [problem] = credentials.problems(CONFIG | {"credential": label})
    assert problem.code == "unknown_credential"
    assert "team-b" in problem.detail
