"""A provider row on the wire: whose key travels where, and what is said when it cannot."""
from __future__ import annotations

import time

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test.utils import CaptureQueriesContext

from llm import credentials, masking
from llm.errors import CredentialGone, MissingKey, ModelError
from llm.messages import ModelSettings
from llm.models import Provider
from llm.tests.calls import KEY, ask, call
from llm.tests.openai_server import OpenAIServer, error, text
from llm.tests.redis_server import forget

MODEL = "openai/gpt-4o-mini"
OWN = "canary-of-a-row-0123456789"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_kept():
    credentials._kept.clear()
    yield
    credentials._kept.clear()


@pytest.fixture
def row(settings):
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]

    def make(label="team-b", key=OWN, provider="openai", **fields) -> Provider:
        made = Provider(label=label, provider=provider, **fields)
        made.take_key(key)
        made.save()
        return made

    return make


def sent_key(server: OpenAIServer) -> str:
    return server.requests[-1].headers["authorization"].removeprefix("Bearer ")


def test_the_rows_key_is_sent_in_place_of_the_environments(serve, row):
    server = serve(text("ok"))
    row()
    assert ask(call(MODEL, credential="team-b")).text == "ok"
    assert sent_key(server) == OWN
    ask(call(MODEL))
    assert sent_key(server) == KEY


def test_the_rows_address_is_called_with_the_rows_key(serve, row):
    own = serve(text("the row's"))
    elsewhere = serve(text("the environment's"))
    row(base_url=own.base_url)

    assert ask(call(MODEL, credential="team-b", api_base=elsewhere.base_url)).text == "the row's"

    assert sent_key(own) == OWN
    assert elsewhere.requests == []


def test_a_variable_of_the_workers_is_read_at_each_call(serve, row, monkeypatch, tmp_path):
    server = serve(text("ok"))
    row(key="env:TEAM_B_API_KEY")
    monkeypatch.setenv("TEAM_B_API_KEY", OWN)
    ask(call(MODEL, credential="team-b"))
    assert sent_key(server) == OWN

    monkeypatch.delenv("TEAM_B_API_KEY")
    (tmp_path / "key").write_text("from-a-file-0123456789\n")
    monkeypatch.setenv("TEAM_B_API_KEY_FILE", str(tmp_path / "key"))
    ask(call(MODEL, credential="team-b"))
    assert sent_key(server) == "from-a-file-0123456789"


def test_a_missing_variable_is_named_before_any_call(serve, row, monkeypatch):
    server = serve(text("never"))
    monkeypatch.delenv("TEAM_B_API_KEY", raising=False)
    row(key="env:TEAM_B_API_KEY")

    with pytest.raises(MissingKey, match="TEAM_B_API_KEY of credential 'team-b' is not set") as raised:
        ask(call(MODEL, credential="team-b"))

    assert raised.value.code == "provider_auth"
    assert server.requests == []


def test_a_replaced_key_is_used_within_about_a_second(serve, row):
    server = serve(text("ok"))
    made = row()
    ask(call(MODEL, credential="team-b"))
    made.take_key("the-next-key-0123456789")
    made.save()

    deadline = time.monotonic() + 5
    while sent_key(server) == OWN:
        assert time.monotonic() < deadline
        ask(call(MODEL, credential="team-b"))

    assert sent_key(server) == "the-next-key-0123456789"


def test_a_row_is_read_once_a_second_however_many_calls(serve, row):
    serve(text("ok"))
    row()
    began = time.monotonic()
    with CaptureQueriesContext(connection) as captured:
        for _ in range(30):
            ask(call(MODEL, credential="team-b"))
    assert 1 <= len(captured) <= 1 + (time.monotonic() - began) / credentials.KEPT_SECONDS < 30


@pytest.mark.django_db(transaction=True)
def test_a_call_under_way_ends_well_although_its_row_is_deleted_meanwhile(point, row):
    def delete_and_answer(request):
        try:
            Provider.objects.filter(label="team-b").delete()
        finally:
            connection.close()
        return text("done")

    with OpenAIServer(delete_and_answer) as server:
        row(base_url=server.base_url)
        assert ask(call(MODEL, credential="team-b")).text == "done"
        credentials.forget("team-b")
        with pytest.raises(CredentialGone, match="'team-b' does not exist"):
            ask(call(MODEL, credential="team-b"))
        assert len(server.requests) == 1


@pytest.mark.parametrize(("change", "words"), [
    (lambda made: made.delete(), "'team-b' does not exist"),
    (lambda made: Provider.objects.update(enabled=False), "'team-b' is disabled"),
    (lambda made: Provider.objects.update(provider="anthropic"), "'team-b' is for anthropic"),
])  # fmt: skip
def test_a_row_that_is_gone_or_disabled_or_anothers_fails_by_its_name(serve, row, change, words):
    server = serve(text("never"))
    change(row())

    with pytest.raises(CredentialGone, match=words) as raised:
        ask(call(MODEL, credential="team-b"))

    assert raised.value.code == "invalid_agent_config"
    assert server.requests == []


def test_a_key_that_cannot_be_read_is_said_with_the_cure(serve, row, settings):
    server = serve(text("never"))
    row()
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]

    with pytest.raises(MissingKey, match=r"'team-b' cannot be read.*CREDENTIAL_KEYS"):
        ask(call(MODEL, credential="team-b"))

    assert server.requests == []


@pytest.mark.parametrize("status", [401, 500, 400])
def test_a_rows_key_in_the_providers_own_words_is_masked(serve, row, status, settings):
    settings.LLM_MAX_ATTEMPTS = 1
    serve(error(status, f"Incorrect API key provided: {OWN}."))
    row()

    with pytest.raises(Exception, match="Incorrect API key") as raised:
        ask(call(MODEL, credential="team-b"))

    assert OWN not in str(raised.value)
    assert "***" in str(raised.value)


def test_no_representation_shows_the_key():
    assert OWN not in repr(credentials.Access(OWN, ""))


def test_a_line_that_is_logged_loses_the_keys_that_were_met():
    masking.remember("met-0123456789")
    assert masking.mask_known("at met-0123456789!") == "at ***!"
    masking.remember("any")  # too short to be told from a word
    assert masking.mask_known("any word") == "any word"


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "openrouter"])
def test_without_a_key_each_provider_names_its_variable(settings, provider):
    settings.PROVIDER_KEYS = dict.fromkeys(settings.PROVIDER_KEYS, "")
    with pytest.raises(MissingKey, match=f"{provider.upper()}_API_KEY is not set"):
        ask(call(f"{provider}/any-model"))


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "openrouter"])
def test_every_provider_is_called_at_the_rows_address_with_the_rows_key(row, settings, provider):
    settings.PROVIDER_KEYS = dict.fromkeys(settings.PROVIDER_KEYS, "")
    with OpenAIServer([error(401, "no")]) as server:
        row(provider=provider, base_url=server.url)
        with pytest.raises(Exception, match="refused the key"):
            ask(call(f"{provider}/some-model", credential="team-b"))
        (request,) = server.requests
    assert OWN in str(request.headers) + request.path


@pytest.mark.parametrize("key", ["canary-one canary-two", "canary-one\ncanary-two", "canary-ü-0123456789"])
def test_a_key_that_fits_into_no_header_is_said_by_its_name_and_not_quoted(serve, row, settings, monkeypatch, key):
    server = serve(text("never"))
    row(key="env:TEAM_B_API_KEY")
    monkeypatch.setenv("TEAM_B_API_KEY", key)
    with pytest.raises(MissingKey, match="TEAM_B_API_KEY of credential 'team-b' holds") as of_row:
        ask(call(MODEL, credential="team-b"))
    settings.PROVIDER_KEYS = {**settings.PROVIDER_KEYS, "openai": key}
    with pytest.raises(MissingKey, match="OPENAI_API_KEY holds") as of_environment:
        ask(call(MODEL))
    assert "canary" not in str(of_row.value) + str(of_environment.value)
    assert server.requests == []


def test_a_file_that_cannot_be_read_is_named(serve, row, monkeypatch, tmp_path):
    serve(text("never"))
    made = row(key="env:TEAM_B_API_KEY")
    monkeypatch.setenv("TEAM_B_API_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(MissingKey, match=r"of credential 'team-b' .*TEAM_B_API_KEY_FILE.*nothing"):
        ask(call(MODEL, credential="team-b"))
    assert credentials.missing_variable(made) == "TEAM_B_API_KEY"


def test_a_credential_at_another_address_has_a_circuit_of_its_own(row):
    row()
    row(label="fixed", base_url="https://gateway.test/v1")

    def place(label: str, base: str) -> str:
        return credentials.place_of(ModelSettings(MODEL, credential=label, api_base=base), "openai")

    assert place("team-b", "http://a.test/v1") != place("team-b", "http://b.test/v1") != place("team-b", "")
    assert place("team-b", "http://a.test/v1") != place("", "http://a.test/v1")
    assert place("fixed", "http://a.test/v1") == place("fixed", "")  # where the row says the address, it holds


def test_one_agents_dead_address_does_not_close_the_credential_to_others(settings, serve, row):
    settings.LLM_CIRCUIT_FAILURES, settings.LLM_MAX_ATTEMPTS = 1, 1
    forget()
    row()
    server = serve(text("ok"))
    with pytest.raises(ModelError):
        ask(call(MODEL, credential="team-b", api_base="http://127.0.0.1:9/v1"))

    assert ask(call(MODEL, credential="team-b", api_base=server.base_url)).text == "ok"
    forget()
