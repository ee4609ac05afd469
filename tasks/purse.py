"""The money of one run: what its calls may cost is reserved before them, what they did cost is charged after."""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection

from agents.contract import Assembled, Turn
from llm import accounts, offers
from llm.accounts import Payer
from llm.budget import Granted, Offer, Refused, Unpriced, dearest
from llm.errors import BudgetExceeded
from llm.in_force import IN_FORCE
from llm.ledger import Charge
from llm.messages import Attempt, ModelSettings, Usage
from tasks.ancestry import limits_above
from tasks.journal import Journal
from tasks.leases import Held
from tasks.models import Task
from tasks.moves import Note
from tasks.parking import Unaffordable, of_line, plain
from tasks.states import EventType
from tasks.stops import Fenced

log = structlog.get_logger(__name__)

AWAY = (OperationalError, InterfaceError)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Made:
    """A call that has ended: its model, what all its attempts used, and how it went (`ok`, or an error's word)."""

    model: str
    usage: Usage
    attempts: Sequence[Attempt]
    outcome: str = "ok"
    simulated: bool = False


class Purse:
    """What one run may spend: its task's own limit, its ancestors', and every budget in force for it."""

    def __init__(self, task: Task, held: Held, journal: Journal, agent: Assembled) -> None:
        self._task, self._held, self._journal, self._agent = task, held, journal, agent
        self._granted = Granted(None)
        self._step, self._held_usd = 0, Decimal(0)

    def open(self, turn: Turn, step: int) -> int | None:
        """Reserve what the call may cost; how many tokens its answer may have, or None for the provider's default.

        Raises Unaffordable, and BudgetExceeded when the task is to fail by it or nobody knows the model's price. No
        statement without a budget in force.
        """
        self._granted = Granted(turn.max_output_tokens)
        if not self._in_force():
            return turn.max_output_tokens
        offer = self._offer(turn)
        if not offer.most_usd:
            return turn.max_output_tokens
        verdict = self._reserve(offer, step)
        if isinstance(verdict, Refused):
            raise self._refusal(verdict)
        self._granted, self._step, self._held_usd = verdict, step, verdict.amount_usd
        self.warn(Usage())
        return verdict.output_tokens if verdict.lines else turn.max_output_tokens

    def barred(self) -> dict[str, str]:
        """The fallback models that are not to be asked while a budget is in force: nobody knows what they cost."""
        return {one.model: str(Unpriced(one.model)) for one in self._agent.fallbacks if not self._may_ask(one)}

    def _may_ask(self, chosen: ModelSettings) -> bool:
        return not self._in_force() or offers.is_priced(chosen)

    def covers(self, billed: Usage) -> bool:
        """Whether another attempt may be made after attempts that were billed so much; holds what it may cost."""
        cost = self._granted.amount_usd if billed.cost_usd is None else billed.cost_usd
        more = cost + self._granted.amount_usd - self._held_usd
        if not self._granted.lines or more <= 0:
            return True
        try:
            fits = accounts.extend(self._payer, more, attempt=self._held.attempt, step=self._step)
        except AWAY:
            return False
        finally:
            connection.close()
        self._held_usd += more if fits else 0
        return fits

    def charges(self, made: Made, step: int) -> tuple[Charge, ...]:
        """The call for the ledger; what it cost is told to the budgets' accounts with it. `warn` comes after it.

        Models that were asked in vain before the one that `made` is of have an entry each, without a cost; a call that
        was never sent has none.
        """
        tried = {attempt.model: attempt for attempt in made.attempts if not attempt.skipped}
        if not tried and not made.usage.tokens:
            return ()
        in_force = bool(self._granted.lines) or self._in_force()
        about = {"attempt": self._held.attempt, "step": step, "simulated": made.simulated}
        last = tried.pop(made.model, None)
        own = Charge.of(
            self._payer, made.model, made.usage, outcome=made.outcome, seconds=last.seconds if last else 0.0,
            in_force=in_force, **about,
        )  # fmt: skip
        others = (
            Charge.of(self._payer, one.model, Usage(), outcome=one.code, seconds=one.seconds, **about)
            for one in tried.values()
        )
        return (own, *others)

    def _offer(self, turn: Turn) -> Offer:
        """For one attempt at whichever of the call's models is the dearest. Raises BudgetExceeded."""
        models = (self._agent.settings, *filter(self._may_ask, self._agent.fallbacks))
        made = [offers.offer_of(one, turn.messages, turn.tools, turn.max_output_tokens) for one in models]
        if isinstance(made[0], Unpriced):
            raise BudgetExceeded(str(made[0]))
        return dearest([offer for offer in made if isinstance(offer, Offer)])

    def _reserve(self, offer: Offer, step: int) -> Granted | Refused:
        """Reserve; when refused again, once the last call is charged and lost attempts of the task hold nothing."""
        attempt = self._held.attempt
        verdict = self._persistently(lambda: accounts.reserve(self._payer, offer, attempt=attempt, step=step))
        if isinstance(verdict, Granted):
            return verdict
        self._journal.settle()
        if attempt > 1:
            self._persistently(lambda: accounts.release(self._task.id, attempt - 1))
        return self._persistently(lambda: accounts.reserve(self._payer, offer, attempt=attempt, step=step))

    def _refusal(self, refused: Refused) -> Exception:
        if self._agent.limits.on_budget == "fail":
            return BudgetExceeded(f"{refused.told()} Raise it, or ask for less.")
        return Unaffordable(refused)

    def _in_force(self) -> bool:
        touched = IN_FORCE.touches(self._payer.owners)
        return touched or bool(self._payer.own_limits)

    def warn(self, usage: Usage) -> None:
        """Tell, once per budget and period, that this call has spent four fifths; lost when a death interrupts."""
        more = usage.cost_usd if usage.cost_usd is not None else self._granted.amount_usd
        if not any(line.is_warm(more) for line in self._granted.lines):
            return
        with suppress(*AWAY):
            for line in accounts.warn(self._granted.lines, more):
                stands = {"limit_usd": plain(line.limit_usd), "spent_usd": plain(line.spent_usd + more)}
                log.warning("budget_warning", **of_line(line) | stands)
                self._journal.tell(Note(EventType.BUDGET_WARNING, of_line(line, more)))
        connection.close()

    @cached_property
    def _payer(self) -> Payer:
        """One query for a task that has a parent."""
        task = self._task
        limits = {task.id: self._agent.limits}
        if task.parent_id:
            limits |= self._persistently(lambda: limits_above(str(task.parent_id)))
        own = {name: found.max_cost_usd for name, found in limits.items() if found.max_cost_usd is not None}
        return Payer(
            task.id, task.version.agent.slug, str(task.api_key_id or ""), tuple(limits)[1:], own_limits=own
        )  # fmt: skip

    def _persistently(self, act: Callable[[], Value]) -> Value:
        """Try until the lease ends when PostgreSQL is away; what a lost answer may have reserved is released first."""
        pause, unsure = 0.1, False
        while not self._held.gone:
            try:
                if unsure:
                    accounts.release(self._task.id, self._held.attempt)
                return act()
            except AWAY:
                unsure = True
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
            finally:
                connection.close()
        raise Fenced
