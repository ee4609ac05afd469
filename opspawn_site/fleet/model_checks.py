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

    def fails(model: str) -> bool:
        return advice.has_ended(model) or not providers.known(providers.split(model)[0])

    agents = sorted(current_models(), key=lambda one: not fails(model_of(one[1])))
    models = sorted({model_of(config) for _, config in agents})
    said = [f"{slug}: {sentence}" for slug, config in agents for sentence in advice_of(config)]
    words = f"{number_of(len(agents), 'agent')} on {first(models, ', ') or 'none'}"
    cure = "change the model of those agents, in the admin or over REST" if any(map(fails, models)) else ""
    return Check("models", f"{words}. {first(said, ' ')}" if said else words, cure)


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


def first(words: list[str], between: str) -> str:
    left = len(words) - SHOWN
    return between.join(words[:SHOWN]) + (f"{between}and {left} more" if left > 0 else "")
