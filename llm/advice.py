"""What is worth saying of a model before it is called: near names, an end that is announced. Never a refusal."""
from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable

from llm import price_map, providers, scripted

SOON = datetime.timedelta(days=30)
SUGGESTIONS = 3


def of(model: str, *, own_server: bool = False) -> list[str]:
    """Sentences of warning about `provider/name`; empty when there is nothing to say. Calls nothing.

    What runs on an `own_server` is not in the map, and is not missed.
    """
    provider, name = providers.split(model)
    if not provider or not name:
        return [f"{model!r} is not a whole model: write provider/name{_meant(name)}."]
    if provider not in providers.KNOWN:
        near = _near(provider, providers.KNOWN, "; there is ")
        return [f"Provider {provider!r} does not exist, and a task that calls it fails{near}."]
    said = price_map.known(f"{provider}/{name}")
    if said is None and not own_server:
        return _unknown(provider, name)
    return [end for end in [ending(model)] if end]


def ending(model: str) -> str:
    """When the provider ends the model, if that was announced and has passed or is near; else ''."""
    date = end_of(model)
    if date is None or date - _today() > SOON:
        return ""
    if has_ended(model):
        return f"{model} was to be switched off by its provider on {date}: choose another model."
    return f"{model} is to be switched off by its provider on {date}: choose another model until then."


def has_ended(model: str) -> bool:
    date = end_of(model)
    return date is not None and date < _today()


def end_of(model: str) -> datetime.date | None:
    """The map's `deprecation_date`; None when there is none, or one that is no date."""
    said = (price_map.known(model) or {}).get("deprecation_date")
    try:
        return datetime.date.fromisoformat(str(said)) if said else None
    except ValueError:
        return None


def _unknown(provider: str, name: str) -> list[str]:
    """A provider of which the map lists nothing, such as one's own vLLM, is not spoken of."""
    names = [f"scripted/{one}" for one in scripted.NAMES] if provider == "scripted" else [*price_map.names(provider)]
    if not names or f"{provider}/{name}" in names:
        return []
    near = _near(f"{provider}/{name}", names, "; near it are ")
    priced = "" if provider == "scripted" else ", so that its cost will not be known"
    return [f"Model {f'{provider}/{name}'!r} is not in the installed list of models{priced}{near}."]


def _near(word: str, known: Iterable[str], lead: str) -> str:
    found = difflib.get_close_matches(word, known, 3 * SUGGESTIONS)
    living = [name for name in found if not ending(name)][:SUGGESTIONS]
    return lead + ", ".join(living) if living else ""


def _meant(name: str) -> str:
    """Of the providers that have a default model: enough to find what a bare name meant."""
    whole = {one.split("/", 1)[1]: one for provider in providers.DEFAULT_MODELS for one in price_map.names(provider)}
    near = difflib.get_close_matches(name, whole, 1)
    return f", for example {whole[near[0]]}" if near else ""


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
