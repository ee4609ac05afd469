"""Task ids: `task_` and the 32 hex digits of a UUIDv7, so that ids sort by time."""
from __future__ import annotations

import secrets
import time


def new_task_id() -> str:
    """RFC 9562, UUIDv7 with method 3 (sub-millisecond time in rand_a): 48 bits ms, 12 bits of 1/4096 ms, 62 random."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    fraction = nanoseconds * 4096 // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | secrets.randbits(62)
    return f"task_{value:032x}"
