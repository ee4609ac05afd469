"""Finished calls whose journal was fenced off before it could enter them: money spent all the same."""
from __future__ import annotations

from collections.abc import Sequence

import structlog
from django.db import InterfaceError, OperationalError, connection

from llm import ledger
from llm.ledger import Charge

log = structlog.get_logger(__name__)


def write_alone(charges: Sequence[Charge]) -> None:
    """Enter what was billed. Best effort; commits."""
    billed = [charge for charge in charges if charge.input_tokens or charge.output_tokens]
    if not billed:
        return
    try:
        ledger.charge(billed)
    except (OperationalError, InterfaceError):
        log.warning("charges_not_written", count=len(billed))
    finally:
        connection.close()
