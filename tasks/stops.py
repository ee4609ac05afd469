"""Why a run ends although its agent is not done, and its task does not wait (for that see `tasks.parking`)."""
from __future__ import annotations


class Stopped(Exception):
    """The run ends here although the agent is not done."""


class Fenced(Stopped):
    """Another worker has the task, or it is final: what this one still holds is dropped."""


class Cancelled(Stopped):
    """A cancel was requested."""


class Released(Stopped):
    """This worker is shutting down and hands the task back."""


class Nondeterminism(Exception):
    """The journal holds another call than the agent now asks for."""
