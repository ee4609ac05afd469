"""Why a model call failed, in the words of a task's `error_code`."""
from __future__ import annotations

from llm.messages import Attempt, Usage

ABANDONED = "abandoned"  # of a call that was given up: no error of its model


class ModelError(Exception):
    """The model call failed."""

    code = "provider_error"
    permanent = True  # asking the same model again cannot help
    elsewhere = False  # another model may not fail by it

    def __init__(self, message: str = "", *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.retry_after_seconds = retry_after_seconds
        self.attempts: tuple[Attempt, ...] = ()
        self.usage = Usage()  # what was billed although the call failed
        self.simulated = False

    @property
    def outcome(self) -> str:
        """Its word in the ledger."""
        return self.code


class UnknownModel(ModelError):
    """The provider or the model does not exist."""

    code = "invalid_agent_config"
    elsewhere = True


class BadOptions(ModelError):
    """The agent's provider options cannot be used."""

    code = "invalid_agent_config"


class MissingKey(ModelError):
    """The provider's key is not set."""

    code = "provider_auth"
    elsewhere = True


class NoEmbedder(ModelError):
    """The embedding model cannot be loaded."""

    code = "invalid_agent_config"


class CredentialGone(ModelError):
    """The agent's credential cannot be used: it was deleted, disabled, or is another provider's."""

    code = "invalid_agent_config"


class AuthRefused(ModelError):
    """The provider refused the key."""

    code = "provider_auth"
    elsewhere = True


class BadRequest(ModelError):
    """The provider refused the request."""


class ContextTooLong(ModelError):
    """The conversation does not fit the model's context."""

    code = "context_too_long"
    elsewhere = True


class ContentFiltered(ModelError):
    """The provider's content filter refused the request or the answer."""

    code = "content_filtered"


class RateLimited(ModelError):
    """The provider's rate limit was hit."""

    code = "rate_limited"
    permanent = False
    elsewhere = True


class ModelTimeout(ModelError):
    """The provider did not answer in time."""

    permanent = False
    elsewhere = True


class ConnectionFailed(ModelError):
    """The provider could not be reached."""

    permanent = False
    elsewhere = True


class ServerFailed(ModelError):
    """The provider failed (5xx)."""

    permanent = False
    elsewhere = True


class Malformed(ModelError):
    """The provider's answer could not be read."""

    permanent = False
    elsewhere = True


class BudgetExceeded(ModelError):
    """The call does not fit the budget."""

    code = "budget_exceeded"


class Barred(BudgetExceeded):
    """A budget is in force, and nobody knows what the model costs."""

    elsewhere = True


class Abandoned(ModelError):
    """The call was given up because the task is to stop."""

    @property
    def outcome(self) -> str:
        return ABANDONED


class Later(Exception):
    """The model is not to be asked before some seconds have passed: no thread waits for that.

    `attempts` and `usage` are of the attempts made before, as on ModelError.
    """

    def __init__(self, seconds: float, reason: str, model: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.model = model
        self.attempts: tuple[Attempt, ...] = ()
        self.usage = Usage()
        self.simulated = False
