"""Budgets as arithmetic: what a call may cost, how much of it fits, and why it does not.

    >>> offer = Offer(input_usd=Decimal("0.0003"), output_usd=Decimal("0.0000006"), wanted_tokens=4096)
    >>> offer.clipped(Decimal("1")), offer.cost_usd(4096)
    (4096, Decimal('0.0027576000'))
    >>> offer.clipped(Decimal("0.0009"))  # 0.0006 dollars are left for the answer
    1000
    >>> offer.clipped(Decimal("0.0003383")) is None  # 63.8 tokens: not even a short answer
    True
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Literal

Scope = Literal["fleet", "agent", "api_key", "task"]
Period = Literal["day", "month", "total"]

SCOPES: dict[str, str] = {"fleet": "Whole fleet", "agent": "Agent", "api_key": "API key", "task": "Task"}
PERIODS: dict[str, str] = {"day": "A day", "month": "A month", "total": "In total"}

LEAST_OUTPUT_TOKENS = 64  # a tool call or two sentences: below it a call is not worth its input
DEFAULT_OUTPUT_TOKENS = 4096  # reserved where neither agent nor price map bounds an answer
WARN_AT = Decimal("0.8")
SMALLEST = Decimal("0.0000000001")


@dataclass(frozen=True, slots=True)
class Offer:
    """What one model call may cost at most: its input, and `output_usd` for each token of its answer."""

    input_usd: Decimal
    output_usd: Decimal
    wanted_tokens: int
    least_tokens: int = LEAST_OUTPUT_TOKENS

    def cost_usd(self, tokens: int) -> Decimal:
        """US dollars of the input and that many output tokens, rounded up to ten places."""
        return (self.input_usd + tokens * self.output_usd).quantize(SMALLEST, ROUND_CEILING)

    @property
    def enough_tokens(self) -> int:
        """The shortest answer that is worth a call."""
        return min(self.least_tokens, self.wanted_tokens)

    @property
    def least_usd(self) -> Decimal:
        return self.cost_usd(self.enough_tokens)

    @property
    def most_usd(self) -> Decimal:
        return self.cost_usd(self.wanted_tokens)

    def clipped(self, left_usd: Decimal) -> int | None:
        """How many output tokens fit into what is left, at most those wanted; None when too few do."""
        if self.least_usd > left_usd:
            return None
        if not self.output_usd:
            return self.wanted_tokens
        return min(self.wanted_tokens, int((left_usd - self.input_usd) // self.output_usd))


def dearest(offers: Sequence[Offer]) -> Offer:
    """One that covers each of them: what is held for it suffices whichever of several models answers.

    >>> dearest([Offer(Decimal(1), Decimal(5), 10), Offer(Decimal(2), Decimal(4), 20)])
    Offer(input_usd=Decimal('2'), output_usd=Decimal('5'), wanted_tokens=20, least_tokens=64)
    """
    return Offer(
        max(offer.input_usd for offer in offers), max(offer.output_usd for offer in offers),
        max(offer.wanted_tokens for offer in offers),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One budget as a call finds it: its limit, what is spent of it, and what calls under way hold."""

    scope: str
    scope_id: str
    period: str
    limit_usd: Decimal
    spent_usd: Decimal
    reserved_usd: Decimal
    warned: bool = False
    account: int = 0

    @property
    def left_usd(self) -> Decimal:
        return self.limit_usd - self.spent_usd - self.reserved_usd

    @property
    def name(self) -> str:
        """
        >>> Line("agent", "writer", "day", Decimal(1), Decimal(0), Decimal(0)).name
        "the budget of the agent 'writer' for a day"
        """
        owner = {
            "fleet": "the fleet", "agent": f"the agent {self.scope_id!r}", "api_key": f"the API key {self.scope_id}",
            "task": f"the task {self.scope_id}",
        }[self.scope]  # fmt: skip
        whole = "" if self.scope == "task" else " in all"
        span = {"day": " for a day", "month": " for a month"}.get(self.period, whole)
        return f"the budget of {owner}{span}"

    @property
    def is_shared(self) -> bool:
        """Whether others than the owner of one task spend of it: how it stands is not that owner's to know."""
        return self.scope in ("fleet", "agent")

    def standing(self) -> str:
        """
        >>> Line("fleet", "", "day", Decimal(5), Decimal("4.9"), Decimal("0.08")).standing()
        '$0.02 of $5 is left ($4.9 spent, $0.08 held by calls under way)'
        """
        return (
            f"{shown(max(self.left_usd, Decimal(0)))} of {shown(self.limit_usd)} is left "
            f"({shown(self.spent_usd)} spent, {shown(self.reserved_usd)} held by calls under way)"
        )

    def is_warm(self, more_usd: Decimal = Decimal(0)) -> bool:
        """Whether the warning is due once that much more is spent, and was not given in this period."""
        return not self.warned and self.spent_usd + more_usd >= WARN_AT * self.limit_usd


@dataclass(frozen=True, slots=True)
class Granted:
    """The call may be made with that many output tokens. Without `lines` nothing is held and nobody need be told."""

    output_tokens: int | None
    amount_usd: Decimal = Decimal(0)
    lines: Sequence[Line] = field(default=())


@dataclass(frozen=True, slots=True)
class Refused:
    """The call does not fit this budget, the tightest of those in force."""

    line: Line
    offer: Offer

    def __str__(self) -> str:
        return refusal(self.line, self.offer.least_usd, f": {self.line.standing()}")

    def told(self) -> str:
        """For the task's owner, who may read everything that is kept of it."""
        return refusal(self.line, self.offer.least_usd) if self.line.is_shared else str(self)


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A budget is in force, and nobody knows what the model costs."""

    model: str

    def __str__(self) -> str:
        return (
            f"A budget is in force and the price of {self.model!r} is not known: configure it under Prices in the "
            f"admin, or with POST /api/v1/prices/ and model {self.model!r}."
        )


Verdict = Granted | Refused | Unpriced


def tightest(lines: Sequence[Line]) -> Line:
    return min(lines, key=lambda line: line.left_usd)


def refusal(line: Line, needed_usd: Decimal, standing: str = "") -> str:
    """That the budget does not cover a call, and how it stands where that may be told."""
    name = f"{line.name[0].upper()}{line.name[1:]}"
    return f"{name} does not cover the next call, which may cost {shown(needed_usd)} or more{standing}."


def shown(amount: Decimal) -> str:
    """
    >>> shown(Decimal("1.5000000000")), shown(Decimal("0.0000058500")), shown(Decimal(0))
    ('$1.5', '$0.00000585', '$0')
    """
    return f"${amount.normalize():f}" if amount else "$0"
