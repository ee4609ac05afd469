"""The data folder: whose it is, what it keeps, and who may look."""
from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from opspawn_site.fleet.errors import FleetError, FolderInUse
from opspawn_site.fleet.folder import DataFolder, write_private

HOLD = (
    "import sys; from opspawn_site.fleet.folder import DataFolder\n"
    "with DataFolder(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.make()
    return made


def rights(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_look_into_it(folder: DataFolder) -> None:
    folder.secret("admin")
    folder.write_state({"event": "ready"})
    assert rights(folder.path) == 0o700
    assert rights(folder.path / "secrets" / "admin") == 0o600
    assert rights(folder.path / "up.json") == 0o600


def test_a_folder_that_was_there_keeps_its_rights(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    DataFolder(tmp_path).make()
    assert rights(tmp_path) == 0o755


def test_a_secret_is_made_once_and_each_is_another(folder: DataFolder) -> None:
    first = folder.secret("admin")
    assert len(first) >= 32
    assert DataFolder(folder.path).secret("admin") == first
    assert folder.secret("flower") != first


def test_a_folder_that_cannot_be_written_is_told_with_the_cure(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FleetError, match=r"cannot write the data folder .* --data-dir"):
        DataFolder(tmp_path / "file" / "data").make()


def test_a_second_fleet_is_refused_and_told_who_holds_the_folder(folder: DataFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"process {other.pid}.*--data-dir"), folder.locked():
            pass
        assert folder.holder() == other.pid
        other.kill()
    with folder.locked():
        assert folder.holder() == os.getpid()
    assert folder.holder() is None


def test_a_word_that_nobody_stands_behind_is_no_running_fleet(folder: DataFolder) -> None:
    write_private(folder.path / "lock", str(os.getpid()))
    folder.write_state({"event": "ready"})
    assert folder.running() is None
    with folder.locked():
        assert folder.running() == {"event": "ready"}


def test_a_reset_leaves_what_is_not_the_fleets(folder: DataFolder) -> None:
    before = folder.secret("admin")
    (folder.path / "mine.txt").write_text("keep")
    (folder.path / "ports.json").write_text(json.dumps({"redis": 20000}))
    folder.reset()
    assert (folder.path / "mine.txt").read_text() == "keep"
    assert not (folder.path / "ports.json").exists()
    assert folder.secret("admin") != before
