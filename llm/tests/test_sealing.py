"""Secrets at rest: what opens them, and how they survive a change of keys."""
from __future__ import annotations

from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from llm import sealing
from llm.models import Provider

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = "sk-canary-0123456789abcdef"


def row(label: str, key: str = SECRET) -> Provider:
    made = Provider(label=label, provider="openai")
    made.take_key(key)
    made.save()
    return made


def rotated() -> str:
    said = StringIO()
    call_command("rotate_credentials", stdout=said)
    return said.getvalue()


def test_a_sealed_secret_does_not_show_and_opens_again(settings):
    settings.CREDENTIAL_KEYS = [OLD]
    sealed = sealing.seal(SECRET)
    assert SECRET not in sealed
    assert sealing.unseal(sealed) == SECRET


@pytest.mark.parametrize("keys", [[NEW], []])
def test_without_the_key_that_sealed_it_a_secret_cannot_be_read(settings, keys):
    settings.CREDENTIAL_KEYS = [OLD]
    sealed = sealing.seal(SECRET)
    settings.CREDENTIAL_KEYS = keys
    with pytest.raises(sealing.Unreadable, match="CREDENTIAL_KEYS"):
        sealing.unseal(sealed)


@pytest.mark.parametrize("junk", ["", "x", "gAAAAA", "é"])
def test_what_was_never_sealed_cannot_be_read(settings, junk):
    settings.CREDENTIAL_KEYS = [OLD]
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(junk)


@pytest.mark.django_db
def test_after_rotation_the_old_key_may_go(settings):
    settings.CREDENTIAL_KEYS = [OLD]
    one, reference = row("one"), row("two", "env:TEAM_B_API_KEY")
    settings.CREDENTIAL_KEYS = [NEW, OLD]

    said = rotated()

    settings.CREDENTIAL_KEYS = [NEW]
    one.refresh_from_db()
    reference.refresh_from_db()
    assert sealing.unseal(one.key_sealed) == SECRET
    assert (reference.key_variable, reference.key_sealed) == ("TEAM_B_API_KEY", "")
    assert "1 of 1 keys sealed anew" in said
    assert "0 of 1 keys sealed anew, 1 were already" in rotated()


@pytest.mark.django_db
def test_a_row_that_cannot_be_read_is_named_and_the_others_are_rotated(settings):
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    lost = row("lost")
    settings.CREDENTIAL_KEYS = [OLD]
    kept = row("kept")
    settings.CREDENTIAL_KEYS = [NEW, OLD]

    with pytest.raises(CommandError, match="lost"):
        call_command("rotate_credentials", stdout=StringIO())

    before = lost.key_sealed
    for one in (lost, kept):
        one.refresh_from_db()
    assert lost.key_sealed == before
    settings.CREDENTIAL_KEYS = [NEW]
    assert sealing.unseal(kept.key_sealed) == SECRET
