"""Redis as the models' door uses it: one script at a time, bounded, and left alone for a while when it is away."""
from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.25  # for a connection, and again for an answer
BLIND_SECONDS = 5.0  # without another try after a failure; then one thread looks, and the others go on without


class Script:
    """A Lua script, with the digest that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Shared:
    """One process's way to the Redis of the fleet. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._look_at = 0.0  # of `time.monotonic`
        self._away = False

    def run(self, script: Script, keys: Sequence[str], given: Sequence[str | int | float]) -> Any | None:
        """What the script answers, or None when Redis is away: whoever asks then goes on without it.

        A Redis that hangs costs at most three times WAIT_SECONDS, and that one call in BLIND_SECONDS.
        """
        if not self._url or not self._may_look():
            return None
        from redis.exceptions import NoScriptError, RedisError

        try:
            try:
                answer = self._client.evalsha(script.digest, len(keys), *keys, *given)
            except NoScriptError:
                answer = self._client.eval(script.text, len(keys), *keys, *given)
        except (RedisError, OSError) as error:
            self._lost(error)
            return None
        self._found()
        return answer

    def _may_look(self) -> bool:
        if not self._away:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._look_at:
                return False
            self._look_at = now + BLIND_SECONDS  # this thread looks
            return True

    def _lost(self, error: Exception) -> None:
        with self._lock:
            first, self._away = not self._away, True
            self._look_at = time.monotonic() + BLIND_SECONDS * random.uniform(1, 1.5)
        if first:
            log.warning("models_without_redis", error=type(error).__name__)

    def _found(self) -> None:
        if self._away:
            self._away = False
            log.info("models_with_redis_again")

    @cached_property
    def _client(self) -> Any:
        """Made where Redis is asked first. A connection that Redis closed while it was idle is opened once more."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis.from_url(
            self._url, socket_timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS, decode_responses=True,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        )  # fmt: skip


SHARED = Shared(settings.REDIS_URL)
