"""A wait that ends early when the task is to stop."""
from __future__ import annotations

import time
from collections.abc import Callable

POLL_SECONDS = 0.1


def pause(seconds: float, should_stop: Callable[[], bool]) -> bool:
    """Wait; True when the whole time passed, False as soon as `should_stop()` says so (asked every 100 ms)."""
    ends_at = time.monotonic() + seconds
    while not should_stop():
        left = ends_at - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(POLL_SECONDS, left))
    return False
