"""Why a run stops here without being over: what its task then waits for, and what becomes of the step under way."""
from __future__ import annotations

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django.utils import timezone
from psycopg import sql

from llm.budget import Line, Refused
from llm.errors import Later
from llm.ledger import Charge
from tasks.moves import Ended
from tasks.replay import one_line
from tasks.states import StepStatus, WaitingOn


class Parked(Exception):
    """The run stops here; its task waits."""

    waiting_on: WaitingOn

    def __init__(self, message: str, step: Ended | None = None) -> None:
        super().__init__(message)
        self.step = step  # how the step under way ends; None when none was begun
        self.charges: Sequence[Charge] = ()  # of its call

    def told(self) -> dict[str, Any]:
        """The data of the event `task.waiting`."""
        of_step = {"step": self.step.seq} if self.step else {}
        return {"waiting_on": self.waiting_on.value, **of_step}

    def assign(self) -> dict[str, Any]:
        """Columns of the task, as `moves.Change` takes them."""
        return {"waiting_on": self.waiting_on.value}


class Unsure(Parked):
    """A `once` call was under way when its worker was lost, and nothing here can tell whether it happened."""

    waiting_on = WaitingOn.INPUT

    def __init__(self, seq: int, name: str) -> None:
        message = (
            f"The worker was lost while {name!r} was called (step {seq}), and a second call could do it twice. "
            "Look whether it happened, then resolve the step: happened (with its result), again, or stop."
        )
        super().__init__(message, Ended(seq, StepStatus.UNKNOWN.value, error=message, summary="not known"))
        self.name = name

    def told(self) -> dict[str, Any]:
        return super().told() | {"name": self.name, "detail": str(self)}


class PutOff(Parked):
    """A model is not to be asked before a time. The step keeps its attempts, which count when it goes on."""

    waiting_on = WaitingOn.TIMER

    def __init__(self, seq: int, later: Later, costs: dict[str, Any], charges: Sequence[Charge] = ()) -> None:
        reason = str(later)
        step = Ended(seq, StepStatus.FAILED.value, error=reason, summary=one_line(f"put off: {reason}"), **costs)
        super().__init__(reason, step)
        self.seconds, self.model, self.charges = later.seconds, later.model, charges

    def told(self) -> dict[str, Any]:
        """`until` by this machine's clock; the task's `wake_at`, by PostgreSQL's, is what counts."""
        until = (timezone.now() + datetime.timedelta(seconds=self.seconds)).astimezone(datetime.UTC)
        shown = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        provider = self.model.partition("/")[0]
        return super().told() | {"until": shown, "provider": provider, "model": self.model, "reason": str(self)}

    def assign(self) -> dict[str, Any]:
        wake_at = sql.SQL("clock_timestamp() + make_interval(secs => {})").format(sql.Literal(self.seconds))
        return super().assign() | {"wake_at": wake_at}


class Unaffordable(Parked):
    """The next call does not fit a budget, and the task waits for that to change."""

    waiting_on = WaitingOn.BUDGET

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.told())
        self.refused = refused

    def told(self) -> dict[str, Any]:
        """The budget, what the call needs, and what it would like to have; how it stands when no others spend of it."""
        line, offer = self.refused.line, self.refused.offer
        held = {} if line.is_shared else {"reserved_usd": plain(line.reserved_usd)}
        return super().told() | of_line(line) | held | {
            "needed_usd": plain(offer.least_usd),
            "wanted_usd": plain(offer.most_usd), "detail": str(self),
        }  # fmt: skip


def of_line(line: Line, more_usd: Decimal = Decimal(0)) -> dict[str, Any]:
    """A budget for an event, and how it stands, with `more_usd` spent, unless others spend of it, too."""
    about = {"scope": line.scope, "scope_id": line.scope_id, "period": line.period}
    if line.is_shared:
        return about
    return about | {"limit_usd": plain(line.limit_usd), "spent_usd": plain(line.spent_usd + more_usd)}


def plain(amount: object) -> str:
    """A decimal without exponent and trailing zeros, as the API shows money."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
