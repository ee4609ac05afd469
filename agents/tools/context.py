"""What a tool may know of the call it is in, beside its arguments."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_KEY: ContextVar[str] = ContextVar("idempotency_key", default="")


def idempotency_key() -> str:
    """`task:step`, the same when a step is called again after its worker was lost; '' outside a task.

    A `keyed` tool hands it on, for example as the HTTP header `Idempotency-Key`.
    """
    return _KEY.get()


@contextmanager
def calling(key: str) -> Iterator[None]:
    """Within the block, `idempotency_key()` is `key`."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)
