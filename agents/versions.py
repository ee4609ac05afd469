"""How agents come to be and change: each change publishes an immutable version, and any version can come back."""
from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from agents import config as configuration
from agents import credentials
from agents.errors import ConfigInvalid, FieldProblem, SlugTaken, StaleVersion, UnknownAgent, UnknownVersion
from agents.models import SLUG, Agent, AgentVersion
from agents.strict import Problems, anything, flag, report, storable, table, text, wrong_type

DESCRIPTION = text(most=4000)
NOTE = text(most=500)
PATCH = table({"description": DESCRIPTION, "archived": flag(), "config": anything()})
PATCH_SCHEMA = PATCH.schema


def create(slug: str, config: dict[str, Any], *, description: str = "", note: str = "", by: str) -> Agent:
    """A new agent and its version 1, in one transaction. Raises ConfigInvalid and SlugTaken."""
    problems = [*_slug_problems(slug), *DESCRIPTION.check(description, "/description"),
                *storable(description, "/description"), *configuration.check(config)]  # fmt: skip
    _refuse(problems, note)
    try:
        with transaction.atomic():
            _refuse(credentials.problems(config), note)
            agent = Agent.objects.create(slug=slug, description=description, version=1)
            _add_version(agent, 1, config, note=note, by=by)
    except IntegrityError:
        raise SlugTaken(f"There is an agent {slug!r} already; change that one, or take another name.") from None
    agent.refresh_from_db()
    return agent


def change(slug: str, patch: dict[str, Any], *, note: str = "", by: str, if_match: int | None = None) -> Agent:
    """Apply a JSON merge patch (RFC 7396) over `description`, `archived` and `config`, in one transaction.

    Publishes a new version; none when the patch changes nothing. Raises UnknownAgent, StaleVersion (the version
    is not `if_match`) and ConfigInvalid.
    """
    _refuse([*storable(patch, ""), *PATCH.check(patch, "")], note)
    with transaction.atomic():
        agent = _locked(slug, if_match)
        before = _content(agent)
        after = {**before, **patch, "config": merged(before["config"], patch.get("config", {}))}
        if _same(before, after):
            return agent
        _refuse([*configuration.check(after["config"]), *credentials.problems(after["config"])], note)
        return _publish(agent, after, note=note, by=by)


def rollback(slug: str, version: int, *, by: str, note: str = "", if_match: int | None = None) -> Agent:
    """Publish the configuration of an earlier version as a new one, in one transaction.

    Raises UnknownAgent, UnknownVersion, StaleVersion, and ConfigInvalid when it would not be valid today.
    """
    problems = [] if type(version) is int else wrong_type("/version", version, "the number of a version")
    _refuse(problems, note)
    with transaction.atomic():
        agent = _locked(slug, if_match)
        old = _version(agent, version)
        _refuse([*configuration.check(old.config), *credentials.problems(old.config)], note)
        return _publish(agent, {**_content(agent), "config": old.config}, note=note, by=by, rollback_of=version)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged key by key, null takes a key away, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _locked(slug: str, if_match: int | None) -> Agent:
    agent = None if _slug_problems(slug) else Agent.objects.select_for_update().filter(slug=slug).first()
    if agent is None:
        raise UnknownAgent(f"There is no agent {slug!r}.")
    if if_match is not None and if_match != agent.version:
        raise StaleVersion(f"Agent {slug!r} is at version {agent.version}, not {if_match}: read it again.")
    return agent


def _version(agent: Agent, version: int) -> AgentVersion:
    found = agent.versions.filter(version=version).first() if 1 <= version <= agent.version else None
    if found is None:
        raise UnknownVersion(f"Agent {agent.slug!r} has no version {version}; it has 1 to {agent.version}.")
    return found


def _content(agent: Agent) -> dict[str, Any]:
    config = agent.versions.get(version=agent.version).config
    return {"description": agent.description, "archived": agent.archived, "config": config}


def _same(before: Any, after: Any) -> bool:
    """Equal as JSON: for Python 1, 1.0 and True are one value."""
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def _publish(agent: Agent, content: dict[str, Any], **about: Any) -> Agent:
    number = agent.version + 1
    _add_version(agent, number, content["config"], **about)
    agent.version, agent.description, agent.archived = number, content["description"], content["archived"]
    agent.updated_at = Now()
    agent.save(update_fields=["version", "description", "archived", "updated_at"])  # saved, so that it is audited
    agent.refresh_from_db()
    return agent


def _add_version(agent: Agent, number: int, config: dict[str, Any], *, by: str, **about: Any) -> None:
    AgentVersion.objects.create(agent=agent, version=number, config=config, created_by=by[:200], **about)


def _slug_problems(slug: Any) -> Problems:
    if not isinstance(slug, str):
        return wrong_type("/slug", slug, "a string")
    try:
        SLUG(slug)
    except ValidationError as error:
        return [FieldProblem("/slug", "invalid", error.messages[0])]
    return []


def _refuse(problems: Problems, note: Any) -> None:
    found = report([*problems, *NOTE.check(note, "/note"), *storable(note, "/note")])
    if found:
        raise ConfigInvalid(f"{found[0].pointer}: {found[0].detail}", problems=tuple(found))
