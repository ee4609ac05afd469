"""What can go wrong when an agent is looked up or changed."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong in a body: a JSON pointer (RFC 6901) into it, a code and a sentence that names the cure."""

    pointer: str
    code: str
    detail: str


class AgentError(Exception):
    """The agent cannot be used as asked."""

    code = "agent_error"

    def __init__(self, message: str = "", *, problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.problems = problems


class UnknownAgent(AgentError):
    """No agent has that name."""

    code = "unknown_agent"


class UnknownVersion(AgentError):
    """The agent has no version with that number."""

    code = "unknown_version"


class AgentArchived(AgentError):
    """The agent is archived and takes no new tasks."""

    code = "agent_archived"


class SlugTaken(AgentError):
    """An agent with that name exists."""

    code = "slug_taken"


class StaleVersion(AgentError):
    """The agent has changed since it was read."""

    code = "stale_version"


class ConfigInvalid(AgentError):
    """The configuration is not valid; `problems` holds every reason."""

    code = "invalid"


class AdminNeeded(AgentError):
    """Only a key with the scope admin may set that; `problems` names the places."""

    code = "permission_denied"


class UnknownCredential(AgentError):
    """No provider row has that label."""

    code = "not_found"


class CredentialTaken(AgentError):
    """A provider row with that label exists."""

    code = "label_taken"


class CredentialInUse(AgentError):
    """An agent names that provider row."""

    code = "provider_in_use"
