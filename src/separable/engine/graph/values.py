"""The operations that models compute lengths with, on NumPy arrays: what a static graph folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from .elements import DTYPES
from .ir import Node
from .shapes.layout import sliced

__all__ = ["VALUES"]

_Inputs = Sequence[Array | None]
_Value = Callable[[Node, Any], "Array | list[Array]"]


def _ints(array: Array) -> list[int]:
    return [int(value) for value in array.ravel()]


def _binary(function: Callable[[Array, Array], Any]) -> _Value:
    return lambda _, inputs: np.asarray(function(inputs[0], inputs[1]))


def _many(function: Callable[[Array, Array], Any]) -> _Value:
    def fold(_: Node, inputs: Sequence[Array]) -> Array:
        total = inputs[0]
        for array in inputs[1:]:
            total = function(total, array)
        return total

    return fold


def _unary(function: Callable[[Array], Any]) -> _Value:
    return lambda _, inputs: np.asarray(function(inputs[0]))


def _divide(_: Node, inputs: Sequence[Array]) -> Array:
    one, other = inputs
    if one.dtype.kind in "iu":  # ONNX rounds towards zero
        whole = np.abs(one) // np.abs(other)
        return np.asarray((whole * np.sign(one) * np.sign(other)).astype(one.dtype))
    return np.asarray(one / other)


def _modulo(node: Node, inputs: Sequence[Array]) -> Array:
    return np.asarray((np.fmod if node.attributes.get("fmod") else np.mod)(*inputs))


def _power(_: Node, inputs: Sequence[Array]) -> Array:
    return np.asarray(np.power(inputs[0], inputs[1])).astype(inputs[0].dtype)


def _cast(node: Node, inputs: Sequence[Array]) -> Array:
    return inputs[0].astype(DTYPES[node.attributes["to"]])


def _gather(node: Node, inputs: Sequence[Array]) -> Array:
    return np.asarray(np.take(inputs[0], inputs[1], axis=node.attributes.get("axis", 0)))


def _unsqueeze(_: Node, inputs: Sequence[Array]) -> Array:
    axes = _ints(inputs[1])
    rank = inputs[0].ndim + len(axes)
    return np.expand_dims(inputs[0], tuple(axis % rank for axis in axes))


def _squeeze(_: Node, inputs: _Inputs) -> Array:
    array = inputs[0]
    assert array is not None
    axes = inputs[1] if len(inputs) > 1 else None
    return np.squeeze(array, None if axes is None else tuple(_ints(axes)))


def _concat(node: Node, inputs: Sequence[Array]) -> Array:
    return np.concatenate(inputs, axis=node.attributes["axis"])


def _slice(_: Node, inputs: _Inputs) -> Array:
    array, starts, ends, axes, steps = [*inputs, None, None][:5]
    assert array is not None
    assert starts is not None
    assert ends is not None
    cut = [slice(None)] * array.ndim
    chosen = range(starts.size) if axes is None else _ints(axes)
    strides = [1] * starts.size if steps is None else _ints(steps)
    for start, end, axis, step in zip(_ints(starts), _ints(ends), chosen, strides, strict=True):
        cut[axis] = sliced(start, end, step)
    return array[tuple(cut)]


def _reshape(node: Node, inputs: Sequence[Array]) -> Array:
    array, wanted = inputs[0], _ints(inputs[1])
    if not node.attributes.get("allowzero"):
        wanted = [array.shape[axis] if length == 0 else length for axis, length in enumerate(wanted)]
    return array.reshape(wanted)


def _transpose(node: Node, inputs: Sequence[Array]) -> Array:
    return np.transpose(inputs[0], node.attributes.get("perm"))


def _flatten(node: Node, inputs: Sequence[Array]) -> Array:
    axis = node.attributes.get("axis", 1)
    shape = inputs[0].shape
    return inputs[0].reshape(int(np.prod(shape[:axis], dtype=np.int64)), -1 if inputs[0].size else 0)


def _expand(_: Node, inputs: Sequence[Array]) -> Array:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(_ints(inputs[1])))
    return np.broadcast_to(inputs[0], shape).copy()


def _dequantized(node: Node, inputs: _Inputs) -> Array:
    """Return whole numbers times their scale: one, or one for each slice of an axis or block along it."""
    array, scale, zero = [*inputs, None][:3]
    assert array is not None
    assert scale is not None
    axis = int(node.attributes.get("axis", 1))

    def spread(values: Array) -> Array:
        if values.size == 1 and values.ndim < 2:
            return values.reshape(())
        if values.ndim == 1 and array.ndim != 1:
            shape = [1] * array.ndim
            shape[axis] = -1
            return values.reshape(shape)
        block = int(node.attributes.get("block_size", 0))
        return (
            np.repeat(values, block, axis)[_up_to(array.shape[axis], axis, array.ndim)] if block else values
        )

    whole = array.astype(np.float64) - (0 if zero is None else spread(zero).astype(np.float64))
    kind = DTYPES.get(node.attributes.get("output_dtype", 0), scale.dtype)
    return np.asarray(whole * spread(scale)).astype(kind)


def _up_to(length: int, axis: int, rank: int) -> tuple[slice, ...]:
    """Return an index that cuts one axis at a length."""
    return tuple(slice(length) if number == axis % rank else slice(None) for number in range(rank))


def _constant_of_shape(node: Node, inputs: Sequence[Array]) -> Array:
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(tuple(_ints(inputs[0])), value.ravel()[0], value.dtype)


def _range(_: Node, inputs: Sequence[Array]) -> Array:
    start, limit, delta = (array.item() for array in inputs)
    count = max(int(np.ceil((limit - start) / delta)), 0)
    return np.asarray(start + delta * np.arange(count), inputs[0].dtype)


def _split(node: Node, inputs: _Inputs) -> list[Array]:
    array, axis = inputs[0], node.attributes.get("axis", 0)
    assert array is not None
    parts = inputs[1] if len(inputs) > 1 else None
    if parts is None:
        size = -(-array.shape[axis] // len(node.outputs))
        return np.split(array, [size * n for n in range(1, len(node.outputs))], axis)
    return np.split(array, [int(end) for end in np.cumsum(parts)[:-1]], axis)


def _reduction(function: Callable[..., Any]) -> _Value:
    def fold(node: Node, inputs: _Inputs) -> Array:
        array = inputs[0]
        assert array is not None
        axes = inputs[1] if len(inputs) > 1 else None
        if (axes is None or not axes.size) and node.attributes.get("noop_with_empty_axes"):
            return array
        chosen = None if axes is None or not axes.size else tuple(_ints(axes))
        keep = bool(node.attributes.get("keepdims", 1))
        return np.asarray(function(array, axis=chosen, keepdims=keep), dtype=array.dtype)

    return fold


VALUES: Final[Mapping[str, _Value]] = {
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _divide,
    "Mod": _modulo,
    "Pow": _power,
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Xor": _binary(np.logical_xor),
    "Equal": _binary(np.equal),
    "Greater": _binary(np.greater),
    "Less": _binary(np.less),
    "GreaterOrEqual": _binary(np.greater_equal),
    "LessOrEqual": _binary(np.less_equal),
    "Min": _many(np.minimum),
    "Max": _many(np.maximum),
    "Sum": _many(np.add),
    "Not": _unary(np.logical_not),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Reciprocal": _unary(np.reciprocal),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Round": _unary(np.round),
    "Identity": _unary(np.asarray),
    "Where": lambda _, inputs: np.asarray(np.where(inputs[0], inputs[1], inputs[2])),
    "Cast": _cast,
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": lambda _, inputs: np.tile(inputs[0], _ints(inputs[1])),
    "ConstantOfShape": _constant_of_shape,
    "DequantizeLinear": _dequantized,
    "Range": _range,
    "NonZero": lambda _, inputs: np.array(np.nonzero(inputs[0]), np.int64),
    "ReduceSum": _reduction(np.sum),
    "ReduceProd": _reduction(np.prod),
}
