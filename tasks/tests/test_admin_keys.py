"""API keys in the admin: shown once, revoked, never changed or deleted."""
from __future__ import annotations

import pytest
from auditlog.models import LogEntry
from django.test import Client

from agents.tests.people import person, text_of
from tasks import keys
from tasks.models import ApiKey
from tasks.tests.factories import ApiKeyFactory

CONFIRMED = {"_form_submitted": "on"}
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return person("boss", superuser=True)


def test_a_key_is_shown_once_and_works(boss: Client) -> None:
    answer = boss.post("/admin/tasks/apikey/add/", {"name": "ci", "scopes": ["tasks:read", "tasks:write"]})

    token = answer.context["token"]
    assert token in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert keys.authenticate(token).name == "ci"
    key = ApiKey.objects.get()
    for address in ("/admin/tasks/apikey/", f"/admin/tasks/apikey/{key.pk}/change/", "/admin/auditlog/logentry/"):
        shown = boss.get(address).content.decode()
        assert token not in shown
        assert key.digest not in shown
    assert token not in str(boss.session.items())


def test_a_key_that_has_expired_before_it_is_made_is_refused(boss: Client) -> None:
    given = {"name": "ci", "scopes": ["tasks:read"], "expires_at_0": "2001-01-01", "expires_at_1": "00:00"}
    assert "That moment has passed" in text_of(boss.post("/admin/tasks/apikey/add/", given))
    assert not ApiKey.objects.exists()


def test_a_revoked_key_is_refused_from_then_on(boss: Client) -> None:
    key, token = keys.issue("ci")

    boss.post(f"/admin/tasks/apikey/{key.pk}/revoke/", CONFIRMED)

    assert keys.authenticate(token) is None
    entry = LogEntry.objects.filter(object_id=key.pk).latest("id")
    assert entry.actor.username == "boss"
    assert set(entry.changes) == {"revoked_at"}


def test_a_key_is_never_changed_or_deleted(boss: Client) -> None:
    key = ApiKeyFactory()
    assert boss.post(f"/admin/tasks/apikey/{key.pk}/change/", {"name": "x"}).status_code == 403
    assert boss.post(f"/admin/tasks/apikey/{key.pk}/delete/", {"post": "yes"}).status_code == 403
