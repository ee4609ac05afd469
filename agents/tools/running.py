"""Running a tool's function: an async one is cancelled in time, a sync one is bounded by construction."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from agents.tools.signature import Tool

POLL_SECONDS = 0.1
LAST_WORDS_SECONDS = 1.0  # for the `finally` of a function that was cancelled


class GivenUp(Exception):
    """The task is to stop, and the function was cancelled."""


def never() -> bool:
    return False


def run(tool: Tool, arguments: dict[str, Any], timeout_seconds: float, should_stop: Callable[[], bool]) -> Any:
    """Call the function and return its value. Raises what it raises, TimeoutError and GivenUp.

    A thread cannot be ended: a sync function runs to its end, which is why only those may run here that end soon by
    construction. Its lateness is judged after.
    """
    if not tool.is_async:
        return tool.function(**arguments)
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_bounded(tool.function(**arguments), timeout_seconds, should_stop))
    finally:
        _close(loop)


async def _bounded(call: Any, timeout_seconds: float, should_stop: Callable[[], bool]) -> Any:
    ends_at = time.monotonic() + timeout_seconds
    running = asyncio.ensure_future(call)
    while not running.done():
        left = ends_at - time.monotonic()
        if should_stop():
            raise GivenUp
        if left <= 0:
            raise TimeoutError
        await asyncio.wait({running}, timeout=min(left, POLL_SECONDS))
    return running.result()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left. Unlike `asyncio.run`, never wait for what will not be cancelled, nor for its threads."""
    if left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=LAST_WORDS_SECONDS))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
