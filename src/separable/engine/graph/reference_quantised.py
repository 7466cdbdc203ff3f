"""What operations on 8-bit numbers mean, in NumPy: sums of products are whole, all else is float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from .ir import Node
from .reference_windows import WINDOWS

__all__ = ["QUANTISED"]

_Activation = Callable[[Array, Mapping[str, Any]], Array]


def _real(levels: Array, scale: Array, zero: Array | None, axis: int | None = None) -> Array:
    """Return the numbers that levels stand for: whole ones without a scale."""

    def spread(values: Array) -> Array:
        if axis is None or values.size == 1:
            return values.reshape(())
        shape = [1] * levels.ndim
        shape[axis] = -1
        return values.reshape(shape)

    less = levels.astype(np.float64) - (0 if zero is None else spread(zero).astype(np.float64))
    return np.asarray(less * spread(scale.astype(np.float64)))


def _levels(y: Array, scale: Array, zero: Array) -> Array:
    info = np.iinfo(zero.dtype)
    return np.asarray(np.clip(np.round(y / float(scale)) + int(zero), info.min, info.max).astype(zero.dtype))


def _ended(sums: Array, node: Node, inputs: Sequence[Any], axis: int, activated: _Activation) -> list[Array]:
    """Return what becomes of sums: scales, a shift, a residual, an activation, levels."""
    _, x_scale, _, _, w_scale, _, y_scale, y_zero, bias, shift, added, a_scale, a_zero = inputs
    shape = [1] * sums.ndim
    shape[axis] = -1

    def spread(values: Array) -> Array:
        return values.astype(np.float64).reshape(shape if values.size > 1 else ())

    y = (sums + (0 if bias is None else spread(bias))) * float(x_scale) * spread(w_scale)
    y = y + (0 if shift is None else spread(shift))
    y = y if added is None else y + _real(added, a_scale, a_zero)
    y = activated(np.asarray(y), node.attributes)
    return [y.astype(np.float32) if y_scale is None else _levels(y, y_scale, y_zero)]


def _padded(inputs: Sequence[Any]) -> list[Any]:
    return [*inputs, *(None for _ in range(13))][:13]


def _conv(node: Node, inputs: Sequence[Any], activated: _Activation) -> list[Array]:
    given = _padded(inputs)
    one = np.ones(())
    x, w = _real(given[0], one, given[2]), _real(given[3], one, given[5], 0)
    return _ended(WINDOWS["Conv"](node, (x, w, None))[0], node, given, 1, activated)


def _matmul(node: Node, inputs: Sequence[Any], activated: _Activation) -> list[Array]:
    given = _padded(inputs)
    one = np.ones(())
    a, b = _real(given[0], one, given[2]), _real(given[3], one, given[5], -1)
    return _ended(np.asarray(a @ b), node, given, -1, activated)


def _add(node: Node, inputs: Sequence[Any], activated: _Activation) -> list[Array]:
    del node, activated
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    return [_levels(_real(a, a_scale, a_zero) + _real(b, b_scale, b_zero), y_scale, y_zero)]


QUANTISED: Final[Mapping[str, Callable[[Node, Sequence[Any], _Activation], list[Array]]]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QLinearAdd": _add,
}
