"""Arithmetic on an expression's syntax tree: nothing is evaluated as code, and every size is bounded."""
from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from agents.tools.registry import ToolError

Number = int | float

MAX_LENGTH = 1000
MAX_DEPTH = 250  # "1 + 1 + …" nests once a term
MAX_BITS = 4096  # of a whole number: 1233 digits
MAX_ROUND_DIGITS = 300
MAX_FACTORIAL = 400


class NotCalculable(ToolError):
    """The expression has no number; the message says why, for whoever wrote it."""


def evaluate(expression: str) -> Number:
    """The number an expression stands for; whole numbers stay whole (`7 // 2` is 3, `6 / 2` is 3.0).

    Raises NotCalculable.
    """
    if len(expression) > MAX_LENGTH:
        raise NotCalculable(f"the expression has {len(expression)} characters; use at most {MAX_LENGTH}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise NotCalculable("the expression is not arithmetic; write it like (2 + 3) * 4") from None
    return guarded(lambda: _value(tree.body, 0))


def guarded(work: Callable[[], Number]) -> Number:
    """The number that `work` comes to, bounded. Raises NotCalculable in place of Python's own errors."""
    try:
        return _bounded(work())
    except RecursionError:
        raise NotCalculable("the expression is nested too deeply; work it out in parts") from None
    except ZeroDivisionError:
        raise NotCalculable("division by zero") from None
    except OverflowError:
        raise NotCalculable("the result is too large") from None
    except (TypeError, ValueError) as error:
        raise NotCalculable(str(error)) from None


def _value(node: ast.AST, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise NotCalculable("the expression is nested too deeply; work it out in parts")
    reader = READERS.get(type(node))
    if reader is None:
        raise NotCalculable(f"{_source(node)!r} is not arithmetic{HINTS.get(type(node), '')}")
    return _bounded(reader(node, depth + 1))


def _bounded(value: Any) -> Number:
    if isinstance(value, complex):
        raise NotCalculable("the result is not a real number")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotCalculable("the result is too large")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise NotCalculable(f"the result is too large (more than {MAX_BITS} bits)")
    number: Number = value
    return number


def _constant(node: Any, depth: int) -> Number:
    if type(node.value) not in (int, float):
        raise NotCalculable(f"{_source(node)} is not a number")
    number: Number = node.value
    return number


def _name(node: Any, depth: int) -> Number:
    if node.id not in CONSTANTS:
        raise NotCalculable(f"{node.id!r} is not known; constants are {', '.join(CONSTANTS)}")
    return CONSTANTS[node.id]


def _unary(node: Any, depth: int) -> Number:
    operate = UNARY.get(type(node.op))
    if operate is None:
        raise NotCalculable(f"{_source(node)!r} is not arithmetic")
    return operate(_value(node.operand, depth))


def _binary(node: Any, depth: int) -> Number:
    operate = BINARY.get(type(node.op))
    if operate is None:
        raise NotCalculable(f"{_source(node)!r} has an operator that is not known{HINTS.get(type(node.op), '')}")
    number: Number = operate(_value(node.left, depth), _value(node.right, depth))
    return number


def _call(node: Any, depth: int) -> Number:
    name = node.func.id if isinstance(node.func, ast.Name) else _source(node.func)
    if name not in FUNCTIONS or node.keywords:
        raise NotCalculable(f"{_source(node)!r} cannot be called; functions are {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name](*[_value(argument, depth) for argument in node.args])


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and exponent > 0 and (abs(base).bit_length() - 1) * exponent > MAX_BITS:  # its least size in bits
        raise NotCalculable(f"the power is too large (more than {MAX_BITS} bits)")
    return base**exponent


def _round(value: Number, digits: int = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > MAX_ROUND_DIGITS:
        raise NotCalculable(f"round takes a whole number of digits up to {MAX_ROUND_DIGITS}")
    return round(value, digits) if digits else round(value)


def _factorial(value: Number) -> int:
    if not isinstance(value, int) or not 0 <= value <= MAX_FACTORIAL:
        raise NotCalculable(f"factorial takes a whole number from 0 to {MAX_FACTORIAL}")
    return math.factorial(value)


def _source(node: ast.AST) -> str:
    return type(node).__name__ if not isinstance(node, ast.expr) else ast.unparse(node)[:60]


READERS: dict[type[ast.AST], Callable[[Any, int], Number]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Call: _call,
}
UNARY: dict[type[ast.AST], Callable[[Any], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
HINTS = {ast.Tuple: "; write numbers without thousands separators", ast.BitXor: "; write powers as **"}
CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs, "round": _round, "min": min, "max": max, "floor": math.floor, "ceil": math.ceil,
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "log2": math.log2, "log10": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan,
    "degrees": math.degrees, "radians": math.radians, "hypot": math.hypot, "factorial": _factorial,
}  # fmt: skip
