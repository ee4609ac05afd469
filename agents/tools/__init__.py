"""What an agent can do: decorated functions in one registry."""
from agents.tools import added, builtin
from agents.tools.registry import REGISTRY

__all__ = ["builtin"]

REGISTRY.before_a_look = added.load
