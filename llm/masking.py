"""Takes keys out of text: every key that this process knows, and what looks like one. Imports nothing heavy."""
from __future__ import annotations

import os
import re
import time
from threading import Lock

from django.conf import settings

SHORTEST = 8  # a shorter "key", as for a local server that wants any, would be cut out of ordinary words
MOST_REMEMBERED = 1000
FRESH_SECONDS = 1.0

_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|ops|AIza)[-_]?[A-Za-z0-9*_-]{12,}|(?i:bearer)\s+\S+|(?<=[?&]key=)[^&\s]+"
)
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$")

_remembered: dict[str, None] = {}  # in the order they were met
_lock = Lock()
_configured: tuple[float, frozenset[str]] = (0.0, frozenset())


def remember(secret: str) -> None:
    """From now on this process lets that secret into no error and no log line."""
    if len(secret) >= SHORTEST and secret not in _remembered:
        with _lock:
            _remembered[secret] = None
            while len(_remembered) > MOST_REMEMBERED:
                del _remembered[next(iter(_remembered))]


def mask(text: str) -> str:
    """`text` without anything that is, or looks like, a key."""
    return _SECRETS.sub("***", without(text, _of_the_process() | set(_remembered)))


def mask_known(text: str) -> str:
    """`text` without the keys that this process knows; cheap enough for each line that is logged."""
    global _configured
    looked_at, known = _configured
    if time.monotonic() - looked_at > FRESH_SECONDS:
        known = frozenset(_of_the_process())
        _configured = (time.monotonic(), known)
    return without(text, known | set(_remembered))


def without(text: str, secrets: set[str] | frozenset[str]) -> str:
    for secret in sorted((secret for secret in secrets if secret in text), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _of_the_process() -> set[str]:
    """The configured keys; those of other providers stand where LiteLLM reads them, in the environment."""
    environment = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    return {value for value in environment | set(settings.PROVIDER_KEYS.values()) if len(value) >= SHORTEST}
