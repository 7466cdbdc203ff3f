"""A hop of a network, compiled: what is asked for, checked, and what it computes of a whole window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ...conv.algebra.geometry import whole
from ..graph.ir import TensorType
from ..network.arrays import shown
from ..network.compiled import CompiledNetwork
from ..network.parts import NativePart
from ..network.plan import NetworkPlan
from ..program.chains import is_winograd
from .body import BodyEnd, LocalBody, body_of, means_apart
from .pieces import HopGraph, hop_graph

__all__ = ["HopPlan", "LayerColumns"]

_FLOAT: Final = np.dtype(np.float32)


@dataclass(frozen=True)
class LayerColumns:
    """The columns of one layer of the body.

    Attributes
    ----------
    op, name : str
        ONNX's operation, and the tensor that it makes.
    columns : int
        Of a whole window.
    new : int
        That are new with each hop.
    ends : int
        Near the ends of the window, where padding is read: computed for each window.
    """

    op: str
    name: str
    columns: int
    new: int
    ends: int


class HopPlan:
    """What a hop computes, for windows of one length: shared by all streams of it.

    Parameters
    ----------
    network : CompiledNetwork
    hop, axis, window : int or None
        As a caller gave them.

    Attributes
    ----------
    network : CompiledNetwork
    whole : NetworkPlan
        Of a whole window.
    hop, axis, window : int
    body : LocalBody
    steps : HopGraph
    part, fill : NativePart
        What runs for a hop; and what computes all that is kept of a whole window.
    """

    def __init__(
        self, network: CompiledNetwork, hop: int, axis: int | None = None, window: int | None = None
    ) -> None:
        self.network = network
        _check_kind(network)
        ((self.source, kind),) = network.inputs.items()
        self.axis = _axis(self.source, kind, axis)
        shape = _window_shape(network, self.source, kind, self.axis, window)
        self.window = shape[self.axis]
        self.hop = whole(hop, "hop")
        if self.hop >= self.window:
            raise ValueError(
                f"`hop={hop}` leaves nothing of a window of {self.window} columns; expected fewer than that. "
                "Call the program with whole windows."
            )
        self.whole = network.plan({self.source: shape})
        _check_parts(self.whole)
        graph = means_apart(self.whole.graph)
        self.body = body_of(graph, self.axis, self.hop)
        if not self.body.nodes:
            raise ValueError(_no_body(self.body, self.axis))
        self.steps: HopGraph = hop_graph(self.body)
        self.part: NativePart = network.part(self.steps.graph)
        wanted = dict.fromkeys((*graph.outputs, *self.steps.fresh))
        self.fill: NativePart = network.part(graph.with_(outputs=tuple(wanted)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a window."""
        return tuple(int(length) for length in self.whole.inputs[self.source].shape)

    @property
    def frames(self) -> tuple[int, ...]:
        """Shape of the new columns of a hop."""
        return (*self.shape[: self.axis], self.hop, *self.shape[self.axis + 1 :])

    @property
    def macs(self) -> int:
        """Multiply-adds of a hop."""
        return sum(operation.macs for operation in self.part.operations)

    @property
    def window_macs(self) -> int:
        """Multiply-adds of a whole window."""
        return sum(operation.macs for operation in self.whole.operations)

    @property
    def layers(self) -> tuple[LayerColumns, ...]:
        """The layers that are computed column by column."""
        made = []
        for entry in self.body.nodes:
            name = entry.node.outputs[0]
            extent, need = self.body.view.extents[name], self.body.needs[name]
            computed = need.left + max(need.right, extent.high) - extent.known(self.hop)
            new = extent.fresh(self.hop)
            made.append(LayerColumns(entry.node.op, name, extent.length, new, computed - new))
        return tuple(made)

    @property
    def by_tiles(self) -> bool:
        """Whether layers of the window are computed in tiles (Winograd): roundings depend on the place."""
        graph = self.whole.graph
        shape = graph.shapes()
        return any(node.op == "Conv" and is_winograd(node, shape) for node in graph.nodes)

    @property
    def stops(self) -> tuple[BodyEnd, ...]:
        """Where whole windows begin to be computed, and why."""
        return tuple(self.body.stops)


def _check_kind(network: CompiledNetwork) -> None:
    if network.precision is not None:
        raise ValueError(
            f"the program is of precision={network.precision.precision!r}; a stream runs in float32: "
            "load it with precision='float32'."
        )
    if network.depends_on_values:
        raise ValueError("what the program runs depends on values of its inputs: no part of it stays.")
    if len(network.inputs) != 1:
        names = ", ".join(f"`{name}`" for name in network.inputs)
        raise ValueError(f"the network has {len(network.inputs)} inputs, {names}; a stream takes one.")
    ((name, kind),) = network.inputs.items()
    if kind.dtype != _FLOAT:
        raise ValueError(f"input `{name}` is of {kind.dtype}; a stream takes float32.")


def _axis(name: str, kind: TensorType, axis: int | None) -> int:
    rank = len(kind.shape)
    if axis is None:
        if rank > 3:
            raise ValueError(
                f"`axis` is missing: input `{name}` {shown(kind.shape)} has {rank - 2} spatial axes; pass "
                f"the one that is time, axis=2 to axis={rank - 1}."
            )
        axis = rank - 1
    try:
        number = int(axis.__index__())
    except (AttributeError, TypeError):
        raise TypeError(f"`axis={axis!r}` is not a whole number.") from None
    if not -rank <= number < rank:
        raise ValueError(
            f"`axis={axis}` is none of input `{name}` {shown(kind.shape)}; expected {-rank} to {rank - 1}."
        )
    return number % rank


def _window_shape(
    network: CompiledNetwork, name: str, kind: TensorType, axis: int, window: int | None
) -> tuple[int, ...]:
    """Return the shape of a window: as declared, as said when it was loaded, one image by default."""
    said = network.shapes_said.get(name, ())
    lengths: list[Any] = [
        length if isinstance(length, int) else said[number] if said else 1 if number == 0 else length
        for number, length in enumerate(kind.shape)
    ]
    declared = kind.shape[axis]
    if window is not None:
        window = whole(window, "window")
        if isinstance(declared, int) and declared != window:
            raise ValueError(
                f"`window={window}`, but input `{name}` {shown(kind.shape)} has {declared} columns along "
                f"axis {axis}; leave `window` out."
            )
        lengths[axis] = window
    if isinstance(lengths[axis], str):
        raise ValueError(
            f"`window` is missing: input `{name}` {shown(kind.shape)} has any length along axis {axis}."
        )
    if any(isinstance(length, str) for length in lengths):
        raise ValueError(
            f"input `{name}` {shown(tuple(lengths))} has open lengths besides time; say them when you load "
            "the program, `shapes=`."
        )
    return tuple(lengths)


def _check_parts(plan: NetworkPlan) -> None:
    others = [part for part in plan.parts if not isinstance(part, NativePart)]
    if others or len(plan.parts) != 1:
        named = ", ".join(operation.kind for part in others for operation in part.operations)
        raise ValueError(
            f"parts of the program run outside of the engine ({named or 'nothing is computed'}); a stream "
            "runs networks of native steps alone."
        )
    if {*plan.outputs} - {*plan.parts[0].outputs}:
        raise ValueError("an output of the program is a constant or an input; a stream gives computed ones.")


def _no_body(body: LocalBody, axis: int) -> str:
    strides = [stop.stride for stop in body.stops if stop.stride]
    first = body.stops[0]
    node = f"`{first.node.outputs[0]}` ({first.node.op})"
    if strides:
        least = min(strides)
        above = math.ceil(body.hop / least) * least
        next_one = "" if above == least else f", the next to this one {above}"
        return (
            f"`hop={body.hop}` is no multiple of {least}, the stride of {node} along axis {axis}; the "
            f"smallest hop that works is {least}{next_one}."
        )
    return (
        f"nothing of the network can be kept along axis {axis}: its first layer {node} is computed whole, as "
        f"{first.reason}. Call the program with whole windows."
    )
