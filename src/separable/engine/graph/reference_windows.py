"""Convolutions and pools in plain NumPy: slow, obvious, in whatever precision they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from .ir import Node

__all__ = ["WINDOWS"]


def _padded(x: Array, pads: Sequence[int], fill: float) -> Array:
    """Return an array with more, or fewer where a number is negative, elements at its spatial ends."""
    rank = len(pads) // 2
    x = np.pad(
        x,
        [(0, 0), (0, 0), *((max(pads[n], 0), max(pads[n + rank], 0)) for n in range(rank))],
        constant_values=fill,
    )
    cut = [slice(max(-pads[n], 0), x.shape[n + 2] - max(-pads[n + rank], 0)) for n in range(rank)]
    return x[(slice(None), slice(None), *cut)]


def _windows(x: Array, node: Node, fill: float = 0) -> Array:
    """Return the view (N, C, *positions, *kernel) of all windows of an input."""
    written = node.attributes
    kernel, strides, dilations = (written[name] for name in ("kernel_shape", "strides", "dilations"))
    rank = len(kernel)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(
        _padded(x, written["pads"], fill), reach, tuple(range(2, 2 + rank))
    )
    steps = tuple(slice(None, None, step) for step in (*strides, *dilations))
    return view[(slice(None), slice(None), *steps)]


def _convolved(node: Node, inputs: Sequence[Any]) -> list[Array]:
    x, weights = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    group, rank = node.attributes["group"], weights.ndim - 2
    windows = _windows(x, node)
    parts = []
    for view, taps in zip(np.split(windows, group, 1), np.split(weights, group, 0), strict=True):
        summed = (1, *range(2 + rank, 2 + 2 * rank))
        part = np.tensordot(view, taps, (summed, tuple(range(1, 2 + rank))))  # (N, *positions, C)
        parts.append(np.moveaxis(part, -1, 1))
    y = np.concatenate(parts, 1)
    return [y if bias is None else y + bias.reshape(-1, *(1,) * rank)]


def _transposed(node: Node, inputs: Sequence[Any]) -> list[Array]:
    """Scatter each element, weighted, over the outputs that it reaches."""
    x, weights = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    written = node.attributes
    group, rank, pads = written["group"], weights.ndim - 2, written["pads"]
    strides, dilations, kernel = (written[name] for name in ("strides", "dilations", "kernel_shape"))
    whole = [
        step * (length - 1) + (size - 1) * dilation + 1 + more
        for step, length, size, dilation, more in zip(
            strides, x.shape[2:], kernel, dilations, written["output_padding"], strict=True
        )
    ]
    y = np.zeros((x.shape[0], weights.shape[1] * group, *whole), x.dtype)
    for tap in np.ndindex(*kernel):
        places = tuple(
            slice(at * dilation, at * dilation + step * (length - 1) + 1, step)
            for at, dilation, step, length in zip(tap, dilations, strides, x.shape[2:], strict=True)
        )
        parts = [
            np.moveaxis(np.tensordot(part, taps[(..., *tap)], ((1,), (0,))), -1, 1)
            for part, taps in zip(np.split(x, group, 1), np.split(weights, group, 0), strict=True)
        ]
        y[(slice(None), slice(None), *places)] += np.concatenate(parts, 1)
    y = _padded(y, [-pad for pad in pads], 0)
    return [y if bias is None else y + bias.reshape(-1, *(1,) * rank)]


def _lowest(dtype: np.dtype[Any]) -> float:
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _largest(node: Node, inputs: Sequence[Any]) -> list[Array]:
    x = inputs[0]
    rank = x.ndim - 2
    windows = _windows(x, node, _lowest(x.dtype))
    taps = tuple(range(2 + rank, 2 + 2 * rank))
    if len(node.outputs) < 2:
        return [windows.max(taps)]
    # Where the largest lies: numbers of elements of the input, taken through the same windows.
    number = np.arange(x.size).reshape(x.shape)
    if node.attributes.get("storage_order"):
        order = np.arange(x[0, 0].size).reshape(x.shape[2:], order="F")
        number = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * rank) * order.size + order
    flat = windows.reshape(*windows.shape[: 2 + rank], -1)
    best = flat.argmax(-1)[..., None]
    places = _windows(number, node, -1).reshape(flat.shape)
    return [windows.max(taps), np.take_along_axis(places, best, -1)[..., 0]]


def _mean(node: Node, inputs: Sequence[Any]) -> list[Array]:
    x = inputs[0]
    rank = x.ndim - 2
    taps = tuple(range(2 + rank, 2 + 2 * rank))
    counted = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if node.attributes.get("count_include_pad"):
        own = node.attributes["pads"]
        x, counted = _padded(x, own, 0), _padded(counted, own, 1)
        beyond = node.attributes.get("beyond", own)  # which is padded more, and counts never
        more = tuple(there - here for there, here in zip(beyond, own, strict=True))
        node = node.and_attributes(pads=more)
    counted = _windows(counted, node)
    return [_windows(x, node).sum(taps) / counted.sum(taps)]


def _norm(node: Node, inputs: Sequence[Any]) -> list[Array]:
    rank, power = inputs[0].ndim - 2, node.attributes.get("p", 2)
    total = (np.abs(_windows(inputs[0], node)) ** power).sum(tuple(range(2 + rank, 2 + 2 * rank)))
    return [total ** (1 / power)]


WINDOWS: Final[Mapping[str, Callable[[Node, Sequence[Any]], list[Array]]]] = {
    "Conv": _convolved,
    "ConvTranspose": _transposed,
    "MaxPool": _largest,
    "AveragePool": _mean,
    "LpPool": _norm,
}
