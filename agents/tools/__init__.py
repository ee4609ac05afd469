"""What an agent can do: decorated functions in one registry."""
from agents.tools import builtin

__all__ = ["builtin"]
