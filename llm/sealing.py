"""Secrets at rest: sealed with the newest of CREDENTIAL_KEYS, readable with any of them (MultiFernet)."""
from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Unreadable(Exception):
    """None of CREDENTIAL_KEYS opens it: put the key that sealed it back in, or enter the secret again."""

    def __init__(self) -> None:
        super().__init__((type(self).__doc__ or "").strip())


def seal(secret: str) -> str:
    """`secret`, encrypted with the newest key."""
    return _box().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises Unreadable."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except (InvalidToken, ValueError):
        raise Unreadable from None


def reseal(sealed: str) -> str:
    """The same secret under the newest key, unchanged when it is that already. Raises Unreadable."""
    secret = unseal(sealed)
    return sealed if _opens(Fernet(settings.CREDENTIAL_KEYS[0]), sealed) else seal(secret)


def readable(sealed: str) -> bool:
    return _opens(_box(), sealed)


def _opens(box: Fernet | MultiFernet, sealed: str) -> bool:
    try:
        box.decrypt(sealed.encode())
    except (InvalidToken, ValueError):
        return False
    return True


def _box() -> MultiFernet:
    """Made anew each time (20 µs), so that no key outlives its setting. Raises Unreadable without any."""
    if not settings.CREDENTIAL_KEYS:
        raise Unreadable
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])
