"""Finished calls that are not in the ledger yet: they are written with the journal's next commit, or not at all."""
from __future__ import annotations

from collections.abc import Callable

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from llm import ledger
from llm.ledger import Charge

log = structlog.get_logger(__name__)


class Charges:
    """The charges of one journal."""

    def __init__(self) -> None:
        self._waiting: list[Charge] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, charge: Charge) -> None:
        self._waiting.append(charge)

    def written_with(self, write: Callable[[], bool]) -> bool:
        """Do `write` and, when it wrote, the ledger in the same commit; whether it wrote."""
        if not self._waiting:
            return write()
        with transaction.atomic():
            written = write()
            if written:
                ledger.charge(self._waiting)
        return written

    def clear(self) -> None:
        self._waiting = []

    def write_alone(self) -> None:
        """The journal was fenced off: what was billed is money spent all the same. Best effort; commits."""
        billed = [charge for charge in self._waiting if charge.input_tokens or charge.output_tokens]
        self._waiting = []
        if not billed:
            return
        try:
            ledger.charge(billed)
        except (OperationalError, InterfaceError):
            log.warning("charges_not_written", count=len(billed))
        finally:
            connection.close()
