"""The rooms and their doors: who may import whom, which modules stay pure, how large a file may grow."""
from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

from django.apps import apps
from django.db.models import ForeignObject, ManyToManyField

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOMS = ("opspawn_site", "tasks", "agents", "memory", "llm")  # each may import itself and those to its right
PURE = (
    "agents/contract.py", "agents/loop.py", "agents/answers.py", "agents/patterns.py", "agents/policy.py",
    "agents/planners/",
    "llm/messages.py", "llm/budget.py", "memory/short_term.py",
)  # fmt: skip
PURE_BY_USE = (  # the pure modules raise, catch and call these
    "llm/errors.py", "agents/errors.py", "llm/arguments.py", "llm/storable.py", "agents/plugins.py",
)  # fmt: skip
NOT_IN_PURE = {"django", "litellm", "celery", "rest_framework"}
NO_NAMES = {"utils", "helpers", "services", "managers", "core", "common"}
GENERATED = ("_pb2.py", "_pb2_grpc.py")
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60


def sources(*, tests: bool = False) -> list[pathlib.Path]:
    """The rooms' own modules, without migrations and generated code."""
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "migrations" not in path.parts
        and not path.name.endswith(GENERATED)
        and (tests or "tests" not in path.relative_to(ROOT).parts)
    ]


def where(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: pathlib.Path) -> set[str]:
    """The top-level packages that a module imports anywhere in it, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(where(path).split("/")[0] if node.level else (node.module or "").split(".")[0])
    return names


def against_the_direction(path: pathlib.Path) -> set[str]:
    room = where(path).split("/")[0]
    return imported(path) & set(ROOMS[: ROOMS.index(room)])


def functions(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """The name and the length of each function, its docstring left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 1


def test_imports_go_one_way_from_the_site_down_to_the_models() -> None:
    found = {where(path): against_the_direction(path) for path in sources()}
    assert not {name: rooms for name, rooms in found.items() if rooms}


def test_foreign_keys_go_the_same_way() -> None:
    labels = {config.label: config.name for config in apps.get_app_configs()}
    wrong = [
        f"{model._meta.label}.{field.name} → {field.related_model._meta.label}"
        for model in apps.get_models()
        if labels[model._meta.app_label] in ROOMS
        for field in model._meta.get_fields()
        if isinstance(field, ForeignObject | ManyToManyField)
        and labels[field.related_model._meta.app_label] in ROOMS[: ROOMS.index(labels[model._meta.app_label])]
    ]
    assert not wrong


def pure_sources() -> list[pathlib.Path]:
    return [path for path in sources() if where(path).startswith(PURE + PURE_BY_USE)]


def test_pure_modules_know_neither_django_nor_the_other_machinery() -> None:
    found = {where(path): imported(path) & NOT_IN_PURE for path in pure_sources()}
    assert found, "no pure module was looked at"
    assert not {name: packages for name, packages in found.items() if packages}


def test_pure_modules_import_only_pure_modules_of_the_house() -> None:
    pure = tuple(name.removesuffix(".py").rstrip("/").replace("/", ".") for name in PURE + PURE_BY_USE)
    wrong = [
        f"{where(path)} imports {node.module}"
        for path in pure_sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOMS
        if not (node.module or "").startswith(pure)
    ]
    assert not wrong


def test_files_are_named_after_what_they_are_about() -> None:
    parts = {where(path): {path.stem, *path.relative_to(ROOT).parts[:-1]} for path in sources(tests=True)}
    assert not {name: found & NO_NAMES for name, found in parts.items() if found & NO_NAMES}


def test_no_file_grows_past_what_can_be_read_in_one_sitting() -> None:
    lengths = {where(path): path.read_text(encoding="utf-8").count("\n") for path in sources()}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES}


def test_no_function_grows_past_a_screen() -> None:
    lengths = {f"{where(path)}:{name}": lines for path in sources() for name, lines in functions(path)}
    assert not {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FUNCTION}


def test_a_module_says_in_its_first_line_what_it_is_for() -> None:
    trees = {where(path): ast.parse(path.read_text(encoding="utf-8")) for path in sources(tests=True)}
    assert not [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
