"""Keep `.venv` as requirements.txt says.

Run as a script by ./opspawn, with the Python that makes the environment (3.11 to 3.13) and no packages. The marker, a
copy of requirements.txt, is written last: an installation that was interrupted is done again. A lock lets a second
copy of this script wait and then find everything done.
"""
from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys


def main(root: pathlib.Path, python: str) -> int:
    environment, wanted = root / ".venv", root / "requirements.txt"
    try:
        _wait_for(os.open(root, os.O_RDONLY))  # the folder itself is the lock, held until this process ends
        return 0 if _is_current(environment, wanted, python) else _make(environment, wanted, python)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        return _fail(f"cannot write {error.filename} ({error.strerror}): make {root} writable for this user")


def _wait_for(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("opspawn: another installation into .venv is under way; waiting for it", flush=True)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_current(environment: pathlib.Path, wanted: pathlib.Path, python: str) -> bool:
    marker = environment / "requirements.installed"
    return marker.exists() and marker.read_bytes() == wanted.read_bytes() and _fits(environment, python)


def _fits(environment: pathlib.Path, python: str) -> bool:
    """Its Python runs, is one of 3.11 to 3.13, and the one that OPSPAWN_PYTHON chooses, if it chooses."""
    ask = "import sys; print(sys.version_info[:2], sys.base_prefix)"
    answer = _ask([str(environment / "bin" / "python"), "-c", ask])
    if os.environ.get("OPSPAWN_PYTHON"):
        return answer == _ask([python, "-c", ask]) != ""
    return answer.startswith(("(3, 11)", "(3, 12)", "(3, 13)"))


def _make(environment: pathlib.Path, wanted: pathlib.Path, python: str) -> int:
    (environment / "requirements.installed").unlink(missing_ok=True)
    content = wanted.read_bytes()  # what is installed is what the marker says, whatever is edited meanwhile
    uv = _uv()
    if not _fits(environment, python):
        print(f"opspawn: making .venv with Python {sys.version.split()[0]} ({python})", flush=True)
        if not _make_environment(environment, python, uv):
            return 1
    with_what = "uv" if uv else "pip"
    print(f"opspawn: installing requirements.txt with {with_what}; the first time takes minutes", flush=True)
    if not _install(environment, wanted, uv):
        return _fail("the installation failed; its own words are above. Run the command again to repair it")
    draft = environment / f"requirements.{os.getpid()}"
    draft.write_bytes(content)
    draft.replace(environment / "requirements.installed")
    return 0


def _make_environment(environment: pathlib.Path, python: str, uv: str | None) -> bool:
    if environment.is_symlink() or environment.is_file():
        environment.unlink()
    shutil.rmtree(environment, ignore_errors=True)
    attempt = [python, "-m", "venv", str(environment)]
    done = subprocess.run(attempt, capture_output=True, text=True)
    if done.returncode == 0:
        return True
    if uv and _runs([uv, "venv", "--quiet", "--clear", "--python", python, str(environment)]):
        return True
    shutil.rmtree(environment, ignore_errors=True)
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    reason = " ".join((done.stderr or done.stdout).split()) or f"exit {done.returncode}"
    cure = f"install the package {package} (Debian: apt install {package}), or choose another with OPSPAWN_PYTHON"
    _fail(f"{python} cannot make a virtual environment with pip: {cure}. It said: {reason[-300:]}")
    return False


def _install(environment: pathlib.Path, wanted: pathlib.Path, uv: str | None) -> bool:
    """With uv when it is there and can; pip reads configuration that uv does not, so it has a second try."""
    python = str(environment / "bin" / "python")
    if uv and _runs([uv, "pip", "install", "--python", python, "-r", str(wanted)]):
        return True
    if not _ask([python, "-m", "pip", "--version"]) and not _runs([python, "-m", "ensurepip", "--default-pip"]):
        return _fail("there is no pip in .venv and none could be made; install uv, or the package python3-venv") == 0
    return _runs([python, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(wanted)])


def _uv() -> str | None:
    found = shutil.which("uv")
    return found if found and _ask([found, "--version"]) else None


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command).returncode == 0
    except OSError:
        return False


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _fail(message: str) -> int:
    print(f"opspawn: {message}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
