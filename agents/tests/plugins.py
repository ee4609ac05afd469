"""Installed packages for tests: folders with a module and the metadata that pip would write, put on the path."""
from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator

import pytest

from agents import plugins
from agents.tools import added
from agents.tools.registry import REGISTRY

Install = Callable[..., pathlib.Path]


def write_package(folder: pathlib.Path, package: str, entry_points: str, **modules: str) -> pathlib.Path:
    """The folder, with the modules and `package-1.0.dist-info` in it."""
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder


@pytest.fixture
def install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(package, entry_points, module="source")`; afterwards it is as if it had never been there."""
    before_modules, before_tools = set(sys.modules), dict(REGISTRY._tools)

    def put(package: str, entry_points: str, **modules: str) -> pathlib.Path:
        folder = write_package(tmp_path / package, package, entry_points, **modules)
        monkeypatch.syspath_prepend(str(folder))
        look_anew()
        return folder

    yield put
    monkeypatch.undo()
    for name in set(sys.modules) - before_modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    REGISTRY._tools = before_tools
    look_anew()


def look_anew() -> None:
    plugins.forget()
    added.forget()
