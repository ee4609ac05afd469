"""Texts into vectors through the same door as model calls: in batches, tried again by the same table."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings
from tenacity import RetryCallState, Retrying, retry_if_exception

from llm import local_embedder, providers, tokens
from llm.asking import wait_seconds
from llm.errors import BadRequest, Malformed, ModelError, ModelTimeout
from llm.messages import Usage
from llm.storable import clean

BATCH_TEXTS = 96  # Gemini takes 100 in one request, OpenAI 2048
BATCH_BYTES = 256 * 1024  # about 64,000 tokens of English; OpenAI takes 300,000 in one request

Vector = tuple[float, ...]
Ask = Callable[[Sequence[str], float], tuple[Sequence[Sequence[float]], Usage]]
"""One request for some texts, within so many seconds: a vector each, in their order."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors` in the order of the texts, each of length 1 (or all zero), all of the same dimension."""

    vectors: tuple[Vector, ...]
    model: str
    usage: Usage

    @property
    def dimension(self) -> int:
        return len(self.vectors[0]) if self.vectors else 0


def embed(texts: Sequence[str], model: str = "", *, seconds_left: float = 60.0) -> Embedded:
    """The texts' vectors by that model, else by EMBEDDING_MODEL. Calls out and blocks, for `seconds_left` at most.

    Raises llm.errors.ModelError: BadRequest for a text without any word, and whatever a model call raises.
    """
    model = model or settings.EMBEDDING_MODEL
    if blank := [place for place, text in enumerate(texts) if not text.strip()]:
        raise BadRequest(f"text {blank[0]} of {len(texts)} is empty: leave it out")
    ask, ends_at = _asker(model), time.monotonic() + seconds_left
    vectors: list[Vector] = []
    usage = Usage()
    for batch in batches([clean(text) for text in texts]):
        found, spent = _patiently(ask, batch, ends_at)
        vectors += [_unit(vector) for vector in found]
        usage += spent
    if len({len(vector) for vector in vectors}) > 1:
        raise Malformed(f"{model} sent vectors of several dimensions")
    return Embedded(tuple(vectors), model, usage)


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """In order, each within BATCH_TEXTS and BATCH_BYTES; a longer text goes alone."""
    batch: list[str] = []
    size = 0
    for text in texts:
        added = len(text.encode("utf-8", "replace"))
        if batch and (len(batch) == BATCH_TEXTS or size + added > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += added
    if batch:
        yield batch


def _asker(model: str) -> Ask:
    """Raises what can be known before any request: no such provider, no key, no local embedder."""
    if model == local_embedder.MODEL:
        return _locally
    provider, name = providers.check(model)
    from llm import litellm_embeddings  # takes seconds to import, and only a worker needs it

    return litellm_embeddings.asker(f"{provider}/{name}", provider)


def _locally(texts: Sequence[str], seconds: float) -> tuple[Sequence[Sequence[float]], Usage]:
    return local_embedder.embed(texts), Usage(input_tokens=sum(map(tokens.of_output, texts)))


def _patiently(ask: Ask, batch: list[str], ends_at: float) -> tuple[Sequence[Sequence[float]], Usage]:
    def attempt() -> tuple[Sequence[Sequence[float]], Usage]:
        left = ends_at - time.monotonic()
        if left <= 0:
            raise ModelTimeout("no time is left to embed")
        return ask(batch, min(left, settings.LLM_TIMEOUT_SECONDS))

    def finished(state: RetryCallState) -> bool:
        outlasts = time.monotonic() + state.upcoming_sleep >= ends_at
        return state.attempt_number >= settings.LLM_MAX_ATTEMPTS or outlasts

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, ModelError) and not error.permanent),
        stop=finished, wait=wait_seconds, reraise=True,
    )  # fmt: skip
    return retrying(attempt)


def _unit(vector: Sequence[float]) -> Vector:
    length = math.sqrt(math.fsum(number * number for number in vector))
    return tuple(number / length for number in vector) if length else tuple(vector)
