"""Logs: one JSON object a line (or coloured lines on a console), with request and task id, without secrets."""
from __future__ import annotations

import logging.config
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from llm import masking

SECRET_PATTERNS = (
    (re.compile(r"(ops_[A-Za-z0-9_-]{8})[A-Za-z0-9_-]+"), r"\1…"),  # an API key keeps its prefix
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',]+"), r"\1 …"),
    (re.compile(r"(\w://[^\s/:@]*):[^\s/@]+@"), r"\1:…@"),  # a URL's password
    (re.compile(r"\b(sk|whsec)[-_][A-Za-z0-9_-]{8,}"), r"\1-…"),
)
SECRET_NAMES = re.compile(r"(?i)(authorization|password|secret|api_?key|token|cookie)$")
NOISY = ("httpx", "httpcore", "LiteLLM", "kombu", "amqp", "asyncio", "django.security.DisallowedHost")
# Django repeats each 5xx; what carries no traceback stands in the access line already.
DEFECTS = {"()": "django.utils.log.CallbackFilter", "callback": lambda record: bool(record.exc_info)}


def configure(options: Mapping[str, Any]) -> None:
    """Django's LOGGING_CONFIG hook. `options` is {"level", "format": "json" | "console"}.

    The standard library's loggers (Django, uvicorn, Celery) and structlog's end in the same handler.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": formatter, "style": options["format"]}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"handlers": ["stderr"], "level": options["level"]},
            "filters": {"defects": DEFECTS},
            "loggers": {name: {"level": "ERROR"} for name in NOISY} | dict.fromkeys(OWN_HANDLERS, ONWARD) | QUIET,
        }
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *SHARED, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


# Loggers that bring handlers of their own hand their lines on instead.
OWN_HANDLERS = ("uvicorn", "uvicorn.error", "django", "django.server", "celery", "celery.task", "flower")
ONWARD = {"handlers": [], "propagate": True}
QUIET = {
    "uvicorn.access": {"handlers": [], "propagate": False},  # the access line is opspawn.access
    "django.request": {"level": "ERROR", "filters": ["defects"]},
}

SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def formatter(style: str) -> ProcessorFormatter:
    if style == "console":
        last: list[Processor] = [structlog.dev.ConsoleRenderer(pad_event_to=24)]
    else:
        last = [structlog.processors.JSONRenderer(default=str, ensure_ascii=False)]
    return ProcessorFormatter(
        foreign_pre_chain=[*SHARED, structlog.stdlib.ExtraAdder()],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            without_secrets,
            *last,
        ],
    )


def without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The last word before a line is written: API keys, providers' keys, bearer tokens, passwords in URLs are cut."""
    event.pop("color_message", None)  # uvicorn's second copy of its line
    for name, value in event.items():
        event[name] = "…" if SECRET_NAMES.search(name) and value else shorn(value)
    return event


def shorn(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, shown in SECRET_PATTERNS:
            value = pattern.sub(shown, value)
        return masking.mask_known(value)
    if isinstance(value, MutableMapping):
        return {name: "…" if SECRET_NAMES.search(str(name)) else shorn(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [shorn(inner) for inner in value]
    return value if isinstance(value, int | float | bool | None) else shorn(str(value))
