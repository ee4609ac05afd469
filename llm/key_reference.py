"""What may stand for a provider's key: the key itself, or `env:NAME` for a variable of the workers' environment."""
from __future__ import annotations

import re

PREFIX = "env:"
KEY_CHARS = 4096
LAST = 4
LONG_ENOUGH = 16  # of a shorter key the last four would give too much away

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,98}(_KEY|_API_TOKEN)\Z")
# Words in the names of variables that hold other secrets than a provider's key.
_OTHERS = re.compile(
    r"(^|_)(ACCESS|AUDITLOG|AWS|CELERY|CREDENTIAL|CREDENTIALS|CSRF|DATABASE|DB|DEPLOY|DJANGO|ENCRYPTION|FERNET|FLOWER"
    r"|GPG|HOST|MASTER|OPSPAWN|PASSWORD|PG|POSTGRES|PRIVATE|REDIS|SECRET|SESSION|SIGNING|SSH|SSL|TLS|WEBHOOK)_"
)
_PRINTABLE = re.compile(r"[\x21-\x7e]+\Z")


def variable_of(key: str) -> str:
    """The NAME of `env:NAME`; '' for a key itself."""
    return key.removeprefix(PREFIX) if key.startswith(PREFIX) else ""


def problem(key: str) -> str:
    """What is wrong with it, in a sentence that does not quote a key; '' when it can be taken."""
    if key.startswith(PREFIX):
        return _problem_of_name(variable_of(key))
    if not 1 <= len(key) <= KEY_CHARS:
        return f"Use a key of 1 to {KEY_CHARS} characters, or env:NAME."
    if "…" in key:
        return "It is a key as it is shown, not the key: give the whole key, or leave it out to keep what there is."
    if not sendable(key):
        return "It holds a space, a line break or a character outside of ASCII; give the key alone."
    return ""


def sendable(key: str) -> bool:
    """Whether it fits into a header; an error about one that does not would quote it."""
    return bool(_PRINTABLE.match(key))


def last_of(key: str) -> str:
    """What is kept for display."""
    return key[-LAST:] if len(key) >= LONG_ENOUGH else ""


def _problem_of_name(name: str) -> str:
    """Deny by default: a row could else carry the database's password to its address."""
    if _NAME.match(name) and not _OTHERS.search(name):
        return ""
    return (
        f"{name[:100]!r} is no name of a provider's key: use capital letters, digits and _, ending in _KEY or "
        "_API_TOKEN, as in OPENAI_API_KEY or TEAM_B_OPENAI_KEY; names of other secrets are refused."
    )
