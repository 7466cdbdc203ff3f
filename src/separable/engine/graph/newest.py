"""What older operator sets (13 on) write differently, in the form of the newest one."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...onnx.model.names import ModelError
from .ir import Node, free

__all__ = ["in_newest_form"]

_Change = tuple[Node, Mapping[str, Array]]


def in_newest_form(node: Node, opset: int, taken: Container[str] = ()) -> _Change:
    """Return a node as ONNX's newest operator set writes it, and the constants that it needs for that.

    Parameters
    ----------
    node : Node
        Of ONNX's own domain.
    opset : int
        The operator set that it was written in, 13 or newer.
    taken : container of str, optional
        Names that new constants may not have.

    Returns
    -------
    node : Node
    constants : mapping of str to ndarray

    Raises
    ------
    ModelError
        If the newest operator set cannot say it.
    """
    change = _CHANGES.get(node.op)
    if change is None:
        return node, {}
    new, constants = change(node, opset)
    if any(name in taken for name in constants):
        names = {name: free(name, taken) for name in constants}
        old = len(node.inputs)  # what was an input before goes on to be it
        inputs = (*new.inputs[:old], *(names.get(name, name) for name in new.inputs[old:]))
        return new.with_(inputs=inputs), {names[name]: array for name, array in constants.items()}
    return new, constants


def _without(node: Node, *names: str) -> dict[str, Any]:
    return {name: value for name, value in node.attributes.items() if name not in names}


def _reduction(node: Node, _: int) -> _Change:
    """Write axes as an input; they were an attribute before operator set 18."""
    axes = node.attributes.get("axes")
    if axes is None:
        return node, {}
    name = f"{node.outputs[0]}.axes"
    new = node.with_(inputs=(node.inputs[0], name), attributes=_without(node, "axes"))
    return new, {name: np.array(axes, np.int64)}


def _split(node: Node, _: int) -> _Change:
    """Write the number of equal parts, which was that of the outputs before operator set 18."""
    if len(node.inputs) > 1 and node.inputs[1]:
        return node.with_(attributes=_without(node, "num_outputs")), {}
    return node.with_(inputs=node.inputs[:1]).and_attributes(num_outputs=len(node.outputs)), {}


def _batch_norm(node: Node, _: int) -> _Change:
    """Drop what only training has: running statistics, and how fast they move."""
    if node.attributes.get("training_mode"):
        raise ModelError(
            f"node `{node.outputs[0]}` (BatchNormalization) is in training mode; "
            "export the model for inference."
        )
    return node.with_(outputs=node.outputs[:1], attributes=_without(node, "momentum", "training_mode")), {}


def _grid_sample(node: Node, opset: int) -> _Change:
    """Write modes of interpolation as operator set 20 does, for any number of axes."""
    mode = node.attributes.get("mode", "bilinear" if opset < 20 else "linear")
    return node.and_attributes(mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)), {}


def _group_norm(node: Node, opset: int) -> _Change:
    """Refuse what belongs to groups: since operator set 21 scales belong to channels."""
    if opset < 21:
        raise ModelError(
            f"node `{node.outputs[0]}` (GroupNormalization) is of operator set {opset}, which scales groups; "
            "export the model in operator set 21 or newer."
        )
    return node, {}


_REDUCTIONS: Final = """
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare
"""

_CHANGES: Final[Mapping[str, Callable[[Node, int], _Change]]] = {
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    "Split": _split,
    "BatchNormalization": _batch_norm,
    "GridSample": _grid_sample,
    "GroupNormalization": _group_norm,
}
