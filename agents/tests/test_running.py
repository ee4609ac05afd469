"""Async tools end at their timeout and when the task is to stop, also those that do not want to."""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from agents.tools.running import GivenUp, never, run
from agents.tools.signature import Tool


async def sleeps() -> None:
    """Sleeps."""
    await asyncio.sleep(30)


async def will_not_be_cancelled() -> None:
    """Sleeps on."""
    for _ in range(30):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue


async def blocks_a_thread() -> None:
    """Blocks a thread of its own."""
    await asyncio.to_thread(time.sleep, 4)


@pytest.mark.parametrize("function", [sleeps, will_not_be_cancelled, blocks_a_thread])
@pytest.mark.parametrize(
    ("timeout_seconds", "should_stop", "raised"), [(0.3, never, TimeoutError), (30, lambda: True, GivenUp)]
)
def test_an_async_tool_ends_in_time(
    function: Callable[..., Any], timeout_seconds: float, should_stop: Callable[[], bool], raised: type[Exception]
) -> None:
    began = time.monotonic()
    with pytest.raises(raised):
        run(Tool(function, "none", 60, False), {}, timeout_seconds, should_stop)
    assert time.monotonic() - began < 2.5


def test_what_an_async_tool_raises_is_raised() -> None:
    async def fails() -> None:
        """Fails."""
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run(Tool(fails, "none", 60, False), {}, 5, never)
