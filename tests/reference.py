"""The oracle of every filter test: dense, slow, obvious, in long double; and the one tolerance.

Nothing here is shared with the package but the values themselves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
SYNONYMS = {"grid-mirror": "reflect", "grid-constant": "constant", "grid-wrap": "wrap"}
OUTSIDE = -1  # in an index table: the sample is the constant


def correlate_dense(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
) -> Array:
    """out[i] = sum_k weights[k] * x[i + k - n//2 - origin], x continued as `mode` says.

    x and weights have the same number of dimensions. Summed in long double, returned as float64 or
    complex128.
    """
    x, weights = np.asarray(x), np.asarray(weights)
    modes = [mode] * x.ndim if isinstance(mode, str) else list(mode)
    origins = [origin] * x.ndim if isinstance(origin, int) else list(origin)
    assert x.ndim == weights.ndim == len(modes) == len(origins)
    shifts = [n // 2 + o for n, o in zip(weights.shape, origins, strict=True)]
    assert all(0 <= shift < n for shift, n in zip(shifts, weights.shape, strict=True))
    kind = np.clongdouble if np.iscomplexobj(x) or isinstance(cval, complex) else np.longdouble
    if 0 in x.shape:
        return np.zeros(x.shape, np.complex128 if kind is np.clongdouble else np.float64)
    tables = [
        [continued(i - shift, n, m) for i in range(n + taps - 1)]
        for n, taps, shift, m in zip(x.shape, weights.shape, shifts, modes, strict=True)
    ]
    padded = x.astype(kind)[np.ix_(*tables)]
    for axis, table in enumerate(tables):
        outside = np.flatnonzero(np.array(table) == OUTSIDE)
        padded[(slice(None),) * axis + (outside,)] = cval
    total = np.zeros(x.shape, kind)
    for k in itertools.product(*map(range, weights.shape)):
        window = tuple(slice(start, start + n) for start, n in zip(k, x.shape, strict=True))
        total += np.longdouble(weights[k]) * padded[window]
    return total.astype(np.complex128 if kind is np.clongdouble else np.float64)


def convolve_dense(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
) -> Array:
    """Correlation with the flipped kernel, origin negated, and moved by -1 along even axes: SciPy's."""
    weights = np.asarray(weights)
    origins = [origin] * weights.ndim if isinstance(origin, int) else list(origin)
    turned = [-o - (n % 2 == 0) for o, n in zip(origins, weights.shape, strict=True)]
    return correlate_dense(x, np.flip(weights), mode, cval, turned)


def continued(i: int, n: int, mode: str) -> int:
    """Return which of n samples stands at place i of the line that they continue to; OUTSIDE for none."""
    mode = SYNONYMS.get(mode, mode)
    if 0 <= i < n:
        return i
    if mode == "constant":
        return OUTSIDE
    if mode == "nearest":
        return 0 if i < 0 else n - 1
    if mode == "wrap":
        return i % n
    if mode == "reflect":
        there_and_back = [*range(n), *reversed(range(n))]
    elif mode == "mirror":
        there_and_back = [*range(n), *reversed(range(1, n - 1))]
    else:
        raise ValueError(mode)
    return there_and_back[i % len(there_and_back)]


def tolerance(dtype: npt.DTypeLike, kernel: Any, x: npt.ArrayLike, cval: complex = 0.0) -> float:
    """Bound the absolute error of a filter that computes in `dtype`, for any order of its additions.

    dtype : what the sums run in: float32, float64, or the complex dtypes of the same precision.
    kernel : dense weights, a SeparableKernel (its certified error counts too), or a sequence of terms.
    x : the input, for its largest magnitude; cval joins it.

    A term's partial sums are at most its l1 norm times max|x|. Each tap, product and addition rounds
    once (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); the final rounding of
    the result and of the oracle are counted with them.
    """
    unit = float(np.finfo(np.dtype(dtype)).eps) / 2
    largest = max(float(np.max(np.abs(x), initial=0.0)), abs(cval))
    terms = getattr(kernel, "terms", kernel)
    extra = kernel.error.l1 if hasattr(kernel, "error") else 0.0
    if isinstance(terms, np.ndarray):
        steps, norm = terms.size + 4, float(np.abs(terms).sum())
    else:
        steps = max(sum(len(taps) + 3 for taps in term) for term in terms) + len(terms) + 4
        norm = sum(math.prod(float(np.abs(taps).sum()) for taps in term) for term in terms)
    tiny = steps * float(np.finfo(np.dtype(dtype)).tiny)  # products that underflow
    return (steps * unit / (1 - steps * unit) * norm + extra) * largest + tiny


def dense_conv(
    x: npt.ArrayLike,
    weights: npt.ArrayLike,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[tuple[int, int]] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """y[n, o, p] = sum_ik weights[o, i, k] * x[n, g*I + i, p*stride + k*dilation - before], x zero outside.

    x (N, C_in, *spatial), weights (C_out, I = C_in/groups, *k), g the group of o; padding: samples on every
    side, or (before, after) for each axis. Summed and returned in float64.
    """
    x, weights = np.asarray(x, np.float64), np.asarray(weights, np.float64)
    ndim = weights.ndim - 2
    strides = [stride] * ndim if isinstance(stride, int) else list(stride)
    dilations = [dilation] * ndim if isinstance(dilation, int) else list(dilation)
    sides = [(padding, padding)] * ndim if isinstance(padding, int) else list(padding)
    assert x.ndim == weights.ndim
    assert len(strides) == len(dilations) == len(sides) == ndim
    assert x.shape[1] == groups * weights.shape[1]
    assert weights.shape[0] % groups == 0
    padded = np.pad(x, [(0, 0), (0, 0), *sides])
    kernel = weights.shape[2:]
    sizes = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(padded.shape[2:], kernel, strides, dilations, strict=True)
    ]
    y = np.zeros((x.shape[0], weights.shape[0], *sizes))
    per_group, inputs = weights.shape[0] // groups, weights.shape[1]
    for o in range(weights.shape[0]):
        first = o // per_group * inputs
        for i in range(inputs):
            for k in itertools.product(*map(range, kernel)):
                window = tuple(
                    slice(tap * d, tap * d + (n - 1) * s + 1, s)
                    for tap, d, n, s in zip(k, dilations, sizes, strides, strict=True)
                )
                y[:, o] += weights[(o, i, *k)] * padded[(slice(None), first + i, *window)]
    return y
