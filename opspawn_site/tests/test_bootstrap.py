"""./opspawn: a Python that runs, an environment as requirements.txt says, and then manage.py. Nothing is downloaded."""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from opspawn_site.tests.declared import ROOT
from opspawn_site.tests.fleets import until

TOOLS = ("sh", "cat", "cmp", "dirname", "readlink", "mkdir", "ln", "rm", "sleep", "chmod")
# Stands for an interpreter: counts, and makes a "virtual environment" that is a wrapper of itself.
PYTHON = """#!/bin/sh
echo "$0 $*" >> {log}
if [ "$1 $2" = "-m venv" ]; then
    [ -e {place}/no-venv ] && {{ echo "ensurepip is not available" >&2; exit 1; }}
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\n[ "$1" = "-m" ] && exit 1\\nexec {python} "$@"\\n' > "$3/bin/python" # without pip
    chmod +x "$3/bin/python"
    exit 0
fi
exec {python} "$@"
"""
UV = """#!/bin/sh
[ "$1" = "--version" ] && {{ echo "uv 0"; exit 0; }}
echo "$*" >> {log}
[ -e {place}/uv-fails ] && exit 1
[ -e {place}/uv-waits ] && while [ ! -e {place}/uv-goes-on ]; do sleep 0.05; done
exit 0
"""


class Copy:
    """A repository of its own with a PATH of its own."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.root = place / "repository"
        (self.root / "opspawn_site" / "fleet").mkdir(parents=True)
        for name in ("opspawn", "opspawn_site/fleet/install.py"):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / "manage.py").write_text("import sys; print(sys.argv[1:])")
        (self.root / "requirements.txt").write_text("nothing==1\n")
        self.shims, self.bin = place / "shims", place / "bin"
        for folder in (self.shims, self.bin):
            folder.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def add(self, path: pathlib.Path, text: str) -> None:
        path.write_text(text.format(log=self.place / f"{path.name}.log", place=self.place, python=sys.executable))
        path.chmod(0o755)

    def called(self, name: str) -> list[str]:
        log = self.place / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": f"{self.shims}:{self.bin}", "HOME": str(self.place), **more}

    def run(self, *arguments: str, script: pathlib.Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(script or self.root / "opspawn"), *arguments],
            cwd="/", env=self.environment(**more), capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> Copy:
    made = Copy(tmp_path)
    made.add(made.bin / "python3.11", PYTHON)
    made.add(made.bin / "uv", UV)
    return made


def test_without_a_command_it_prints_a_short_help_and_makes_nothing(copy: Copy) -> None:
    done = copy.run()
    assert done.returncode == 0
    assert "./opspawn demo" in done.stdout
    assert "./opspawn test" in done.stdout
    assert not (copy.root / ".venv").exists()


def test_the_first_run_installs_and_hands_over_with_a_clean_standard_output(copy: Copy) -> None:
    done = copy.run("up", "--json", "two words")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['up', '--json', 'two words']\n"
    assert "making .venv" in done.stderr
    assert "installing requirements.txt with uv" in done.stderr


def test_the_second_run_installs_nothing_and_a_changed_list_does(copy: Copy) -> None:
    copy.run("check")
    assert copy.run("check").stderr == ""
    assert len(copy.called("uv")) == 1
    (copy.root / "requirements.txt").write_text("nothing==2\n")
    copy.run("check")
    assert len(copy.called("uv")) == 2
    assert sum("-m venv" in call for call in copy.called("python3.11")) == 1


def test_a_shim_that_fails_is_passed_over_and_the_newest_that_runs_is_taken(copy: Copy) -> None:
    copy.add(copy.shims / "python3.13", "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    copy.add(copy.shims / "python3.11", "#!/bin/sh\nexit 127\n")
    copy.add(copy.bin / "python3.12", PYTHON)
    done = copy.run("check")
    assert done.returncode == 0, done.stderr
    assert copy.called("python3.12")
    assert not copy.called("python3.11")


def test_the_same_name_is_tried_in_every_folder_of_the_path(copy: Copy) -> None:
    copy.add(copy.shims / "python3.11", "#!/bin/sh\nexit 127\n")
    assert copy.run("check").returncode == 0
    assert copy.called("python3.11")


def test_a_python_that_was_chosen_and_does_not_run_is_an_error(copy: Copy) -> None:
    copy.add(copy.shims / "broken", "#!/bin/sh\nexit 1\n")
    for chosen in (str(copy.shims / "broken"), "/no/such/python"):
        done = copy.run("check", OPSPAWN_PYTHON=chosen)
        assert done.returncode == 1
        assert f"OPSPAWN_PYTHON={chosen} does not run" in done.stderr


def test_without_any_python_the_package_is_named(copy: Copy) -> None:
    (copy.bin / "python3.11").unlink()
    done = copy.run("check")
    assert done.returncode == 1
    assert "apt install python3 python3-venv" in done.stderr


def test_without_venv_its_package_is_named(copy: Copy) -> None:
    (copy.bin / "uv").unlink()
    (copy.place / "no-venv").touch()
    done = copy.run("check")
    assert done.returncode == 1
    assert "ensurepip is not available" in done.stderr
    assert f"apt install python3.{sys.version_info[1]}-venv" in done.stderr
    assert not (copy.root / ".venv").exists()


def test_an_installation_that_failed_is_repaired_by_the_next_run(copy: Copy) -> None:
    (copy.place / "uv-fails").touch()
    done = copy.run("check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Run the command again to repair it" in done.stderr
    (copy.place / "uv-fails").unlink()
    assert copy.run("check").returncode == 0


def test_an_environment_whose_python_is_gone_is_made_again(copy: Copy) -> None:
    copy.run("check")
    (copy.root / ".venv" / "bin" / "python").unlink()
    assert copy.run("check").stdout == "['check']\n"


def test_two_at_the_same_time_install_once(copy: Copy) -> None:
    (copy.place / "uv-waits").touch()
    command = [str(copy.root / "opspawn"), "check"]
    both = [
        subprocess.Popen(command, env=copy.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    until(lambda: copy.called("uv"))
    (copy.place / "uv-goes-on").touch()
    assert [process.communicate(timeout=30)[0] for process in both] == ["['check']\n"] * 2
    assert len(copy.called("uv")) == 1


def test_it_may_be_called_through_a_link(copy: Copy) -> None:
    link = copy.place / "anywhere"
    link.symlink_to(os.path.relpath(copy.root / "opspawn", copy.place))
    assert copy.run("check", script=link).stdout == "['check']\n"
