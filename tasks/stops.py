"""Why a run ends although its agent is not done."""
from __future__ import annotations


class Stopped(Exception):
    """The run ends here although the agent is not done."""


class Fenced(Stopped):
    """Another worker has the task, or it is final: what this one still holds is dropped."""


class Cancelled(Stopped):
    """A cancel was requested."""


class Released(Stopped):
    """This worker is shutting down and hands the task back."""


class Unsure(Exception):
    """A `once` call was under way when its worker was lost, and nothing here can tell whether it happened."""

    def __init__(self, seq: int, name: str) -> None:
        super().__init__(
            f"The worker was lost while {name!r} was called (step {seq}), and a second call could do it twice. "
            "Look whether it happened, then resolve the step: happened (with its result), again, or stop."
        )
        self.seq = seq
        self.name = name


class Nondeterminism(Exception):
    """The journal holds another call than the agent now asks for."""
