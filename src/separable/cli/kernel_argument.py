"""Kernels typed as calls of the families: ``disk(12)``, ``"rotated_gaussian((5, 2), pi/6)"``."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .. import SeparableKernel, families, files
from ..files.formats import terms
from ..files.guard import check_readable

_OPERATIONS: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def read(kernel: str) -> SeparableKernel | npt.NDArray[Any]:
    """Return the weights or the terms in a file of this name, or those of the family that it calls.

    Raises
    ------
    FileError
        If there is neither, or the family refuses its arguments.
    """
    if Path(kernel).exists() or not re.fullmatch(r"\w+\s*\(.*\)", kernel.strip(), flags=re.DOTALL):
        return _from_file(Path(kernel))
    try:
        made = _called(ast.parse(kernel.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = "is not written as a call" if isinstance(error, SyntaxError) else str(error)
        raise files.FileError(f"`{kernel}`: {reason}") from error
    if not isinstance(made, (SeparableKernel, np.ndarray)):
        raise files.FileError(f"`{kernel}`: gives several kernels; take one in Python and save it.")
    return made


def _from_file(path: Path) -> SeparableKernel | npt.NDArray[Any]:
    if path.suffix.lower() not in terms.SUFFIXES:
        return files.read(path).data
    check_readable(path)
    return files.read_terms(path)


def _called(node: ast.expr) -> object:
    known = [name for name in dir(families) if name.islower()]
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known):
        raise ValueError(f"no such kernel; expected a file, or one of {', '.join(known)} with its arguments.")
    named = {}
    for word in node.keywords:
        if word.arg is None:
            raise ValueError("** has nothing to take from; write NAME=VALUE.")
        named[word.arg] = _value(word.value)
    made: object = getattr(families, node.func.id)(*map(_value, node.args), **named)
    return made


def _value(node: ast.expr) -> Any:
    """Return the number, sequence or word of an expression; only arithmetic is evaluated."""
    if isinstance(node, ast.Name) and node.id == "pi":
        return math.pi
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(map(_value, node.elts))
    if isinstance(node, ast.Constant):
        return node.value
    raise ValueError(f"`{ast.unparse(node)}` is not a number, a sequence of numbers or pi.")
