"""Waiting for what happens to tasks: one query per tick for all who wait or read, no thread and no connection each."""
from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator

import structlog
from django.db import Error

from tasks.hearing import HEARING, Ear, Heard
from tasks.sight import Place, Sight, look

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.2
BREATH_SECONDS = 0.02  # between two looks, also while there is more to read or somebody new
HOLD = "opspawn.hold"
"""Key of the request's environ. A view may put an async callable there beside its answer: the server then awaits
it, drops that answer and asks the view once more."""
STREAM = "opspawn.stream"
"""Key of the request's environ, there when the server can stream. A view may put an async iterator of bytes there:
the server sends its answer's status and headers, and then what the iterator yields."""


class Reader:
    """A stream's place in its task's history, and in the text of its model call under way.

    It holds one batch at most. While that is not taken nothing more is read for it: who falls behind costs the
    database another read by its place, not this process memory.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._batch: tuple[bytes, ...] = ()
        self._full = self._over = False
        self._ear = Ear(place.task_id)
        self._heard: Heard | None = None
        self._news = asyncio.Event()

    @property
    def hungry(self) -> bool:
        return not self._full

    @property
    def done(self) -> bool:
        """Everything was taken and nothing will come."""
        return self._over and not self._batch

    def take(self, sight: Sight) -> None:
        if sight.frames or sight.over:
            self.place, self._batch, self._over = sight.place, sight.frames, sight.over
            self._full = True
            self._news.set()

    def hear(self, heard: Heard) -> None:
        self._heard = heard
        self._news.set()

    async def batch(self, until: float) -> tuple[bytes, ...]:
        """The next events and text as soon as there are any; none at that time of the loop's clock, or at the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._news.wait()
        batch, self._batch = self._batch, ()
        if not self._over:
            self._full = False
            self._news.clear()
        delta = self._ear.frame(self._heard)
        return (*batch, delta) if delta else batch


class Watch:
    """Those who wait for an end, by task, and those who read on; one poller while there are any."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._readers: set[Reader] = set()
        self._poller: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._blind = False

    async def until_final(self, task_id: str, seconds: float) -> None:
        """Return when the task is final or gone, or when the time is over."""
        ended = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(ended)
        self._start()
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[task_id].discard(ended)
            if not self._waiting[task_id]:
                del self._waiting[task_id]

    @contextlib.contextmanager
    def reading(self, place: Place) -> Iterator[Reader]:
        """A reader from that place on, looked after until the block is left."""
        reader = Reader(place)
        self._readers.add(reader)
        HEARING.join(place.task_id, reader)
        self._start()
        self._wake.set()
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            HEARING.leave(place.task_id, reader)

    def open_streams(self) -> int:
        return len(self._readers)

    def _start(self) -> None:
        if self._poller is None or self._poller.done():
            self._wake = asyncio.Event()  # of this event loop
            self._poller = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while self._waiting or self._readers:
            self._wake.clear()
            behind = self._hand_out(await self._look())
            await asyncio.sleep(BREATH_SECONDS)
            if not behind:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS - BREATH_SECONDS):
                        await self._wake.wait()

    async def _look(self) -> dict[Place, Sight]:
        places: Collection[Place] = {
            *(Place(task_id) for task_id in self._waiting),
            *(reader.place for reader in self._readers if reader.hungry),
        }
        try:
            seen = await asyncio.to_thread(look, places) if places else {}
        except Error as error:  # streams stay open; who waits is answered by the view when the time is over
            if not self._blind:
                log.warning("watch_cannot_look", error=type(error).__name__)
            self._blind = True
            return {}
        except Exception:  # a defect in one look must not end everybody's stream without a word
            log.exception("watch_failed")
            return {}
        if self._blind:
            log.info("watch_looks_again")
        self._blind = False
        return seen

    def _hand_out(self, seen: dict[Place, Sight]) -> bool:
        """Give everybody what is theirs; whether somebody may read on at once."""
        for task_id, waiting in self._waiting.items():
            if (sight := seen.get(Place(task_id))) and sight.over:
                for ended in waiting:
                    ended.set()
        for reader in self._readers:
            if reader.hungry and (sight := seen.get(reader.place)):
                reader.take(sight)
        return any(sight.more for sight in seen.values())


WATCH = Watch()
