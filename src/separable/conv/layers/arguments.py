"""What :class:`FusedConv` is given, checked and brought to the form in which the core takes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._base.types import Array
from ...arrays.boundaries import PADDING_MODES, Line, continued, folded_back
from ..algebra.geometry import Padding
from ..algebra.terms import depthwise_first

__all__ = [
    "ACTIVATIONS",
    "Array",
    "CheckedWeights",
    "check_reach",
    "fold_padding",
    "one_of",
    "pad",
    "readable",
    "same_bits",
    "weights_of",
]


ACTIVATIONS: Final = (None, "relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh")  # codes in the core


class CheckedWeights(NamedTuple):
    """Read-only copies, as the core takes them."""

    depthwise: Array  # (kernels, taps)
    pointwise: Array  # (rows, columns)
    depthwise_bias: Array | None
    bias: Array | None


def one_of(value: Any, allowed: Sequence[Any], name: str) -> Any:
    """Return `value` if it is among those allowed."""
    if value not in allowed:
        raise ValueError(f"`{name}={value!r}` is unknown; expected one of {', '.join(map(repr, allowed))}.")
    return value


def weights_of(
    depthwise: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    biases: tuple[npt.ArrayLike | None, npt.ArrayLike | None],
    order: str,
    multiplier: int | None,
    dtype: npt.DTypeLike | None,
) -> tuple[CheckedWeights, tuple[int, ...], int | None]:
    """Check that the weights fit each other.

    Returns
    -------
    weights : CheckedWeights
    kernel : tuple of int
    multiplier : int or None
        None where the input's channels decide.
    """
    d, p = np.asarray(depthwise), np.asarray(pointwise)
    if not 3 <= d.ndim <= 5 or 0 in d.shape:
        raise ValueError(
            f"`depthwise` has shape {d.shape}; expected (C_in*T, 1, *k), for order 'pw-dw' (C_out, T, *k), "
            "with one to three spatial axes, none of them empty."
        )
    if p.ndim < 2 or 0 in p.shape or any(n != 1 for n in p.shape[2:]):
        raise ValueError(f"`pointwise` has shape {p.shape}; expected (rows, columns), then only ones.")
    working = _working(dtype, d, p)
    kernels, multiplier = _channels(d.shape, p.shape[:2], order, multiplier)
    outputs = d.shape[0]  # of the depthwise convolution: the multiplier is summed if it comes last
    weights = CheckedWeights(
        _owned(d.reshape(kernels, math.prod(d.shape[2:])), working),
        _owned(p.reshape(p.shape[:2]), working),
        _bias(biases[0], outputs, "depthwise_bias", working),
        _bias(biases[1], p.shape[0], "bias", working),
    )
    return weights, d.shape[2:], multiplier


def _working(dtype: npt.DTypeLike | None, d: Array, p: Array) -> np.dtype[Any]:
    for name, array in (("depthwise", d), ("pointwise", p)):
        if array.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` has dtype {array.dtype}; expected real numbers.")
    if dtype is None:
        wide = any(a.dtype.kind == "f" and a.dtype.itemsize > 4 for a in (d, p))
        return np.dtype(np.float64 if wide else np.float32)
    working = np.dtype(dtype)
    if working not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"`dtype={working.name}` is not supported; expected 'float32' or 'float64'.")
    return working


def _channels(
    depthwise: tuple[int, ...], pointwise: tuple[int, ...], order: str, multiplier: int | None
) -> tuple[int, int | None]:
    """Return the number of depthwise kernels, and the depth multiplier where it is known."""
    (first, inputs), (rows, columns) = depthwise[:2], pointwise
    if not depthwise_first(order):
        if rows != first * inputs or multiplier not in (None, inputs):
            raise ValueError(
                f"`pointwise` gives {rows} channels, but `depthwise` {depthwise} reads {first * inputs}; "
                f"order 'pw-dw' takes (C_out, T, *k) and (C_out*T, C_in) (depth_multiplier={multiplier})."
            )
        return rows, inputs
    if inputs != 1 or first != columns:
        raise ValueError(
            f"`depthwise` {depthwise} and `pointwise` {pointwise} do not fit; order 'dw-pw' takes "
            "(C_in*T, 1, *k) and (C_out, C_in*T)."
        )
    if multiplier is not None and (multiplier < 1 or first % multiplier):
        raise ValueError(f"`depth_multiplier={multiplier}` does not divide the {first} depthwise kernels.")
    return first, multiplier


def _owned(array: Array, dtype: np.dtype[Any]) -> Array:
    copy = np.array(array, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def _bias(bias: npt.ArrayLike | None, count: int, name: str, dtype: np.dtype[Any]) -> Array | None:
    if bias is None:
        return None
    given = np.asarray(bias)
    if given.shape != (count,) or given.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` is {given.dtype} {given.shape}; expected real numbers, shape ({count},).")
    return _owned(given, dtype)


def check_reach(mode: str, padding: Padding, sizes: Sequence[int]) -> None:
    """Refuse padding that torch refuses too: more samples than there are to copy."""
    for axis, (sides, n) in enumerate(zip(padding, sizes, strict=True)):
        most = {"reflect": n - 1, "circular": n, "replicate": max(sides) if n else 0}.get(mode)
        if most is not None and max(sides) > max(most, 0):
            raise ValueError(
                f"axis {axis} has {n} samples; padding_mode={mode!r} can pad at most {max(most, 0)}, "
                f"got {sides}."
            )


def readable(array: Array) -> bool:
    """Say whether the core takes the array as it is: native, aligned, channels next to each other."""
    item = array.itemsize
    return (
        array.dtype.isnative
        and array.flags.aligned
        and (array.shape[-1] == 1 or array.strides[-1] == item)
        and all(stride % item == 0 for stride in array.strides)
    )


def same_bits(mine: Array | None, yours: Array | None) -> bool:
    """Say whether two arrays hold the same numbers to the bit; `mine` is C-contiguous."""
    if mine is None or yours is None:
        return mine is yours
    if mine.dtype != yours.dtype or mine.size != yours.size:
        return False
    bits = f"u{mine.itemsize}"  # compared as integers: NaN equals itself, and -0 differs from 0
    return np.array_equal(mine.reshape(-1).view(bits), np.ascontiguousarray(yours).reshape(-1).view(bits))


def pad(x: Array, padding: Padding, mode: str) -> Array:
    """Return `x` ``(N, *spatial, C)`` with the samples that `padding_mode` puts around it."""
    for axis, sides in enumerate(padding, 1):
        x = continued(x, axis, *sides, PADDING_MODES[mode])
    return x


def fold_padding(grad: Array, padding: Padding, mode: str) -> Array:
    """Add the gradients of the samples that :func:`pad` made to those of the samples they copy."""
    for axis, (low, high) in enumerate(padding, 1):
        n = grad.shape[axis] - low - high
        grad, _ = folded_back(grad, axis, (-low, n + high), Line(n, 1, 0, PADDING_MODES[mode]))
    return np.ascontiguousarray(grad)
