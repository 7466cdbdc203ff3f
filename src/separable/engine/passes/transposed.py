"""Transposed convolutions, written as convolutions whose results lie between each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, TensorType
from .draft import Draft
from .known import group_of, real_constant, shape_of

__all__ = ["transposed"]

_APPLIED: Final = ("activation", "low", "high", "alpha", "operands")
_FULL: Final = frozenset({"kernel_shape", "strides", "dilations", "pads", "output_padding"})


def transposed(graph: Graph) -> Graph:
    """Write ConvTranspose as Conv: each of its phases is one, and a DepthToSpace puts them together.

    With a stride of s, the samples r, r + s, ... of the result are a convolution with the taps r, r + s, ...
    of the kernel: no multiplication by the zeros that would be put between the samples of the input. What
    lies beyond the borders is cut off at the end.
    """
    draft = Draft.of(graph)
    for node in draft:
        if node.op == "ConvTranspose":
            phases = _phases(draft, node)
            if phases is not None:
                draft.replace(node, *phases)
    return draft.finished()


def _phases(draft: Draft, node: Node) -> list[Node] | None:
    written = node.attributes
    weights = real_constant(draft, node.inputs[1])
    biased = len(node.inputs) > 2 and bool(node.inputs[2])
    bias = real_constant(draft, node.inputs[2]) if biased else None
    shape = shape_of(draft, node.inputs[0])
    full = written.keys() >= _FULL and "auto_pad" not in written and "output_shape" not in written
    known = weights is not None and weights.ndim in (3, 4, 5) and (bias is not None or not biased)
    if not full or not known or shape is None or any(isinstance(length, str) for length in shape):
        return None
    if min(*written["pads"], *written["output_padding"]) < 0:
        return None
    assert weights is not None
    rank = weights.ndim - 2
    spread = _with_holes(weights, written["dilations"])
    ends = [_Axis(axis, spread.shape[2 + axis], written) for axis in range(rank)]
    groups = group_of(node)
    taps = _taps(spread, groups, ends)
    inputs = [draft.add_constant(f"{node.inputs[1]}/phases", taps)]
    if bias is not None:
        count = math.prod(end.stride for end in ends)
        phases = np.tile(bias, count) if groups == 1 else np.repeat(bias, count)
        inputs.append(draft.add_constant(f"{node.inputs[2]}/phases", phases))
    attributes: dict[str, Any] = {
        "kernel_shape": tuple(end.taps for end in ends),
        "strides": (1,) * rank,
        "dilations": (1,) * rank,
        "pads": (*(end.low for end in ends), *(end.high for end in ends)),
        "group": groups,
        **{name: written[name] for name in _APPLIED if name in written},
    }
    spatial: Any = shape[2:]
    lengths = [n + end.low + end.high - end.taps + 1 for n, end in zip(spatial, ends, strict=True)]
    made: Any = (shape[0], len(taps), *lengths)
    chain = _Chain(draft, node, made)
    chain.add("Conv", inputs, made, attributes)
    chain.interleave(ends, first=groups == 1)
    chain.cut(ends)
    return chain.finished()


def _with_holes(weights: Array, dilations: tuple[int, ...]) -> Array:
    """Return dilated weights as dense ones."""
    for axis, step in enumerate(dilations, 2):
        if step > 1:
            shape = list(weights.shape)
            shape[axis] = (shape[axis] - 1) * step + 1
            wide = np.zeros(shape, weights.dtype)
            wide[(slice(None),) * axis + (slice(None, None, step),)] = weights
            weights = wide
    return weights


class _Axis:
    """One axis: taps of a phase, what the convolution pads, and what is cut off behind it.

    Sample u of all that the input and the kernel make, u = q * stride + r, is sample q of phase r. Wanted are
    those from `pads[axis]` on.
    """

    def __init__(self, axis: int, kernel: int, written: Mapping[str, Any]) -> None:
        rank, stride = len(written["kernel_shape"]), int(written["strides"][axis])
        before, behind = int(written["pads"][axis]), int(written["pads"][rank + axis])
        self.stride = stride
        self.taps = -(-kernel // stride)
        skipped = min(before // stride, self.taps - 1)  # samples of each phase that are not computed at all
        self.low = self.taps - 1 - skipped
        self.cut = before - skipped * stride
        # The last sample wanted is (length - 1) * stride + kernel - 1 - behind + output_padding.
        beyond = kernel - behind + int(written["output_padding"][axis])
        self.high = max(-(-beyond // stride) - 1, 0)
        self.rest = (self.high + 1) * stride - beyond


def _taps(weights: Array, groups: int, ends: list[_Axis]) -> Array:
    """Return the weights of all phases: (phases * C_out, C_in / groups, *taps), of groups C_out * phases."""
    c_in, c_out = weights.shape[:2]
    rank = weights.ndim - 2
    grouped = weights.reshape(groups, c_in // groups, *weights.shape[1:])
    for axis, end in enumerate(ends):
        place = 3 + 2 * axis
        more = [(0, 0)] * grouped.ndim
        more[place] = (0, end.taps * end.stride - grouped.shape[place])
        padded = np.pad(grouped, more)
        grouped = padded.reshape(*padded.shape[:place], end.taps, end.stride, *padded.shape[place + 1 :])
        grouped = np.flip(grouped, place)
    taps, phases = [3 + 2 * axis for axis in range(rank)], [4 + 2 * axis for axis in range(rank)]
    order = (*phases, 2) if groups == 1 else (2, *phases)
    turned = grouped.transpose(0, *order, 1, *taps)
    lengths = [end.taps for end in ends]
    count = math.prod(end.stride for end in ends)
    return np.ascontiguousarray(turned).reshape(count * groups * c_out, c_in // groups, *lengths)


class _Chain:
    """The nodes in place of one: each reads what the one before makes; the last makes what is wanted."""

    def __init__(self, draft: Draft, node: Node, shape: tuple[int, ...]) -> None:
        self._draft, self._node, self._shape = draft, node, shape
        self._nodes: list[Node] = []
        self._kind = draft.type_of(node.outputs[0])

    def add(
        self, op: str, others: list[str], shape: tuple[int, ...], attributes: dict[str, Any] | None = None
    ) -> None:
        """Add a node; `shape` is that of what it makes."""
        x = self._nodes[-1].outputs[0] if self._nodes else self._node.inputs[0]
        y = self._draft.new_name(f"{self._node.outputs[0]}/{op.lower()}")
        if self._kind is not None:
            self._draft.set_type(y, TensorType(self._kind.dtype, shape))
        self._nodes.append(Node(op, (x, *others), (y,), attributes or {}))
        self._shape = shape

    def interleave(self, ends: list[_Axis], first: bool) -> None:
        """Put phases between each other: (N, s.. C, L..), or (N, C s.., L..), becomes (N, C, L s, ..)."""
        strides = [end.stride for end in ends]
        if max(strides) == 1:
            return
        count, channels, *lengths = self._shape
        rest = channels // math.prod(strides)
        wide = (count, rest, *(n * stride for n, stride in zip(lengths, strides, strict=True)))
        if len(strides) == 2 and strides[0] == strides[1]:
            self.add("DepthToSpace", [], wide, {"blocksize": strides[0], "mode": "DCR" if first else "CRD"})
            return
        rank, phase = len(strides), 1 if first else 2
        pairs = (place for axis in range(rank) for place in (2 + rank + axis, phase + axis))
        order = (0, 1 + rank if first else 1, *pairs)
        apart = (count, *strides, rest, *lengths) if first else (count, rest, *strides, *lengths)
        self.add("Reshape", [self._integers("apart", apart)], apart)
        self.add("Transpose", [], tuple(apart[axis] for axis in order), {"perm": order})
        self.add("Reshape", [self._integers("together", wide)], wide)

    def cut(self, ends: list[_Axis]) -> None:
        """Cut off what lies beyond the borders."""
        if not any(end.cut or end.rest for end in ends):
            return
        lengths = self._shape[2:]
        stops = [length - end.rest for length, end in zip(lengths, ends, strict=True)]
        named = {"starts": [end.cut for end in ends], "ends": stops, "axes": range(2, 2 + len(ends))}
        shape = tuple(stop - end.cut for stop, end in zip(stops, ends, strict=True))
        others = [self._integers(what, tuple(values)) for what, values in named.items()]
        self.add("Slice", others, (*self._shape[:2], *shape))

    def finished(self) -> list[Node]:
        """Return the nodes."""
        return [*self._nodes[:-1], self._nodes[-1].with_(outputs=self._node.outputs)]

    def _integers(self, what: str, values: tuple[int, ...]) -> str:
        return self._draft.add_constant(f"{self._node.outputs[0]}/{what}", np.array(values, np.int64))
