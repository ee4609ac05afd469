"""What settings.py reads from the environment, found in its source: the tests compare pages and files with it."""
from __future__ import annotations

import ast
import pathlib
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "opspawn_site" / "settings.py"
TYPES = {
    "text": "text", "secret": "secret", "flag": "true or false", "integer": "integer", "seconds": "seconds",
    "choice": "choice", "words": "words", "url": "URL", "limits": "JSON",
}  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """One `env.…("NAME", …)` call: its type, default and bounds as the reference page writes them."""

    name: str
    type: str
    default: str
    bounds: str


def value(node: ast.expr) -> Any:
    """A literal, or a product or power of literals as `4 * 1024 * 1024`."""
    if isinstance(node, ast.BinOp):
        left, right = value(node.left), value(node.right)
        return left**right if isinstance(node.op, ast.Pow) else left * right
    return ast.literal_eval(node)


def _one(call: ast.Call, reader: str) -> Declared:
    name, *rest = [value(argument) for argument in call.args]
    default, bounds = "", ""
    if reader in ("integer", "seconds"):
        default, bounds = f"{rest[0]:g}" if reader == "seconds" else str(rest[0]), f"{rest[1]:g} to {rest[2]:g}"
        bounds = bounds if reader == "seconds" else f"{rest[1]} to {rest[2]}"
    elif reader == "choice":
        default, bounds = rest[0], ", ".join(rest[1])
    elif reader == "flag":
        default = "true" if rest and rest[0] else "false"
    elif reader == "url":
        default, bounds = rest[1] if len(rest) > 1 else "", ", ".join(rest[0])
    elif reader == "limits":
        bounds = ", ".join(rest[0])
    elif rest:
        default = rest[0]
    return Declared(name, TYPES[reader], default, bounds)


def declared() -> dict[str, Declared]:
    """By name, in the order of the file."""
    found = [
        _one(node, node.func.attr)
        for node in ast.walk(ast.parse(SETTINGS.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
    ]
    return {one.name: one for one in found}
