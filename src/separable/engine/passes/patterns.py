"""Arithmetic with constants, read as one expression: products of tensors, and polynomials of one."""

from __future__ import annotations

import math
from typing import Final

from ..graph.ir import Node
from .draft import Draft
from .known import is_bare, scalar

__all__ = ["Polynomial", "chain", "close", "factors", "is_sixth", "polynomial", "slope_and_offset"]

Polynomial = dict[int, float]

# Constants are written in float32 and may be the product of a few of them.
_TOLERANCE: Final = 1e-6
_DEGREE: Final = 3


def close(first: float, second: float) -> bool:
    """Return whether two constants are the same but for roundings."""
    return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=1e-12)


def slope_and_offset(node: Node) -> tuple[float, float]:
    """Return alpha and beta of a HardSigmoid."""
    return float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))


def is_sixth(alpha: float, beta: float) -> bool:
    """Return whether a HardSigmoid is that of hard-swish: x / 6 + 1/2 between 0 and 1."""
    return close(alpha, 1 / 6) and close(beta, 0.5)


def factors(draft: Draft, name: str, outermost: bool = True) -> tuple[float, list[str]]:
    """Return a number and tensors whose product a tensor is.

    Parameters
    ----------
    draft : Draft
    name : str
    outermost : bool, optional
        Whether others may read the tensor as well. Those inside the product are read by nothing else.

    Returns
    -------
    number : float
    tensors : list of str
    """
    node = draft.maker(name)
    if node is None or not is_bare(node) or not (outermost or draft.only_reader(name)):
        return 1.0, [name]
    if node.op == "Neg":
        number, names = factors(draft, node.inputs[0], False)
        return -number, names
    if node.op in ("Mul", "Div"):
        for place in (1, 0) if node.op == "Mul" else (1,):
            constant = scalar(draft, node.inputs[place], node.inputs[1 - place])
            if constant is not None and (node.op == "Mul" or constant):
                number, names = factors(draft, node.inputs[1 - place], False)
                return number * (constant if node.op == "Mul" else 1 / constant), names
    if node.op == "Mul" and node.inputs[0] != node.inputs[1]:
        first, names = factors(draft, node.inputs[0], False)
        second, more = factors(draft, node.inputs[1], False)
        return first * second, names + more
    return 1.0, [name]


def chain(draft: Draft, name: str) -> tuple[str, float, float]:
    """Return tensor, scale and shift as which a tensor that nothing else reads is written.

    Without arithmetic before it, a tensor is itself times one.
    """
    scale, shift = 1.0, 0.0
    while True:
        node = draft.maker(name)
        step = None if node is None or not draft.only_reader(name) else _step(draft, node)
        if step is None:
            return name, scale, shift
        name, shift, scale = step[0], shift + scale * step[2], scale * step[1]


def polynomial(draft: Draft, name: str, x: str, outermost: bool = False) -> Polynomial | None:
    """Return a tensor as coefficients of the powers of `x`, up to the third; None where it is no such.

    Parameters
    ----------
    draft : Draft
    name, x : str
    outermost : bool, optional
        Whether others may read the tensor as well.
    """
    if name == x:
        return {1: 1.0}
    constant = scalar(draft, name, x)
    if constant is not None:
        return {0: constant}
    node = draft.maker(name)
    if node is None or not is_bare(node) or not (outermost or draft.only_reader(name)):
        return None
    if node.op not in ("Add", "Sub", "Mul", "Div", "Neg", "Pow"):
        return None
    parts = [polynomial(draft, operand, x) for operand in node.inputs]
    first, second = parts[0], parts[-1]
    if first is None or second is None:
        return None
    return _combined(node.op, first, second)


def _combined(op: str, first: Polynomial, second: Polynomial) -> Polynomial | None:
    if op == "Neg":
        return _product({0: -1.0}, first)
    if op in ("Add", "Sub"):
        sign = 1.0 if op == "Add" else -1.0
        return {
            power: first.get(power, 0.0) + sign * second.get(power, 0.0)
            for power in first.keys() | second.keys()
        }
    if op == "Mul":
        return _product(first, second)
    if second.keys() != {0} or (op == "Div" and not second[0]):
        return None
    if op == "Div":
        return _product({0: 1 / second[0]}, first)
    if second[0] not in (2.0, 3.0):
        return None
    squared = _product(first, first)
    return squared if second[0] == 2.0 or squared is None else _product(squared, first)


def _product(first: Polynomial, second: Polynomial) -> Polynomial | None:
    total: Polynomial = {}
    for power, value in first.items():
        for other, factor in second.items():
            total[power + other] = total.get(power + other, 0.0) + value * factor
    return total if max(total) <= _DEGREE else None


def _step(draft: Draft, node: Node) -> tuple[str, float, float] | None:
    """Return a node as scale and shift of its one operand that is no constant."""
    if not is_bare(node) or node.op not in ("Add", "Sub", "Mul", "Div", "Neg"):
        return None
    for x in dict.fromkeys(node.inputs):
        if draft.constant(x) is not None:
            continue
        terms = polynomial(draft, node.outputs[0], x, outermost=True)
        if terms is not None and terms.keys() <= {0, 1}:
            return x, terms.get(1, 0.0), terms.get(0, 0.0)
    return None
