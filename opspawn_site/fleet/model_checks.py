"""What `doctor` says of the agents' models and of the providers' keys that are kept in the database."""
from __future__ import annotations

from collections.abc import Iterator

from opspawn_site.fleet.doctor import Check

SHOWN = 5


def look() -> Iterator[Check]:
    """Needs django.setup() and a migrated database; queries, calls no model."""
    from django.db import DatabaseError, connection

    try:
        yield models()
        yield from credentials()
    except DatabaseError as error:
        yield Check("models", " ".join(str(error).split()), "let the database's user read the tables of llm and agents")
    finally:
        connection.close()


def models() -> Check:
    """The models of the agents as they are now. What has ended, or does not exist, fails each task that calls it."""
    from agents.config import model_of
    from agents.credentials import advice_of, current_models
    from llm import advice, providers
    from tasks.why import some as number_of

    said: list[str] = []
    broken = False
    agents = current_models()
    for slug, config in agents:
        model = model_of(config)
        broken |= advice.has_ended(model) or not providers.known(providers.split(model)[0])
        said += [f"{slug}: {sentence}" for sentence in advice_of(config)]
    words = first(said) if said else f"{number_of(len(agents), 'agent')}, nothing to say of their models"
    return Check("models", words, "change the model of those agents, in the admin or over REST" if broken else "")


def credentials() -> Iterator[Check]:
    from llm import credentials, sealing
    from llm.models import Provider
    from tasks.why import some as number_of

    rows = list(Provider.objects.order_by("label"))
    lost = [row.label for row in rows if row.key_sealed and not sealing.readable(row.key_sealed)]
    if lost:
        cure = "put the key that sealed them back into CREDENTIAL_KEYS, last, or replace the providers' keys"
        yield Check("credentials", f"not readable with CREDENTIAL_KEYS: {', '.join(lost)}", cure)
    missing = {row.label: name for row in rows if row.enabled and (name := credentials.missing_variable(row))}
    if missing:
        words = ", ".join(f"{name} of {label}" for label, name in missing.items())
        cure = "set it for the workers and restart them; --deep asks them whether they have it"
        yield Check("credentials", f"not set here: {words}", cure)
    if not lost and not missing:
        words = f"{number_of(len(rows), 'provider row')} can be read here" if rows else "no provider rows"
        yield Check("credentials", words)


def first(sentences: list[str]) -> str:
    left = len(sentences) - SHOWN
    return " ".join(sentences[:SHOWN]) + (f" And {left} more." if left > 0 else "")
