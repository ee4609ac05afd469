"""One call on one model after another: tenacity decides about the attempts at each, this remembers all of them."""
from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from django.conf import settings
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from llm import admission, providers, tokens
from llm.errors import Abandoned, BadOptions, Barred, Later, ModelError, ModelTimeout
from llm.messages import Attempt, ModelCall, ModelSettings, Reply, Usage
from llm.pause import pause

OnRetry = Callable[[Attempt, float], None]
ShouldStop = Callable[[], bool]
Play = Callable[[int, float], Reply]
"""One attempt: how many came before it in this call, and the seconds it may take."""
Players = Callable[[ModelSettings], Play]

_BACK_OFF = wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)  # 0.5 to 0.75 s, 1 to 1.25 s, 2 to 2.25 s …
PUT_OFF_SECONDS = 5.0  # where nobody knows how long it takes; doubled each time it did not do
PUT_OFF_MAX_SECONDS = 80.0
CLOCK_SECONDS = 0.05  # by which a timeout may come early


class Asking:
    """The attempts of one call, over its models and, with `earlier`, over the times it was put off."""

    def __init__(self, call: ModelCall, on_retry: OnRetry, should_stop: ShouldStop, ends_at: float) -> None:
        self.call, self.on_retry, self.should_stop, self.ends_at = call, on_retry, should_stop, ends_at
        self.attempts: list[Attempt] = list(call.earlier)
        self.usage = Usage()  # of the attempts that failed now
        self.failure = ModelError()  # the last one
        self.long_wait: float | None = None  # asked for before the next attempt, too long for a thread

    def run(self, players: Players) -> Reply:
        """The first answer. Raises Later when a model may still answer, else the first model's failure."""
        put_off: list[Later] = []
        failures: list[tuple[str, ModelError]] = []
        for place, chosen in enumerate(self.models()):
            if place:
                self.move_on()
            known = len(self.attempts)
            try:
                return self.ask(chosen, players)
            except Later as later:
                put_off.append(later)
                reason: Exception = later
            except ModelError as error:
                failures.append((chosen.model, error))
                reason = error
                if not self.goes_on(error, chosen):
                    break
            if len(self.attempts) == known:
                self.skip(chosen.model, str(reason))
        if put_off and not isinstance(self.failure, Abandoned):
            raise self.until_then(min(put_off, key=lambda later: later.seconds))
        raise _all_of(failures)

    def models(self) -> list[ModelSettings]:
        """Those with attempts left; when there are none any more, the last one gets one more."""
        every = [self.call.settings, *self.call.fallbacks]
        return [chosen for chosen in every if self.made_on(chosen.model) < settings.LLM_MAX_ATTEMPTS] or every[-1:]

    def made_on(self, model: str) -> int:
        return sum(attempt.model == model and not attempt.skipped for attempt in self.attempts)

    def goes_on(self, error: ModelError, chosen: ModelSettings) -> bool:
        """Whether the next model is asked. Options that a fallback does not take were not written for it."""
        fallback = chosen is not self.call.settings
        may_help = error.elsewhere or (fallback and isinstance(error, BadOptions))
        return bool(self.call.fallbacks) and may_help and self.left() > 0 and self.affords_another()

    def move_on(self) -> None:
        """To the next model, at once."""
        self.attempts[-1] = replace(self.attempts[-1], wait_seconds=0.0)
        self.on_retry(self.attempts[-1], 0.0)

    def skip(self, model: str, reason: str) -> None:
        """Keep why the model was not even asked: one entry, however often it is passed over in a row."""
        before = self.skips(model)
        if before and self.attempts[-1].skipped and self.attempts[-1].model == model:
            self.attempts.pop()
        self.attempts.append(Attempt(_now(), 0.0, reason, model, skipped=before + 1))

    def skips(self, model: str) -> int:
        return max((attempt.skipped for attempt in self.attempts if attempt.model == model), default=0)

    def until_then(self, later: Later) -> Later:
        self.attempts[-1] = replace(self.attempts[-1], wait_seconds=later.seconds)
        return later

    def ask(self, chosen: ModelSettings, players: Players) -> Reply:
        """The attempts at one model. Raises ModelError, and Later when the next one is a long wait away."""
        if reason := self.call.barred.get(chosen.model):
            raise Barred(reason)
        play = players(chosen)
        if self.left() <= 0:
            raise ModelTimeout("no time is left for a model call")
        self.long_wait = None
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ModelError) and not error.permanent),
            stop=partial(self.finished, chosen),
            wait=wait_seconds,
            before_sleep=self.tell,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            reply: Reply = retrying(self.attempt, chosen, play)
        except ModelError as error:
            if self.long_wait is None:
                raise
            raise Later(self.long_wait, str(error), chosen.model) from error
        return reply

    def attempt(self, chosen: ModelSettings, play: Play) -> Reply:
        """The one place where an attempt begins and ends, whichever model it is made on."""
        with self.admitted(chosen) as used:
            started_at, started = _now(), time.monotonic()
            try:
                reply = play(sum(not attempt.skipped for attempt in self.attempts), self.timeout(chosen))
            except ModelError as error:
                used.append(error.usage.tokens)
                self.usage += error.usage
                self.failure = error
                self.attempts.append(
                    Attempt(started_at, time.monotonic() - started, str(error), chosen.model, code=error.outcome)
                )
                raise
            used.append(reply.usage.tokens)
            self.attempts.append(Attempt(started_at, time.monotonic() - started, None, chosen.model))
            return reply

    @contextmanager
    def admitted(self, chosen: ModelSettings) -> Iterator[list[int]]:
        """Hold a place at the model for the block, which fills in the tokens it used. Raises Later without one."""
        used: list[int] = []
        ticket, failure = self.enter(chosen), None
        allowed, started = self.timeout(chosen), time.monotonic()
        try:
            yield used
        except BaseException as error:
            failure = error
            raise
        finally:
            in_vain = isinstance(failure, ModelTimeout) and time.monotonic() - started >= allowed - CLOCK_SECONDS
            clipped = in_vain and allowed < settings.LLM_TIMEOUT_SECONDS
            admission.leave(ticket, failure, sum(used), clipped=clipped)

    def enter(self, chosen: ModelSettings) -> admission.Ticket | None:
        """A short wait is waited here, a long one is told. Raises Later and Abandoned."""
        needed, waited = _tokens_of(self.call, chosen), 0.0
        address = _place_of(chosen)
        while isinstance(said := admission.enter(chosen.model, address, needed, self.timeout(chosen)),
                         admission.Refused):  # fmt: skip
            waited += said.seconds
            if waited > settings.LLM_WAIT_SECONDS or said.seconds >= self.left():
                raise Later(self.longer(said, chosen.model), said.reason, chosen.model)
            if not pause(said.seconds, self.should_stop):
                self.failure = Abandoned(f"{said.reason} (not waited for: the task is to stop)")
                raise self.failure
        return said

    def longer(self, said: admission.Refused, model: str) -> float:
        """Each time the same call is put off for want of a place it stays away longer: 5 s, 10 s … 80 s."""
        guess = min(PUT_OFF_SECONDS * 2 ** min(self.skips(model), 10), PUT_OFF_MAX_SECONDS) * random.uniform(1, 1.25)
        return said.seconds if said.known else max(said.seconds, guess)

    def left(self) -> float:
        return self.ends_at - time.monotonic()

    def timeout(self, chosen: ModelSettings) -> float:
        return max(0.001, min(chosen.call_timeout_seconds or settings.LLM_TIMEOUT_SECONDS, self.left()))

    def finished(self, chosen: ModelSettings, state: RetryCallState) -> bool:
        """After the last attempt; when the money is short, the next wait too long, or longer than the time left."""
        wait = state.upcoming_sleep
        used_up = self.made_on(chosen.model) >= settings.LLM_MAX_ATTEMPTS or not self.affords_another()
        self.long_wait = wait if wait > settings.LLM_WAIT_SECONDS and not used_up else None
        return used_up or self.long_wait is not None or wait >= self.left()

    def affords_another(self) -> bool:
        return not self.usage.tokens or self.call.may_repeat(self.usage)

    def tell(self, state: RetryCallState) -> None:
        self.attempts[-1] = replace(self.attempts[-1], wait_seconds=state.upcoming_sleep)
        self.on_retry(self.attempts[-1], state.upcoming_sleep)

    def sleep(self, seconds: float) -> None:
        if not pause(seconds, self.should_stop):
            told = f"{self.failure} (not tried again: the task is to stop)"
            self.failure, why = Abandoned(told), self.failure
            raise self.failure from why


def wait_seconds(state: RetryCallState) -> float:
    """What the provider asked for (`Retry-After`), spread by up to a tenth; else exponential back-off."""
    failed = state.outcome.exception() if state.outcome else None
    asked = failed.retry_after_seconds if isinstance(failed, ModelError) else None
    return asked * random.uniform(1, 1.1) if asked else _BACK_OFF(state)


def _place_of(chosen: ModelSettings) -> str:
    """The account and server that are asked; '' for the provider's own. Queries when the agent names a credential."""
    provider = providers.split(chosen.model)[0]
    if not chosen.credential:
        return chosen.api_base or providers.base_of(provider)
    from llm import credentials  # rows of Django's, which a call without any does not load

    return credentials.place_of(chosen, provider)


def _tokens_of(call: ModelCall, chosen: ModelSettings) -> int:
    """An estimate before the call; it is corrected after it. Not made where nobody counts."""
    if not admission.counts_tokens(chosen.model):
        return 0
    return tokens.of_input(call.messages, call.tools) + (chosen.max_output_tokens or admission.OUTPUT_TOKENS)


def _all_of(failures: list[tuple[str, ModelError]]) -> ModelError:
    """The first model's failure, which was the one asked for; its message has the others' reasons too."""
    first = failures[0][1]
    if len(failures) == 1 or isinstance(failures[-1][1], Abandoned):
        return failures[-1][1]
    return type(first)("; ".join(f"{model}: {error}" for model, error in failures))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
