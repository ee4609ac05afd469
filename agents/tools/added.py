"""Tools of installed packages: the entry points `opspawn.tools`, modules that register functions when imported."""
from __future__ import annotations

import threading

from agents import plugins
from agents.plugins import TOOLS, Refused

_lock = threading.RLock()  # a module that looks at the registry while it is imported finds what is there so far
_begun = threading.Event()
_done = threading.Event()


def load() -> None:
    """Import the modules once a process. One that fails, or takes the name of a tool that is there, adds nothing."""
    if _done.is_set():
        return
    with _lock:
        if _begun.is_set():
            return
        _begun.set()
        for added in plugins.found(TOOLS):
            _load_one(added)
        _done.set()


def _load_one(added: plugins.Added) -> None:
    from agents.tools.registry import REGISTRY

    try:
        with REGISTRY.whole_or_nothing():
            plugins.entry(added)
    except Refused:  # it is logged
        return


def forget() -> None:
    """Look at what is installed anew at the next look; tools that are registered stay."""
    _begun.clear()
    _done.clear()
