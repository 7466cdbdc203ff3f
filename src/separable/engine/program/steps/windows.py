"""Pools, means and resizing of feature maps as native steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node
from ...recorded.tape import applied
from ..builder import Builder, UnsupportedError
from ..memory import Blocked
from . import volumes
from .recorded import append_step
from .volumes import image

__all__ = ["global_pool", "pool", "resize"]


def pool(builder: Builder, node: Node) -> None:
    """Append a maximum or an average over windows."""
    attributes = node.attributes
    if len([name for name in node.outputs if name]) > 1:
        raise UnsupportedError("indices of the maxima")
    rank = len(attributes["kernel_shape"])
    if rank == 3:
        return volumes.pool(builder, node)
    if rank > 3:
        raise UnsupportedError(f"{rank} spatial axes; expected one to three")
    source = builder.blocked(node.inputs[0])
    target = builder.result(node.outputs[0])
    one = (1,) * (2 - rank)
    zero = (0,) * (2 - rank)
    kernel, stride = (*one, *attributes["kernel_shape"]), (*one, *attributes["strides"])
    dilation = (*one, *attributes.get("dilations", (1,) * rank))
    pads = attributes["pads"]
    high = [max(pad, 0) for pad in pads[rank:]]  # fewer windows than fit: the result is that small
    around = (*zero, *pads[:rank], *zero, *high)
    kind = "max" if node.op == "MaxPool" else "average"
    counted = bool(attributes.get("count_include_pad", 0))

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_pool,
            kind,
            image(program, source),
            image(program, target),
            kernel,
            stride,
            dilation,
            around,
            counted,
        )

    label = f"{kind} pool {' x '.join(map(str, attributes['kernel_shape']))}"
    builder.add(label, node.outputs[0], [source], [target], add)


def global_pool(builder: Builder, node: Node) -> None:
    """Append the mean, or the maximum, of each feature map."""
    source = builder.blocked(node.inputs[0])
    reduction = "max" if node.op == "GlobalMaxPool" else "mean"
    if source.rank == 5:
        return volumes.global_pool(builder, node, source, reduction)

    def write(target: Blocked) -> None:
        def add(program: Any) -> None:
            append_step(
                program,
                _core.add_mean,
                image(program, source),
                target.address,
                (target.pitches[0], 1),
                reduction,
            )

        builder.add(f"{reduction} of maps", node.outputs[0], [source], [target], add)

    builder.row_result(node.outputs[0], write)


# -- resizing: axis by axis, a weighted sum of a few samples -----------------------------------------


def resize(builder: Builder, node: Node) -> None:
    """Append an interpolation of feature maps, one axis after the other."""
    name, out = node.inputs[0], node.outputs[0]
    before, after = builder.image_shape(name), builder.image_shape(out)
    if builder.shape(name)[:2] != builder.shape(out)[:2]:
        raise UnsupportedError("other axes than the spatial ones are resized")
    scales = _scales(builder, node, before, after)
    axes = (3, 2, 0) if len(builder.shape(name)) == 5 else (3, 2)
    steps = [axis for axis in axes if before[axis] != after[axis] or scales[axis] != 1.0]
    source = builder.blocked(name)
    target = builder.result(out)
    builder.clear_around(out, target)
    if not steps:
        builder.copy(out, source, target)
    for number, axis in enumerate(steps):
        shape = list(source.shape)
        shape[axis] = after[axis]
        last = number == len(steps) - 1
        made = target if last else Blocked.fresh(tuple(shape), builder.lanes, rank=source.rank)  # type: ignore[arg-type]
        index, weights = applied(_taps, node, before[axis], after[axis], scales[axis])
        _along(builder, out, source, made, axis, index, weights)
        source = made


def _along(
    builder: Builder, out: str, source: Blocked, made: Blocked, axis: int, index: Array, weights: Array
) -> None:
    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_line_weights,
            source.lengths,
            axis,
            index,
            weights,
            source.address,
            source.strides,
            made.address,
            made.strides,
        )

    builder.add(f"resize axis {axis - 4}", out, [source], [made], add)


def _scales(
    builder: Builder, node: Node, before: tuple[int, ...], after: tuple[int, ...]
) -> tuple[float, ...]:
    given = node.inputs[2] if len(node.inputs) > 2 else ""
    rank = len(builder.shape(node.inputs[0]))
    if given and builder.constant(given).size == rank:
        factors = builder.constant(given).ravel().tolist()
        if rank == 5:
            return factors[2], factors[1], factors[3], factors[4]
        return tuple(factors if rank == 4 else (*factors[:2], 1.0, factors[2]))
    return tuple(new / old for old, new in zip(before, after, strict=True))


def _taps(node: Node, size: int, result: int, scale: float) -> tuple[Array, Array]:
    """Return for each result the samples that it is a sum of, and their weights (ONNX's Resize)."""
    attributes = node.attributes
    mode = str(attributes.get("mode", "nearest"))
    where = str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if attributes.get("antialias") or where == "tf_crop_and_resize":
        raise UnsupportedError("antialias or tf_crop_and_resize")
    at = _coordinates(where, size, result, scale)
    if mode == "nearest":
        index = _nearest(at, str(attributes.get("nearest_mode", "round_prefer_floor")))
        return np.clip(index, 0, size - 1)[:, None].astype(np.int64), np.ones((result, 1), np.float32)
    if mode not in ("linear", "cubic"):
        raise UnsupportedError(f"mode {mode!r}")
    first = np.floor(at).astype(np.int64)
    offset = at - first
    if mode == "linear":
        weights = np.stack([1 - offset, offset], 1)
        index = first[:, None] + np.arange(2)
    else:
        weights = _cubic(offset, float(attributes.get("cubic_coeff_a", -0.75)))
        index = first[:, None] + np.arange(-1, 3)
        if attributes.get("exclude_outside"):
            weights = np.where((index >= 0) & (index < size), weights, 0.0)
            weights = weights / weights.sum(1, keepdims=True)
    return np.clip(index, 0, size - 1), weights.astype(np.float32)


def _coordinates(where: str, size: int, result: int, scale: float) -> Array:
    out = np.arange(result, dtype=np.float64)
    if where == "asymmetric":
        return out / scale
    if where == "align_corners":
        exact = scale * size  # not rounded down to what is made
        return out * (size - 1) / (exact - 1) if result > 1 else out * 0.0
    half = (out + 0.5) / scale - 0.5
    if where == "pytorch_half_pixel" and result == 1:
        return out * 0.0
    if where == "half_pixel_symmetric":
        return half + size / 2 * (1 - result / (scale * size))
    if where not in ("half_pixel", "pytorch_half_pixel"):
        raise UnsupportedError(f"coordinate_transformation_mode {where!r}")
    return half


def _nearest(at: Array, rule: str) -> Array:
    if rule == "floor":
        return np.floor(at)
    if rule == "ceil":
        return np.ceil(at)
    return np.ceil(at - 0.5) if rule == "round_prefer_floor" else np.floor(at + 0.5)


def _cubic(offset: Array, a: float) -> Array:
    def near(t: Array) -> Array:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: Array) -> Array:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return np.stack([far(offset + 1), near(offset), near(1 - offset), far(2 - offset)], 1)
