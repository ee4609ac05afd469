"""What `tasks.live` tells, as the web process hears it for its streams: one connection to Redis, however many read."""
from __future__ import annotations

import asyncio
import contextlib
import json
from importlib import import_module
from itertools import count
from typing import Any, Protocol

import structlog
from django.conf import settings
from rest_framework.renderers import JSONRenderer

from tasks.live import PREFIX

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.1  # for streams that opened or closed, between two messages
AGAIN_SECONDS = 1.0  # after Redis was lost
PATIENCE_SECONDS = 2.0  # for Redis to take a connection
_SERIALS = count(1)


class Heard:
    """The text of a task's call under way. Another `serial`: the text is a new one, and none that goes on."""

    def __init__(self) -> None:
        self.serial, self.step, self.text, self.over = 0, 0, "", False

    def take(self, told: dict[str, Any]) -> bool:
        """Whether it says anything. A piece whose place is unknown is left out: its beginning was not heard."""
        step, offset, text = int(told["step"]), int(told["offset"]), str(told["text"])
        if offset == 0:
            if step != self.step or not text.startswith(self.text):
                self.serial = next(_SERIALS)
            self.step, self.text = step, text
        elif step == self.step and offset == len(self.text):
            self.text += text
        else:
            return False
        self.over = bool(told["end"])
        return True


class Ear:
    """How much of the text one stream has passed on."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self._serial = self._told = 0

    def frame(self, heard: Heard | None) -> bytes:
        """What is new of it, as an event without an id; b'' when nothing is. A call that is over is not begun."""
        if heard is None or (heard.over and heard.serial != self._serial):
            return b""
        if heard.serial != self._serial:
            self._serial, self._told = heard.serial, 0
        offset, self._told = self._told, len(heard.text)
        if offset == self._told:
            return b""
        data = {"step": heard.step, "offset": offset, "text": heard.text[offset:]}
        event = {"task_id": self.task_id, "type": "llm.delta", "data": data}
        return b"event: llm.delta\ndata: %s\n\n" % JSONRenderer().render(event)


class Listener(Protocol):
    """Who is to be woken when something was heard of its task."""

    def hear(self, heard: Heard) -> None: ...


class Hearing:
    """Who listens, by task, and what was heard of each; one listening task while there is anybody."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._heard: dict[str, Heard] = {}
        self._listening: asyncio.Task[None] | None = None
        self._deaf = False

    def join(self, task_id: str, listener: Listener) -> None:
        """From now on `listener.hear` is called when there is news; at once, when something is known already."""
        self._listeners.setdefault(task_id, set()).add(listener)
        if heard := self._heard.get(task_id):
            listener.hear(heard)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen())

    def leave(self, task_id: str, listener: Listener) -> None:
        self._listeners[task_id].discard(listener)
        if not self._listeners[task_id]:
            del self._listeners[task_id]
            self._heard.pop(task_id, None)

    async def _listen(self) -> None:
        while self._listeners:
            try:
                await self._session()
                self._deaf = False
            except Exception as error:  # Redis is away: streams go on without the text
                if not self._deaf:
                    log.warning("live_text_not_heard", error=type(error).__name__)
                self._deaf = True
                await asyncio.sleep(AGAIN_SECONDS)

    async def _session(self) -> None:
        """Listen over one connection until nobody does any more. Raises when it breaks."""
        redis: Any = await asyncio.to_thread(import_module, "redis.asyncio")  # a third of a second
        url, patience = settings.CELERY_BROKER_URL, {"socket_connect_timeout": PATIENCE_SECONDS}
        async with redis.Redis.from_url(url, **patience) as client, client.pubsub() as channels:
            subscribed: set[str] = set()
            while self._listeners:
                wanted = set(self._listeners)
                if fresh := wanted - subscribed:
                    await channels.subscribe(*(PREFIX + task_id for task_id in fresh))
                if gone := subscribed - wanted:
                    await channels.unsubscribe(*(PREFIX + task_id for task_id in gone))
                subscribed = wanted
                message = await channels.get_message(ignore_subscribe_messages=True, timeout=LOOK_SECONDS)
                if message is not None:
                    self._deaf = False
                    self._take(message["channel"].decode().removeprefix(PREFIX), message["data"])

    def _take(self, task_id: str, data: bytes) -> None:
        if task_id not in self._listeners:
            return
        heard = self._heard.setdefault(task_id, Heard())
        with contextlib.suppress(ValueError, KeyError, TypeError):  # it is none of ours
            if heard.take(json.loads(data)):
                for listener in self._listeners[task_id]:
                    listener.hear(heard)


HEARING = Hearing()
