"""Takes keys out of text: every key that this process knows, and what looks like one. Imports nothing heavy."""
from __future__ import annotations

import base64
import os
import re
import time
import urllib.parse
from functools import lru_cache
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
    """`text` without those secrets, as they are and as they are encoded."""
    found = [form for secret in secrets for form in _forms(secret) if form in text]
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


@lru_cache(maxsize=2 * MOST_REMEMBERED)
def _forms(secret: str) -> frozenset[str]:
    """A secret as it is, quoted for an address, and in both alphabets of base64, there also behind other bytes.

    Three bytes are four characters, so there are three places to start; the characters at both ends that hold bits of
    the neighbours are left out: `user:secret` hides the secret but for its first and last bits.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    coded = {_inside(encode(bytes(before) + raw), before, len(raw)) for before in range(3)
             for encode in (base64.b64encode, base64.urlsafe_b64encode)}  # fmt: skip
    return frozenset({secret, urllib.parse.quote(raw, safe=""), urllib.parse.quote_plus(raw)} | coded)


def _inside(coded: bytes, before: int, size: int) -> str:
    """The characters all of whose six bits are of the secret: those from bit 8·before on, up to its last bit."""
    return coded[-(-before * 8 // 6) : (before + size) * 8 // 6].decode()


def _of_the_process() -> set[str]:
    """The configured keys; those of other providers stand where LiteLLM reads them, in the environment."""
    environment = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    return {value for value in environment | set(settings.PROVIDER_KEYS.values()) if len(value) >= SHORTEST}
