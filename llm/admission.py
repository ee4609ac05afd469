"""Whether a model may be asked now: its circuit and its provider's limits, counted for all workers in Redis.

A circuit is kept for each model and address: after LLM_CIRCUIT_FAILURES failures in a row it opens, nobody asks until
the cool-down is over, then one call tries. The scripted model has none. Limits are LLM_LIMITS. Without Redis
every call is admitted.
"""
from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from llm import providers
from llm.admission_scripts import ENTER, LEAVE
from llm.errors import Abandoned, ModelError
from llm.shared import SHARED

PREFIX = "opspawn:llm:"
LEASE_GRACE_SECONDS = 30.0  # a slot whose worker died is free again so long after its attempt should have ended
OUTPUT_TOKENS = 1024  # reserved for an answer whose length is not bounded
JITTER = (1.0, 1.25)  # of a cool-down and of a wait, so that a fleet does not come back at once

Limits = tuple[int, int, int]  # calls at once, requests a minute, tokens a minute; 0 is no limit


@dataclass(frozen=True, slots=True)
class Ticket:
    """An attempt that was admitted; what `leave` needs to know of it."""

    keys: tuple[str, ...]
    limits: tuple[Limits, ...]
    circuit: bool
    id: str
    second: int  # of Redis's clock
    tokens: int
    trial: bool  # the one call that tries a circuit after its cool-down
    failures: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Not now: for how long, and why in words. `known`: after that time it is worth asking; else that is a guess."""

    seconds: float
    reason: str
    known: bool


REASONS = {
    "circuit": "{model} failed again and again and is left alone until its cool-down is over",
    "trial": "{model} failed again and again, and another call tries whether it is back",
    "concurrency": "{scope} is at its limit of {limit} calls at once",
    "requests": "{scope} is at its limit of {limit} requests a minute",
    "tokens": "{scope} is at its limit of {limit} tokens a minute",
}
PLACES = {"concurrency": 0, "requests": 1, "tokens": 2}


def counts_tokens(model: str) -> bool:
    """Whether a call of this model has to say how many tokens it may take."""
    return any(limits[2] for _, limits in _scopes(model))


def enter(model: str, address: str, tokens: int, attempt_seconds: float) -> Ticket | Refused | None:
    """Ask for an attempt at `provider/name` at that address (`''`: the provider's own); None: nothing is counted.

    One round trip; books the slot, the request and the tokens at once, or nothing. `leave` gives the slot back.
    """
    provider = providers.split(model)[0]
    circuit = provider != "scripted" and settings.LLM_CIRCUIT_FAILURES > 0
    scopes = _scopes(model)
    if not circuit and not scopes:
        return None
    ticket_id, lease = secrets.token_hex(8), round((attempt_seconds + LEASE_GRACE_SECONDS) * 1000)
    keys, limits = _keys(model, address, scopes), tuple(limits for _, limits in scopes)
    given: list[str | int | float] = [int(circuit), lease, ticket_id, tokens]
    given += [number for each in limits for number in each]
    said = SHARED.run(ENTER, keys, given)
    if said is None:
        return None
    if said[0] != "ok":
        return _refused(model, scopes, said)
    return Ticket(keys, limits, circuit, ticket_id, int(said[1]), tokens, bool(said[2]), int(said[3]))


def leave(ticket: Ticket | None, failure: BaseException | None, tokens: int, *, clipped: bool = False) -> None:
    """Give the slot back, correct the tokens to what the attempt took, and tell the circuit how it ended.

    A failure that may pass counts against the circuit; an answer, or a refusal of this one request, closes it;
    an attempt that was given up says nothing. Nor does one that had less time than LLM_TIMEOUT_SECONDS and used it up
    (`clipped`): one task's hurry is not the model's ill health.
    """
    if ticket is None:
        return
    outcome = "neither" if clipped else _outcome(failure)
    if not ticket.limits and outcome == "ok" and not ticket.trial and not ticket.failures:
        return  # there is nothing to forget
    given: list[str | int | float] = [
        outcome, ticket.id, ticket.second, ticket.tokens, tokens, int(ticket.circuit), int(ticket.trial),
        settings.LLM_CIRCUIT_FAILURES, round(settings.LLM_CIRCUIT_WINDOW_SECONDS * 1000),
        round(settings.LLM_CIRCUIT_COOLDOWN_SECONDS * 1000 * random.uniform(*JITTER)),
        *(number for each in ticket.limits for number in each),
    ]  # fmt: skip
    SHARED.run(LEAVE, ticket.keys, given)


def _outcome(failure: BaseException | None) -> str:
    if failure is None:
        return "ok"
    if isinstance(failure, Abandoned) or not isinstance(failure, ModelError):
        return "neither"
    return "ok" if failure.permanent else "failed"


def _scopes(model: str) -> list[tuple[str, Limits]]:
    """The limits that hold for the model: its provider's, and its own."""
    said = settings.LLM_LIMITS
    named = [name for name in (providers.split(model)[0], model) if name in said] if said else []
    kinds = ("concurrency", "requests_per_minute", "tokens_per_minute")
    return [(name, tuple(said[name].get(kind, 0) for kind in kinds)) for name in named]  # type: ignore[misc]


def _keys(model: str, address: str, scopes: list[tuple[str, Limits]]) -> tuple[str, ...]:
    """Another address is another server, with a health and limits of its own."""
    at = "@" + hashlib.blake2s(address.encode(), digest_size=8).hexdigest() if address else ""
    counted = (f"{PREFIX}{kind}:{name}{at}" for name, _ in scopes for kind in PLACES)
    return (f"{PREFIX}circuit:{model}{at}", *counted)


def _refused(model: str, scopes: list[tuple[str, Limits]], said: Any) -> Refused:
    why, milliseconds, place = said[0], int(said[1]), int(said[2])
    scope, limits = scopes[place] if why in PLACES else ("", (0, 0, 0))
    reason = REASONS[why].format(model=model, scope=scope, limit=limits[PLACES[why]] if why in PLACES else 0)
    return Refused(max(0.05, milliseconds / 1000) * random.uniform(*JITTER), reason, known=why == "circuit")
