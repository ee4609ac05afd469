"""The one door to every model: one call, its models in order, their attempts, and the waits between them."""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from llm import providers, scripted, structured
from llm.asking import Asking, OnRetry, Play, ShouldStop
from llm.errors import Later, ModelError
from llm.messages import Delta, ModelCall, ModelSettings, Reply

__all__ = ["OnDelta", "OnRetry", "ShouldStop", "complete", "once", "warm_up"]

OnDelta = Callable[[Delta], None]


def complete(
    call: ModelCall, *, on_retry: OnRetry, should_stop: ShouldStop, on_delta: OnDelta | None = None
) -> Reply:
    """Ask the model; calls out and blocks, touches no database.

    With `on_delta` the answer is streamed where `llm.dialects` speaks the provider's protocol, and its text is handed
    on as it comes; an attempt after a failed one begins anew.

    What may pass (rate limit, timeout, connection, 5xx, an unreadable answer) is tried again, at most
    LLM_MAX_ATTEMPTS times on a model, those of `call.earlier` included, and never past `seconds_left`. Then, or when
    the model is refused for a reason that another one may not have, the next of `call.fallbacks` is asked.
    `on_retry(attempt, wait_seconds)` is told before each wait and each change of the model. `should_stop()` ends a wait
    within 100 ms and a request under way within half a second, with Abandoned.

    Raises llm.errors.ModelError, with `attempts` and what the failed attempts were billed; and llm.errors.Later, with
    the same, when a model may still answer but is not to be asked within LLM_WAIT_SECONDS.
    """
    asking = Asking(call, on_retry, should_stop, time.monotonic() + call.seconds_left)
    try:
        reply = asking.run(lambda chosen: player(call, chosen, should_stop, on_delta))
    except (ModelError, Later) as error:
        error.attempts, error.usage = tuple(asking.attempts), asking.usage
        asked = asking.attempts[-1].model if asking.attempts else call.settings.model
        error.simulated = providers.split(asked)[0] == "scripted"
        raise
    return replace(reply, attempts=tuple(asking.attempts), usage=asking.usage + reply.usage)


def once(call: ModelCall, timeout_seconds: float) -> Reply:
    """One attempt, whatever comes of it. Raises ModelError."""
    return player(call, call.settings, lambda: False)(0, timeout_seconds)


def warm_up() -> None:
    """Import LiteLLM ahead of the first call, which would spend seconds of its task's time on it. Blocks for those."""
    from llm import litellm_calls

    litellm_calls.load()


def player(
    call: ModelCall, chosen: ModelSettings, should_stop: Callable[[], bool], on_delta: OnDelta | None = None
) -> Play:
    """Who answers for that model. Raises what can be known before any attempt: no such model, no key, bad options."""
    provider, name = providers.check(chosen.model)
    call = structured.fitted(replace(call, settings=replace(chosen, model=f"{provider}/{name}")))
    if provider == "scripted":
        script = scripted.entries(name, chosen.provider_options)
        return lambda made, timeout: scripted.play(call, script, made, timeout, should_stop, on_delta)
    from llm import litellm_calls

    litellm_calls.load()  # takes seconds, once, and only in a worker
    from llm import direct  # imports parts of LiteLLM, which two threads must not import at once

    if spoken := direct.prepare(call, provider, on_delta):
        return lambda made, timeout: direct.send(spoken, timeout, should_stop)
    prepared = litellm_calls.prepare(call, provider)
    return lambda made, timeout: litellm_calls.send(prepared, timeout, should_stop)
