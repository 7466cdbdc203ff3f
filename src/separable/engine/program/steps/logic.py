"""Comparisons, choices and casts as native steps: what is true is 1, what is not is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from .... import _core
from ...graph.ir import Node
from ..builder import Builder, UnsupportedError
from ..memory import Blocked, Plain
from .elements import everywhere, on_each
from .recorded import append_step

__all__ = ["cast", "compare", "connect", "negate", "position", "where"]

# The core's operation, and whether operands change places.
_COMPARED: Final[Mapping[str, tuple[str, bool]]] = {
    "Equal": ("equal", False),
    "Less": ("less", False),
    "LessOrEqual": ("less_equal", False),
    "Greater": ("less", True),
    "GreaterOrEqual": ("less_equal", True),
}
_CONNECTED: Final = {"And": "mul", "Or": "max"}


def compare(builder: Builder, node: Node) -> None:
    """Append a comparison."""
    operation, turned = _COMPARED[node.op]
    one, other = node.inputs[::-1] if turned else node.inputs
    shape = builder.shape(node.outputs[0])
    target = builder.plain_result(node.outputs[0])
    on_each(
        builder, node.outputs[0], operation, (_as(builder, one, shape), _as(builder, other, shape)), target
    )


def connect(builder: Builder, node: Node) -> None:
    """Append And, Or or Xor."""
    out = node.outputs[0]
    shape = builder.shape(out)
    one, other = (_as(builder, name, shape) for name in node.inputs)
    target = builder.plain_result(out)
    if node.op != "Xor":
        return on_each(builder, out, _CONNECTED[node.op], (one, other), target)
    same = builder.scratch(shape)
    on_each(builder, out, "equal", (one, other), same)
    on_each(builder, out, "sub", (everywhere(builder, 1.0, shape), same), target)


def negate(builder: Builder, node: Node) -> None:
    """Append Not."""
    out = node.outputs[0]
    shape = builder.shape(out)
    one, x = everywhere(builder, 1.0, shape), _as(builder, node.inputs[0], shape)
    on_each(builder, out, "sub", (one, x), builder.plain_result(out))


def where(builder: Builder, node: Node) -> None:
    """Append a choice: what is not chosen counts as zero, whatever it is."""
    out = node.outputs[0]
    shape = builder.shape(out)
    condition, yes, no = (_as(builder, name, shape) for name in node.inputs)
    target, rest = builder.plain_result(out), builder.scratch(shape)
    on_each(builder, out, "where", (condition, yes), target)
    on_each(builder, out, "unless", (condition, no), rest)
    on_each(builder, out, "add", (target, rest), target)


def cast(builder: Builder, node: Node) -> None:
    """Give a tensor another type: nothing is done, but for what becomes true or false."""
    name, out = node.inputs[0], node.outputs[0]
    if builder.is_whole(name):
        source = builder.blocked(name) if builder.is_blocked(name) else builder.plain(name)
        made = builder.result(out) if isinstance(source, Blocked) else builder.plain_result(out)
        if isinstance(made, Blocked):
            builder.clear_around(out, made)
        return builder.map_levels("floats", out, source, made, None)
    if builder.graph.types[out].dtype != np.bool_ or _is_truth(builder, name):
        if not builder.held(name):
            builder.plain(name)
        for held in builder.held(name):
            builder.hold(out, held)
        return
    shape = builder.shape(out)
    none = builder.scratch(shape)
    zero, one = everywhere(builder, 0.0, shape), everywhere(builder, 1.0, shape)
    on_each(builder, out, "equal", (_as(builder, name, shape), zero), none)
    on_each(builder, out, "sub", (one, none), builder.plain_result(out))


def _is_truth(builder: Builder, name: str) -> bool:
    kinds = {**builder.graph.inputs, **builder.graph.types}
    return name in kinds and kinds[name].dtype == np.bool_


def position(builder: Builder, node: Node) -> None:
    """Append the index of the first maximum or minimum along an axis."""
    if node.attributes.get("select_last_index"):
        raise UnsupportedError("select_last_index")
    source = builder.plain(node.inputs[0])
    axis = int(node.attributes.get("axis", 0)) % len(source.shape)
    target = builder.plain_result(node.outputs[0])
    kept = tuple(1 if number == axis else length for number, length in enumerate(source.shape))
    strides = Plain.contiguous(target.buffer, kept).strides

    def add(program: Any) -> None:
        at, to = source.address, target.address
        append_step(
            program, _core.add_reduce, node.op.lower(), source.shape, [axis], at, source.strides, to, strides
        )

    builder.add(node.op.lower(), node.outputs[0], [source], [target], add)


def _as(builder: Builder, name: str, shape: tuple[int, ...]) -> Plain:
    """Return a tensor as it is read where another shape is wanted, which it broadcasts to."""
    held = builder.plain(name)
    missing = len(shape) - len(held.shape)
    strides = [0 if length == 1 else stride for length, stride in zip(held.shape, held.strides, strict=True)]
    return Plain(held.buffer, shape, (*(0 for _ in range(missing)), *strides), held.offset)
