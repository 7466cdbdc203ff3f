"""Convolutions and pools: their attributes in full, and the types of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ...recorded.numbers import larger
from ..ir import Node
from .operands import Kind, Length, Lengths, Operands, ShapeError, one_dtype

__all__ = ["RULES", "WINDOWED", "convolved", "in_full", "is_full", "reach"]

# Where the weights are among the inputs.
_WEIGHTED: Final = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
_FULL: Final = {"kernel_shape", "strides", "dilations", "pads"}
_LEFT: Final = ("auto_pad", "ceil_mode", "output_shape", "storage_order")  # what is resolved here
WINDOWED: Final = frozenset((*_WEIGHTED, "MaxPool", "AveragePool", "LpPool"))


def in_full(given: Operands) -> Node:
    """Return a convolution or a pool with all its attributes written out.

    Parameters
    ----------
    given : Operands

    Returns
    -------
    Node
        Without `auto_pad`, `ceil_mode` and `output_shape`, as soon as the lengths that they depend on are
        known. `ceil_mode` stays with an average that counts its padding, where a window ends beyond it.
    """
    node = given.node
    shape = given.shape()
    rank = len(shape) - 2
    if rank < 1:
        raise ShapeError(f"input of shape {shape}; expected (N, C, *spatial)")
    kernel = _kernel(given, rank)
    if kernel is None:
        return node
    if is_full(node, kernel, rank):
        return node
    written = dict(node.attributes)
    written["kernel_shape"] = kernel
    for name, default in (("strides", 1), ("dilations", 1)):
        written[name] = _list(written.get(name), name, rank, default, least=1)
    written["pads"] = _list(written.get("pads"), "pads", 2 * rank, 0)
    if not written.get("storage_order"):
        written.pop("storage_order", None)
    if node.op in _WEIGHTED:
        written["group"] = int(written.get("group", 1))
    if node.op == "ConvTranspose":
        written["output_padding"] = _list(written.get("output_padding"), "output_padding", rank, 0)
        _transposed_pads(written, shape[2:])
    else:
        _auto_pads(written, shape[2:])
        if "auto_pad" not in written:
            _no_ceil(written, shape[2:])
    return node.with_(attributes=written)


def is_full(node: Node, kernel: tuple[int, ...], rank: int) -> bool:
    """Return whether the attributes are all written out, as when a graph is made static again."""
    written = node.attributes
    if not written.keys() >= _FULL or not written.keys().isdisjoint(_LEFT):
        return False
    strides, dilations, pads = written["strides"], written["dilations"], written["pads"]
    return (
        written["kernel_shape"] == kernel
        and len(strides) == len(dilations) == rank
        and len(pads) == 2 * rank
        and min(*strides, *dilations) > 0
        and ("group" in written or node.op not in _WEIGHTED)
        and ("output_padding" in written or node.op != "ConvTranspose")
    )


def _kernel(given: Operands, rank: int) -> tuple[int, ...] | None:
    kernel = given.attribute("kernel_shape")
    if given.node.op in _WEIGHTED:
        weights = given.shape(_WEIGHTED[given.node.op])
        if len(weights) != rank + 2:
            raise ShapeError(f"weights of shape {weights} for an input of shape {given.shape()}")
        lengths = weights[2:]
        if str in map(type, lengths):
            return None if kernel is None else _list(kernel, "kernel_shape", rank, 1, least=1)
        if kernel is not None and tuple(kernel) != lengths:
            raise ShapeError(f"kernel_shape {tuple(kernel)} and weights of shape {weights}")
        kernel = lengths
    if kernel is None:
        raise ShapeError("kernel_shape is missing")
    return _list(kernel, "kernel_shape", rank, 1, least=1)


def _list(
    values: Sequence[int] | None, name: str, count: int, default: int, least: int | None = None
) -> tuple[int, ...]:
    if not values:
        return (default,) * count
    if len(values) != count or (least is not None and min(values) < least):
        wanted = f"{count} numbers" + (f" from {least} on" if least is not None else "")
        raise ShapeError(f"{name} {tuple(values)}; expected {wanted}")
    return tuple(values)


def reach(written: Mapping[str, Any], axis: int) -> int:
    """Return the pixels from the first tap of a window to its last."""
    return (int(written["kernel_shape"][axis]) - 1) * int(written["dilations"][axis]) + 1


def _auto_pads(written: dict[str, Any], lengths: Lengths) -> None:
    """Replace SAME and VALID by numbers, where these are known."""
    mode = written.get("auto_pad", "NOTSET") or "NOTSET"
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ShapeError(f"auto_pad {mode!r} is not known")
    if mode.startswith("SAME"):
        low, high = [], []
        for axis, length in enumerate(lengths):
            total = _same_total(length, int(written["strides"][axis]), reach(written, axis))
            if total is None:
                return
            small, large = total // 2, total - total // 2
            low.append(small if mode == "SAME_UPPER" else large)
            high.append(large if mode == "SAME_UPPER" else small)
        written["pads"] = (*low, *high)
    elif mode == "VALID":
        written["pads"] = (0,) * (2 * len(lengths))
    written.pop("auto_pad", None)
    if mode != "NOTSET":
        written.pop("ceil_mode", None)  # it has no say there


def _same_total(length: Length, stride: int, reach: int) -> int | None:
    if isinstance(length, int):
        total: int = larger((-(-length // stride) - 1) * stride + reach - length, 0)
        return total
    return reach - 1 if stride == 1 else None


def _no_ceil(written: dict[str, Any], lengths: Lengths) -> None:
    """Replace `ceil_mode` by what is padded more at the high ends: no average counts it."""
    if not written.get("ceil_mode"):
        written.pop("ceil_mode", None)
        return
    if not all(isinstance(length, int) for length in lengths):
        return
    rank = len(lengths)
    pads = list(written["pads"])
    for axis, length in enumerate(lengths):
        assert isinstance(length, int)
        low, high, stride = pads[axis], pads[axis + rank], written["strides"][axis]
        taps = reach(written, axis)
        count = -(-(length + low + high - taps) // stride) + 1
        if (count - 1) * stride >= length + low:
            count -= 1  # that window would begin in the padding
        pads[axis + rank] += (count - 1) * stride + taps - (length + low + high)
    counted = written.get("count_include_pad") and any(written["pads"])
    if counted and tuple(pads) != written["pads"]:
        written["beyond"] = tuple(pads)  # the caller writes the padding that counts as a node of its own
        return
    if tuple(pads) != written["pads"]:
        written.pop("count_include_pad", None)
    written["pads"] = tuple(pads)
    del written["ceil_mode"]


def _transposed_pads(written: dict[str, Any], lengths: Lengths) -> None:
    mode, wanted = written.get("auto_pad", "NOTSET") or "NOTSET", written.get("output_shape")
    rank = len(lengths)
    if mode == "VALID":
        written["pads"] = (0,) * (2 * rank)
    elif mode.startswith("SAME") or wanted:
        if not all(isinstance(length, int) for length in lengths):
            return
        low, high, more = [], [], list(written["output_padding"])
        for axis, length in enumerate(lengths):
            assert isinstance(length, int)
            stride = written["strides"][axis]
            goal = wanted[len(wanted) - rank + axis] if wanted else length * stride
            total = stride * (length - 1) + more[axis] + reach(written, axis) - goal
            if total < 0:
                more[axis], total = more[axis] - total, 0
            small, large = total // 2, total - total // 2
            low.append(small if mode == "SAME_UPPER" else large)
            high.append(large if mode == "SAME_UPPER" else small)
        written["pads"], written["output_padding"] = (*low, *high), tuple(more)
    written.pop("auto_pad", None)
    written.pop("output_shape", None)


# -- types -------------------------------------------------------------------------------------------


def _slid(given: Operands) -> Lengths:
    """Return the spatial lengths that a window leaves."""
    written, lengths = given.node.attributes, given.shape()[2:]
    if not written.keys() >= _FULL:
        return (None,) * len(lengths)
    rank = len(lengths)
    found: list[Length] = []
    pads = written.get("beyond", written["pads"])
    for axis, length in enumerate(lengths):
        stride, taps = written["strides"][axis], reach(written, axis)
        padding = pads[axis] + pads[axis + rank]
        if isinstance(length, int) and "auto_pad" not in written:
            if length + padding < taps:
                raise ShapeError(
                    f"a window of {taps} pixels is longer than axis {axis + 2} of {given.shape()} with "
                    f"{padding} pixels of padding"
                )
            found.append((length + padding - taps) // stride + 1)
        elif isinstance(length, int):
            found.append(-(-length // stride))
        else:
            found.append(length if stride == 1 and padding == taps - 1 else None)
    return tuple(found)


def convolved(given: Operands, place: int = 1) -> Lengths:
    """Return the shape of a convolution with the weights at a place of its operands."""
    x, weights = given.shape(), given.shape(place)
    group = given.attribute("group", 1)
    if len(weights) != len(x):
        raise ShapeError(f"weights of shape {weights} for an input of shape {x}")
    if isinstance(x[1], int) and isinstance(weights[1], int) and x[1] != weights[1] * group:
        raise ShapeError(f"weights of shape {weights} in {group} group(s) for an input of shape {x}")
    if isinstance(weights[0], int) and weights[0] % max(group, 1):
        raise ShapeError(f"{weights[0]} output channels in {group} groups")
    return (x[0], weights[0], *_slid(given))


def _convolution(given: Operands) -> list[Kind]:
    shape = convolved(given)
    if given.has(2) and given.shape(2) != shape[1:2]:
        raise ShapeError(f"bias of shape {given.shape(2)} for {shape[1]} output channels")
    dtype = one_dtype(given.types)
    return [(dtype, shape), (dtype, (*shape[:2], *(1 for _ in shape[2:])))]


def _transposed(given: Operands) -> list[Kind]:
    x, weights, written = given.shape(), given.shape(1), given.node.attributes
    group, rank = given.attribute("group", 1), len(x) - 2
    if isinstance(x[1], int) and isinstance(weights[0], int) and x[1] != weights[0]:
        raise ShapeError(f"weights of shape {weights} for an input of shape {x}")
    channels = weights[1] * group if isinstance(weights[1], int) else None
    dtype = one_dtype(given.types)
    if not written.keys() >= _FULL or "auto_pad" in written or "output_shape" in written:
        return [(dtype, (x[0], channels, *(None for _ in range(rank))))]
    found: list[Length] = []
    for axis, length in enumerate(x[2:]):
        more = reach(written, axis) + written["output_padding"][axis]
        more -= written["pads"][axis] + written["pads"][axis + rank]
        known = isinstance(length, int)
        found.append(written["strides"][axis] * (length - 1) + more if known else None)  # type: ignore[operator]
    if any(isinstance(length, int) and length < 1 for length in found):
        raise ShapeError(f"nothing is left of an input of shape {x}: lengths {tuple(found)}")
    return [(dtype, (x[0], channels, *found))]


def _pool(given: Operands) -> list[Kind]:
    shape = (*given.shape()[:2], *_slid(given))
    return [(given.dtype(), shape), (np.dtype(np.int64), shape)]


def _global_pool(given: Operands) -> list[Kind]:
    shape = given.shape()
    if len(shape) < 2:
        raise ShapeError(f"input of shape {shape}; expected (N, C, *spatial)")
    return [(given.dtype(), (*shape[:2], *(1 for _ in shape[2:])))]


RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    **dict.fromkeys(["MaxPool", "AveragePool", "LpPool"], _pool),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], _global_pool),
}
