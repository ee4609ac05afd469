"""Names of models and providers, and what the pages say about them."""
from __future__ import annotations

import pathlib
import re

import pytest

from llm import litellm_calls, price_map, providers
from llm.errors import UnknownModel

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "models.md"
AGENT = "anthropic/claude-sonnet-4-6"


@pytest.mark.parametrize(
    ("provider", "model", "called"),
    [
        ("", "", AGENT),
        ("", "openai/gpt-4o", "openai/gpt-4o"),
        ("gemini", "openai/gpt-4o", "openai/gpt-4o"),
        ("", "google/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("", "claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("google", "gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("openai", "", "openai/gpt-4.1-mini"),
        ("google", "", "gemini/gemini-2.5-pro"),
        ("openrouter", "openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("openrouter", "openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o"),
        ("openrouter", "meta-llama/llama-3-70b", "openrouter/meta-llama/llama-3-70b"),
        ("non_existent_provider", "", "non_existent_provider/"),
        ("non_existent_provider", "gpt-4o", "non_existent_provider/gpt-4o"),
        ("groq", "", "groq/"),
    ],
)
def test_a_tasks_overrides_choose_the_model(provider, model, called):
    assert providers.resolve(AGENT, provider, model) == called


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("non_existent_provider/x", "non_existent_provider"),
        ("non_existent_provider/", "non_existent_provider"),
        ("groq/", "groq"),
        ("gpt-4o", "gpt-4o"),
        ("huggingface/https://evil.test/x", "api_base"),
        ("github_copilot/gpt-4o", "github_copilot"),
        (f"openai/{'x' * 194}", "201 characters"),
    ],
)
def test_a_model_that_cannot_be_called_is_named(model, named):
    with pytest.raises(UnknownModel, match=re.escape(named)):
        providers.check(model)


def test_the_known_providers_are_litellms():
    listed = {getattr(provider, "value", provider) for provider in litellm_calls.load().provider_list}

    assert (listed | {"scripted"}) - {"chatgpt", "github_copilot"} == providers.KNOWN


def test_the_default_models_are_in_the_price_map():
    prices = litellm_calls.load().model_cost

    for provider, model in providers.DEFAULT_MODELS.items():
        if provider == "scripted":
            continue
        name = model.removeprefix("openai/")
        entry = prices.get(f"{provider}/{name}") or prices[name]
        assert entry["mode"] == "chat"
        assert entry["supports_function_calling"]
        assert "deprecation_date" not in entry


def test_the_page_shows_the_default_models_and_the_variables():
    page = PAGE.read_text(encoding="utf-8")

    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, flags=re.M))
    assert rows == providers.DEFAULT_MODELS
    for variable in providers.KEY_VARIABLES.values():
        assert variable in page


def test_the_default_model_is_the_newest_stable_gemini_pro_of_the_map():
    """The contract says so; a LiteLLM with a newer one changes the setting's default, this test says when."""
    stable = [re.fullmatch(r"gemini/gemini-(\d+)(?:\.(\d+))?-pro", name) for name in price_map.names("gemini")]
    newest = max((found for found in stable if found), key=lambda found: (int(found[1]), int(found[2] or 0)))

    page = (PAGE.parent / "settings.md").read_text(encoding="utf-8")  # which a test compares with the settings
    assert re.findall(r"^\| `LLM_DEFAULT_MODEL` \| text \| `([^`]+)`", page, flags=re.M) == [newest[0]]
