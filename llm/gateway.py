"""The one door to every model: one call, its attempts, and the waits between them."""
from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable
from dataclasses import replace

from django.conf import settings
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from llm import providers, scripted
from llm.errors import Abandoned, ModelError, ModelTimeout
from llm.messages import Attempt, ModelCall, Reply, Usage
from llm.pause import pause

OnRetry = Callable[[Attempt, float], None]
ShouldStop = Callable[[], bool]
Play = Callable[[int, float], Reply]
"""One attempt: how many came before it in this call, and the seconds it may take."""

_BACK_OFF = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)  # 0.5 to 0.75 s, 1 to 1.25 s, 2 to 2.25 s …


def complete(call: ModelCall, *, on_retry: OnRetry, should_stop: ShouldStop) -> Reply:
    """Ask the model; calls out and blocks, touches no database.

    What may pass (rate limit, timeout, connection, 5xx, an unreadable answer) is tried again, at most
    LLM_MAX_ATTEMPTS times in all and never past `seconds_left`; `on_retry(attempt, wait_seconds)` is told before
    each wait. `should_stop()` ends a wait within 100 ms and a request under way within half a second, with Abandoned.
    Raises llm.errors.ModelError, with `attempts` and what the failed attempts were billed.
    """
    tries = _Tries(call, on_retry, should_stop)
    try:
        reply = tries.run()
    except ModelError as error:
        error.attempts, error.usage = tuple(tries.attempts), tries.usage
        error.simulated = providers.split(call.settings.model)[0] == "scripted"
        raise
    return replace(reply, attempts=tuple(tries.attempts), usage=tries.usage + reply.usage)


def warm_up() -> None:
    """Import LiteLLM ahead of the first call, which would spend seconds of its task's time on it. Blocks for those."""
    from llm import litellm_calls

    litellm_calls.load()


class _Tries:
    """The attempts of one call. Tenacity decides about them; this remembers them."""

    def __init__(self, call: ModelCall, on_retry: OnRetry, should_stop: ShouldStop) -> None:
        self.call, self.on_retry, self.should_stop = call, on_retry, should_stop
        self.ends_at = time.monotonic() + call.seconds_left
        self.attempts: list[Attempt] = []
        self.usage = Usage()  # of the attempts that failed
        self.failure = ModelError()  # the last one

    def run(self) -> Reply:
        play = _player(self.call, self.should_stop)
        if self.left() <= 0:
            raise ModelTimeout("no time is left for a model call")
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ModelError) and not error.permanent),
            stop=self.finished,
            wait=wait_seconds,
            before_sleep=self.tell,
            sleep=self.sleep,
            reraise=True,
        )
        reply: Reply = retrying(self.attempt, play)
        return reply

    def attempt(self, play: Play) -> Reply:
        started_at, started = datetime.datetime.now(datetime.UTC), time.monotonic()
        try:
            reply = play(len(self.attempts), self.timeout())
        except ModelError as error:
            self.usage += error.usage
            self.failure = error
            self.record(started_at, started, str(error))
            raise
        self.record(started_at, started, None)
        return reply

    def record(self, started_at: datetime.datetime, started: float, error: str | None) -> None:
        shown = started_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.attempts.append(Attempt(shown, time.monotonic() - started, error))

    def left(self) -> float:
        return self.ends_at - time.monotonic()

    def timeout(self) -> float:
        return max(0.001, min(self.call.settings.call_timeout_seconds or settings.LLM_TIMEOUT_SECONDS, self.left()))

    def finished(self, state: RetryCallState) -> bool:
        """After the last attempt; when the next wait would outlast the time; when there is no money for another."""
        if state.attempt_number >= settings.LLM_MAX_ATTEMPTS or state.upcoming_sleep >= self.left():
            return True
        return self.usage.tokens > 0 and not self.call.may_repeat(self.usage)

    def tell(self, state: RetryCallState) -> None:
        self.on_retry(self.attempts[-1], state.upcoming_sleep)

    def sleep(self, seconds: float) -> None:
        if not pause(seconds, self.should_stop):
            raise Abandoned(f"{self.failure} (not tried again: the task is to stop)") from self.failure


def wait_seconds(state: RetryCallState) -> float:
    """What the provider asked for (`Retry-After`), spread by up to a tenth; else exponential back-off."""
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.retry_after_seconds if isinstance(failed, ModelError) else None
    return asked * random.uniform(1, 1.1) if asked else _BACK_OFF(state)


def _player(call: ModelCall, should_stop: ShouldStop) -> Play:
    """Who answers this call. Raises what can be known before any attempt: no such model, no key, bad options."""
    provider, name = providers.check(call.settings.model)
    call = replace(call, settings=replace(call.settings, model=f"{provider}/{name}"))
    if provider == "scripted":
        script = scripted.entries(name, call.settings.provider_options)
        return lambda made, timeout: scripted.play(call, script, made, timeout, should_stop)
    from llm import litellm_calls  # takes seconds to import, and only a worker needs it

    prepared = litellm_calls.prepare(call, provider)
    return lambda made, timeout: litellm_calls.send(prepared, timeout, should_stop)
