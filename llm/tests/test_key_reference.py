"""Which variables a row may name, and what is taken for a key."""
from __future__ import annotations

import pytest

from llm import key_reference


@pytest.mark.parametrize("name", [
    "OPENAI_API_KEY", "TEAM_B_OPENAI_KEY", "GROQ_API_KEY", "REPLICATE_API_TOKEN", "X_KEY", "CANARY_KEY",
])  # fmt: skip
def test_names_that_look_like_a_providers_key_are_taken(name):
    assert key_reference.problem(f"env:{name}") == ""
    assert key_reference.variable_of(f"env:{name}") == name


@pytest.mark.parametrize("name", [
    "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "CREDENTIAL_KEYS", "SECRET_KEY_FILE", "AWS_SECRET_ACCESS_KEY",
    "STRIPE_SECRET_KEY", "SSH_KEY", "DJANGO_SECRET_KEY", "POSTGRES_PASSWORD_KEY", "FLOWER_API_KEY", "GITHUB_TOKEN",
    "PATH", "HOME", "", "_KEY", "openai_api_key", "OPENAI_API_KEY\n", "OPENAI API_KEY", "../X_KEY", "É_KEY",
    "X" * 200 + "_KEY",
    "OPENAI_API_KEY_FILE", "TLS_PRIVATE_KEY", "DB_KEY", "WEBHOOK_SIGNING_KEY",
])  # fmt: skip
def test_names_of_anything_else_are_refused(name):
    problem = key_reference.problem(f"env:{name}")
    assert "is no name of a provider's key" in problem


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "tab\t", "ключ", "…cdef", "x" * 5000, "nul\0"])
def test_what_cannot_be_a_key_is_refused_without_quoting_it(key):
    problem = key_reference.problem(key)
    assert problem
    assert not key or key not in problem


@pytest.mark.parametrize(
    ("key", "last"), [("sk-0123456789abcdef", "cdef"), ("any", ""), ("x" * 15, ""), ("x" * 16, "xxxx")]
)
def test_the_last_four_are_kept_only_of_a_long_key(key, last):
    assert key_reference.last_of(key) == last
