"""PROOF TOOLS, for `./opspawn chaos` and the fault tests only: their effects go to a ledger, and one kills its process.

They are tools of the registry only where TOOL_MODULES names this module.
"""
from __future__ import annotations

import os
import signal
import time

from agents.tools.context import idempotency_key
from agents.tools.registry import REGISTRY, ToolError
from opspawn_site.chaos.ledger import FOLDER, Ledger

NAMES = ("ledger_once", "ledger_keyed", "ledger_note", "poison")


@REGISTRY.tool(effect="once", timeout_seconds=60, in_worker=True)
def ledger_once(before: float = 0.0, after: float = 0.0) -> str:
    """Proof tool: an effect that must not happen twice. Waits `before` and `after` seconds around it."""
    return _write("ledger_once", before, after)


@REGISTRY.tool(effect="keyed", timeout_seconds=60, in_worker=True)
def ledger_keyed(before: float = 0.0, after: float = 0.0) -> str:
    """Proof tool: an effect told apart by its key. Waits `before` and `after` seconds around it."""
    return _write("ledger_keyed", before, after)


@REGISTRY.tool(effect="none", timeout_seconds=60, in_worker=True)
def ledger_note(before: float = 0.0, after: float = 0.0) -> str:
    """Proof tool: a note without an effect. Waits `before` and `after` seconds around it."""
    return _write("ledger_note", before, after)


@REGISTRY.tool(effect="none", timeout_seconds=60, in_worker=True)
def poison(deaths: int) -> str:
    """Proof tool: kill the process that calls it, as a crash would, the first `deaths` times."""
    ledger, key = _ledger(), idempotency_key()
    if ledger.count(key, "began") < deaths:
        ledger.append("poison", key, "began")
        os.kill(os.getpid(), signal.SIGKILL)
    ledger.append("poison", key, "did")
    return key


def _write(tool: str, before: float, after: float) -> str:
    ledger, key = _ledger(), idempotency_key()
    ledger.append(tool, key, "began")
    time.sleep(before)
    ledger.append(tool, key, "did")
    time.sleep(after)
    ledger.append(tool, key, "ended")
    return key


def _ledger() -> Ledger:
    folder = os.environ.get(FOLDER, "")
    if not folder:
        raise ToolError(f"{FOLDER} is not set: it names the folder of the ledger")
    return Ledger(folder)
