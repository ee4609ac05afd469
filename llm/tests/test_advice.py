"""What is said of a model before it is called, from the price map of the installed LiteLLM."""
from __future__ import annotations

import datetime

import pytest

from llm import advice, price_map, providers


def dated(low: int, high: int) -> str:
    """A model of the map whose end is that many days from today; skips where the map has none."""
    today = datetime.datetime.now(datetime.UTC).date()
    for provider in sorted(providers.KEY_VARIABLES):
        for model in price_map.names(provider):
            end = advice.end_of(model)
            if end and low <= (end - today).days <= high:
                return model
    pytest.skip(f"no model in the map ends in {low} to {high} days")


@pytest.mark.parametrize("model", [
    "openai/gpt-4o-mini", "gemini/gemini-2.5-pro", "google/gemini-2.5-pro", "scripted/echo", "scripted/list",
    "hosted_vllm/anything", "openrouter/openai/gpt-4.1-mini",
])  # fmt: skip
def test_nothing_is_said_of_what_is_known_or_cannot_be(model):
    assert advice.of(model) == []


@pytest.mark.parametrize(("model", "words"), [
    ("openai/gpt-4o-mni", "near it are openai/gpt-4o-mini"),
    ("anthropic/claude-sonet-4-6", "anthropic/claude-sonnet-4-6"),
    ("opnai/gpt-4o", "Provider 'opnai' does not exist, and a task that calls it fails; there is openai"),
    ("non_existent_provider/x", "does not exist"),
    ("gpt-4o-mini", "write provider/name, for example openai/gpt-4o-mini"),
    ("openai/", "not a whole model"), ("", "not a whole model"), ("/", "not a whole model"),
    ("scripted/ecko", "near it are scripted/echo"),
    ("openai/zzzzzzzzzz", "its cost will not be known."),
])  # fmt: skip
def test_near_names_are_offered(model, words):
    [said] = advice.of(model)
    assert words in said


def test_on_ones_own_server_any_name_may_be():
    assert advice.of("openai/my-own", own_server=True) == []


def test_a_model_past_its_end_is_said_to_be():
    model = dated(-4000, -1)
    [said] = advice.of(model)
    assert said.startswith(f"{model} was to be switched off")
    assert advice.has_ended(model)


def test_an_end_within_thirty_days_is_announced():
    model = dated(0, 30)
    assert "is to be switched off" in advice.of(model)[0]
    assert not advice.has_ended(model)


def test_an_end_far_away_is_not_spoken_of():
    assert advice.of(dated(31, 4000)) == []


def test_a_model_past_its_end_is_not_offered():
    ended = dated(-4000, -1)
    assert not [said for said in advice.of(f"{ended}x") if f"{ended}," in said or said.endswith(f"{ended}.")]


def test_huge_and_odd_strings_are_answered_too():
    for model in ("openai/" + "x" * 200, "é/ü", "openai/\0", "\ud800/x", "/" * 200):
        assert len(advice.of(model)) == 1
