"""The text of model calls under way, told over Redis to the web processes that stream their tasks, and to nobody else.

One thread a worker process asks every TICK_SECONDS which of its calls are listened to (`PUBSUB NUMSUB`, one command for
all of them) and publishes what is new of those. Who begins to listen in the middle is sent the text so far. Nothing is
stored, a task never waits for any of it, and what cannot be told is dropped: the whole text is in the step.
"""
from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import structlog
from django.conf import settings

from llm.messages import Delta

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.15
BREATH_SECONDS = 0.03  # between two rounds, also when one call after the other ends
TROUBLE_SECONDS = 2.0  # without another try after Redis did not answer
PATIENCE_SECONDS = 1.0  # for Redis
MAX_CHARS = 1_000_000  # of one call; what comes after that is only in the step
PREFIX = "opspawn:live:"


class Speech:
    """The text of one model call, so far. `say`, `again` and `end` are called by its task and return at once."""

    def __init__(self, task_id: str, step: int, hurry: Callable[[], None] = lambda: None) -> None:
        self.channel, self.step, self._hurry = PREFIX + task_id, step, hurry
        self.listeners = 0  # when they were last counted
        self.ended = False
        self._lock = threading.Lock()
        self._new: list[str] = []
        self._text = ""
        self._told = 0  # characters

    def say(self, delta: Delta) -> None:
        with self._lock:
            self._new.append(delta.text)

    def again(self) -> None:
        """The attempt failed, and the next one begins from nothing."""
        with self._lock:
            self._new, self._text, self._told = [], "", 0

    def end(self) -> None:
        """Its last words are told at once: its task may be over, and the streams of that close."""
        self.ended = True
        self._hurry()

    def news(self, listeners: int) -> str | None:
        """What is to be published to so many; None when there is nothing. Whoever is new hears the text from 0."""
        ended = self.ended  # before the text is read: nothing is said after it
        with self._lock:
            if len(self._text) < MAX_CHARS:
                self._text = (self._text + "".join(self._new))[:MAX_CHARS]
            self._new = []
            offset = self._told if listeners == self.listeners else 0
            self.listeners, self._told = listeners, len(self._text)
            text = self._text[offset:]
        if not listeners or not (text or ended):
            return None
        return json.dumps({"step": self.step, "offset": offset, "text": text, "end": ended})

    def unheard(self) -> None:
        """What was published may have been lost: tell all of it, when there is somebody to be told."""
        self.listeners = 0


class Voice:
    """The thread that tells, and the calls that it tells of."""

    def __init__(self) -> None:
        self._speeches: list[Speech] = []
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurried = threading.Event()
        self._in_trouble = False

    def begin(self, task_id: str, step: int) -> Speech:
        """A call that begins; `end` it. Never blocks or raises."""
        speech = Speech(task_id, step, self._hurried.set)
        with self._condition:
            self._speeches.append(speech)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._loop, name="voice", daemon=True)
                self._thread.start()
            self._condition.notify()
        return speech

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not self._speeches:
                    self._condition.wait()
            time.sleep(BREATH_SECONDS)
            self._hurried.wait(TICK_SECONDS - BREATH_SECONDS)
            self._hurried.clear()
            with self._condition:
                speeches = list(self._speeches)
                self._speeches = [speech for speech in speeches if not speech.ended]
            self._try(speeches)

    def _try(self, speeches: list[Speech]) -> None:
        try:
            self._tell(speeches)
            self._in_trouble = False
        except Exception as error:  # Redis is away, or slow: the streams go on without the text
            for speech in speeches:
                speech.unheard()
            if not self._in_trouble:
                log.warning("live_text_not_told", error=type(error).__name__)
            self._in_trouble = True
            time.sleep(TROUBLE_SECONDS)

    def _tell(self, speeches: list[Speech]) -> None:
        counted = self._redis.pubsub_numsub(*(speech.channel for speech in speeches))
        pipeline = self._redis.pipeline(transaction=False)
        for speech, (_, listeners) in zip(speeches, counted, strict=True):
            if news := speech.news(int(listeners)):
                pipeline.publish(speech.channel, news)
        pipeline.execute()

    @cached_property
    def _redis(self) -> Any:
        import redis

        patience = {"socket_connect_timeout": PATIENCE_SECONDS, "socket_timeout": PATIENCE_SECONDS}
        return redis.Redis.from_url(settings.CELERY_BROKER_URL, **patience)


VOICE = Voice()
