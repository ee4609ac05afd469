"""The smallest call of a provider: does its key open the door, and how long does that take?"""
from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import structlog
from django.utils import timezone

from llm import credentials, gateway, ledger, masking, price_map, providers
from llm.accounts import Payer
from llm.errors import ModelError
from llm.in_force import IN_FORCE
from llm.ledger import Charge
from llm.messages import Message, ModelCall, ModelSettings, Usage
from llm.models import Provider

log = structlog.get_logger(__name__)

SECONDS = 15.0
OUTPUT_TOKENS = 16  # the least that OpenAI's newer models take


@dataclass(frozen=True, slots=True)
class Trial:
    """`latency_ms` counts the whole attempt, `error` is '' when it went well; `at` is RFC 3339 in UTC."""

    ok: bool
    latency_ms: float
    error: str
    model: str
    at: str = ""


def run(label: str, model: str) -> Trial:
    """Call `provider/name` once with the row's key, within SECONDS, and keep what came of it in the row. Commits."""
    credentials.forget(label)  # a key that was replaced a moment ago is the one to be tried
    settings = ModelSettings(model, max_output_tokens=OUTPUT_TOKENS, credential=label)
    started, error, used, outcome = time.monotonic(), "", Usage(), "ok"
    try:
        used = gateway.once(ModelCall(settings, (Message("user", "ping"),)), SECONDS).usage
    except ModelError as failure:
        error, used, outcome = str(failure), failure.usage, failure.outcome
    except Exception as failure:  # a job answers whatever LiteLLM's inside raises
        log.exception("trial_failed_unexpectedly", credential=label)
        error = f"an unexpected {type(failure).__name__}; the worker's log has the details"
    milliseconds = round((time.monotonic() - started) * 1000, 1)
    trial = Trial(not error, milliseconds, masking.mask(error), model, _now())
    Provider.objects.filter(label=label).update(last_test=asdict(trial))
    _enter(model, used, outcome, milliseconds / 1000)
    return trial


def _enter(model: str, used: Usage, outcome: str, seconds: float) -> None:
    """In the ledger, as nobody's call: only the fleet's budgets are charged. A trial is not held back by them."""
    if used.tokens:
        in_force = IN_FORCE.touches([("fleet", "")])
        ledger.charge([Charge.of(
            Payer("", ""), model, used, attempt=0, step=0, outcome=outcome, seconds=seconds, in_force=in_force,
        )])  # fmt: skip


def model_for(provider: str) -> str:
    """The model to try where none is named: the provider's default, else the first in the price map, else ''."""
    if provider in providers.DEFAULT_MODELS:
        return f"{provider}/{providers.DEFAULT_MODELS[provider]}"
    return next(price_map.names(provider), "")


def _now() -> str:
    return timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
