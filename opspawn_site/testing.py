"""pytest plugin: the services a test run needs, started by the run itself and gone with it.

Loaded by `-p` in pytest.ini, before pytest-django reads the settings. What DATABASE_URL and REDIS_URL name is used;
what they do not name is started in a folder of its own under the system's temporary folder. `.opspawn/` and `.env`
are never read, so that a test run cannot touch a fleet's data and is the same for everybody.
"""
from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

PREFIX = "opspawn-test-"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell: servers would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OPSPAWN_DOTENV"] = "off"  # also for the processes that tests start


@pytest.hookimpl(wrapper=True)  # wrappers run before pytest-django's own hook of this name
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    early_config.add_cleanup(start())
    yield


def start(*, throwaway: bool = True) -> Callable[[], None]:
    """Start what is missing and put its addresses into the environment. Returns what ends it again.

    A throwaway server does not wait for the disk; benchmarks take one that does. A run that is killed takes its servers
    along (the launcher's death signal); its folder goes with the next run.
    """
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return lambda: None
    from opspawn_site.fleet.backing import Backing
    from opspawn_site.fleet.folder import DataFolder
    from opspawn_site.fleet.ports import Claims
    from opspawn_site.fleet.progress import Progress
    from opspawn_site.fleet.supervisor import Signals, Supervisor

    remove_abandoned()
    undo = contextlib.ExitStack()
    place = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
    undo.callback(partial(shutil.rmtree, place, ignore_errors=True))
    place.chmod(0o711)  # our own: as root, the unprivileged user of PostgreSQL has to pass through
    folder = DataFolder(place)
    folder.make()
    undo.enter_context(folder.locked())
    claims = Claims()
    backing = Backing(folder, claims, throwaway=throwaway)
    supervisor = Supervisor(Signals(), Progress(), lambda: None)
    undo.callback(supervisor.stop)
    try:
        backing.start(supervisor)
        backing.export()
        backing.wait(supervisor, time.sleep, lambda _: None)
    except BaseException:
        undo.close()
        raise
    return undo.close


def remove_abandoned() -> None:
    """Remove the folders of test runs that were killed: those that nobody holds."""
    from opspawn_site.fleet.folder import DataFolder

    for place in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (place / "lock").exists() and DataFolder(place).holder() is None:
                shutil.rmtree(place)
