"""Bounds of the error that rounding taps and weights to float32 adds to that of a kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from .._base.types import Array
from . import means
from .scale import placed
from .value import ErrorBounds, SeparableKernel

UNIT_ROUNDOFF: Final = 2.0**-24  # of float32
FLUSHED: Final = 2.0**-150  # maximum rounding error of a subnormal float32
_WRITTEN_OUT: Final = (
    1 << 14
)  # maximum weights whose rounding is computed exactly; larger kernels get a bound
_SQUARED: Final = (
    60  # maximum exponent of taps for which products of 8 norms of squares stay in float64's range
)
_UP: Final = 1 + 2.0**-40  # covers the rounding of the sums below


class Lost(NamedTuple):
    """Bounds of the l1 and l2 rounding error of an outer product, and its norms."""

    l1: float
    l2: float
    norm_l1: float
    norm_l2: float


def _lost(term: Sequence[Array], dtype: str = "float32") -> Lost:
    """Return the rounding error of a term: norms of an outer product are products of those of its factors."""
    # Relative errors: products of 1 + x, minus 1. Norms with their exponents apart, against overflow.
    share_l1, share_l2, norm_l1, norm_l2, power = 0.0, 0.0, 1.0, 1.0, 0
    for taps in term:
        # Rounded at the scale at which they run: taps below the smallest float32 are flushed.
        scaled, lost = taps, taps - taps.astype(dtype)
        exponent = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        if abs(exponent) > _SQUARED:
            scaled, lost, power = np.ldexp(taps, -exponent), np.ldexp(lost, -exponent), power + exponent
        factor_l1, factor_l2 = float(np.abs(scaled).sum()), math.sqrt(float(np.square(scaled).sum()))
        if factor_l1 == 0:
            return Lost(0.0, 0.0, 0.0, 0.0)
        share_l1 += float(np.abs(lost).sum()) / factor_l1 * (1 + share_l1)
        share_l2 += math.sqrt(float(np.square(lost).sum())) / factor_l2 * (1 + share_l2)
        norm_l1, norm_l2 = norm_l1 * factor_l1, norm_l2 * factor_l2
    norm_l1, norm_l2 = _scaled(norm_l1, power), _scaled(norm_l2, power)
    return Lost(share_l1 * norm_l1, share_l2 * norm_l2, norm_l1, norm_l2)


def _with(lost: Lost, moved: tuple[float, float]) -> Lost:
    """Return `lost` plus the relative distances `moved` by which taps of means are changed."""
    return lost._replace(l1=lost.l1 + moved[0] * lost.norm_l1, l2=lost.l2 + moved[1] * lost.norm_l2)


def _scaled(value: float, power: int) -> float:
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, power))


def of_terms(kernel: SeparableKernel, error: ErrorBounds, dtype: str, axes: Sequence[int]) -> ErrorBounds:
    """Return the error of terms with the taps of passes along `axes` rounded to `dtype`."""
    placed_terms = placed([kernel.terms], axes).kernels[0]
    losses = [_lost(term, dtype) for term in placed_terms]
    losses = [
        _with(*pair) for pair in zip(losses, (means.moved(t, dtype) for t in kernel.terms), strict=True)
    ]
    lost = Lost(*(sum(values) for values in zip(*losses, strict=True)))
    if kernel.rank == 1:
        return added(error, lost, lost.norm_l1, lost.norm_l2)
    written = _lost([kernel.dense()], dtype)
    return added(error, lost, written.norm_l1, written.norm_l2)


def of_weights(kernel: SeparableKernel, error: ErrorBounds) -> ErrorBounds:
    """Return `error` plus that of rounding the dense weights of a kernel to float32."""
    if kernel.size <= _WRITTEN_OUT or kernel.rank > 1:
        lost = _lost([kernel.dense()])
        return added(error, lost, lost.norm_l1, lost.norm_l2)
    norms = _lost(placed([kernel.terms], range(kernel.ndim)).kernels[0][0])
    flushed = FLUSHED * kernel.size
    lost = norms._replace(
        l1=UNIT_ROUNDOFF * norms.norm_l1 + flushed, l2=UNIT_ROUNDOFF * norms.norm_l2 + flushed
    )
    return added(error, lost, norms.norm_l1, norms.norm_l2)


def of_array(weights: Array, error: ErrorBounds) -> ErrorBounds:
    """Return `error` plus that of rounding dense weights to float32."""
    lost = _lost([weights])
    return added(error, lost, lost.norm_l1, lost.norm_l2)


def moved(error: ErrorBounds, given: Array, weights: Array) -> ErrorBounds:
    """Return the error of float64 `weights` that replace those `given`, which have `error`."""
    off = weights - given
    l1, l2 = float(np.abs(off).sum()), math.sqrt(float(np.square(off).sum()))
    norms = float(np.abs(given).sum()), math.sqrt(float(np.square(given).sum()))
    return added(error, Lost(l1, l2, *norms), *norms)


def added(error: ErrorBounds, lost: Lost, norm_l1: float, norm_l2: float) -> ErrorBounds:
    """Return `error` plus `lost`; the norms are those of the kernel that runs, not of the one given."""
    if lost.l1 == 0:
        return error
    share_l1 = lost.l1 / norm_l1 if norm_l1 else math.inf
    share_l2 = lost.l2 / norm_l2 if norm_l2 else math.inf
    return ErrorBounds(
        l1=(error.l1 + lost.l1) * _UP,
        relative_l1=(error.relative_l1 + share_l1 * (1 + error.relative_l1)) * _UP,
        relative_l2=(error.relative_l2 + share_l2 * (1 + error.relative_l2)) * _UP,
        spectral=(error.spectral + lost.l1) * _UP,
    )
