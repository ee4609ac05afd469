"""How a child process is started."""
from __future__ import annotations

import os
import sys

from opspawn_site.fleet import parts
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.process import Program


def test_a_program_stands_back_as_far_as_it_was_told(tmp_path):
    log = tmp_path / "log"
    program = Program([sys.executable, "-c", "import os; print(os.nice(0))"], tmp_path, log, nice=7)

    assert program.start().wait(10) == 0
    assert int(log.read_text()) == os.nice(0) + 7


def test_workers_stand_back_before_web(tmp_path):
    folder = DataFolder(tmp_path)
    assert parts.worker(folder, "worker-1", ["default"]).nice > parts.python(folder, "web").nice == 0
