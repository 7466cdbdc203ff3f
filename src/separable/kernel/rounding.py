"""What rounding taps and weights to float32 adds to the error of a kernel."""

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
FLUSHED: Final = 2.0**-150  # what a subnormal number is rounded by
_WRITTEN_OUT: Final = 1 << 14  # larger kernels have the bound of any weights
_SQUARED: Final = 60  # powers of two: products of eight norms of squares stay in the range of float64
_UP: Final = 1 + 2.0**-40  # for the rounding of these few sums themselves


class Lost(NamedTuple):
    """What rounding takes from an outer product at most, and its norms."""

    l1: float
    l2: float
    norm_l1: float
    norm_l2: float


def _lost(term: Sequence[Array], dtype: str = "float32") -> Lost:
    """Norms of an outer product are the products of those of its factors; float64 loses nothing."""
    # Shares that are lost: products of 1 + x, less 1. Norms without powers of two that might leave float64.
    share_l1, share_l2, norm_l1, norm_l2, power = 0.0, 0.0, 1.0, 1.0, 0
    for taps in term:
        # Rounded at the scale they run at: what lies below the smallest numbers of float32 is lost.
        scaled, lost = taps, taps - taps.astype(dtype)
        exponent = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        if abs(exponent) > _SQUARED:
            scaled, lost, power = np.ldexp(taps, -exponent), np.ldexp(lost, -exponent), power + exponent
        own_l1, own_l2 = float(np.abs(scaled).sum()), math.sqrt(float(np.square(scaled).sum()))
        if own_l1 == 0:
            return Lost(0.0, 0.0, 0.0, 0.0)
        share_l1 += float(np.abs(lost).sum()) / own_l1 * (1 + share_l1)
        share_l2 += math.sqrt(float(np.square(lost).sum())) / own_l2 * (1 + share_l2)
        norm_l1, norm_l2 = norm_l1 * own_l1, norm_l2 * own_l2
    norm_l1, norm_l2 = _scaled(norm_l1, power), _scaled(norm_l2, power)
    return Lost(share_l1 * norm_l1, share_l2 * norm_l2, norm_l1, norm_l2)


def _with(lost: Lost, moved: tuple[float, float]) -> Lost:
    """Add shares of the norms that taps were moved by."""
    return lost._replace(l1=lost.l1 + moved[0] * lost.norm_l1, l2=lost.l2 + moved[1] * lost.norm_l2)


def _scaled(value: float, power: int) -> float:
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, power))


def of_terms(kernel: SeparableKernel, error: ErrorBounds, dtype: str, axes: Sequence[int]) -> ErrorBounds:
    """Return the error of terms whose taps are rounded to `dtype`, as passes along `axes` have them."""
    placed_terms = placed([kernel.terms], axes).kernels[0]
    each = [_lost(term, dtype) for term in placed_terms]
    each = [_with(*pair) for pair in zip(each, (means.moved(t, dtype) for t in kernel.terms), strict=True)]
    lost = Lost(*(sum(values) for values in zip(*each, strict=True)))
    if kernel.rank == 1:
        return added(error, lost, lost.norm_l1, lost.norm_l2)
    written = _lost([kernel.dense()], dtype)
    return added(error, lost, written.norm_l1, written.norm_l2)


def of_weights(kernel: SeparableKernel, error: ErrorBounds) -> ErrorBounds:
    """Add what rounding does to the weights that a kernel is written out to."""
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
    """Return the error of weights that are rounded to float32."""
    lost = _lost([weights])
    return added(error, lost, lost.norm_l1, lost.norm_l2)


def moved(error: ErrorBounds, given: Array, weights: Array) -> ErrorBounds:
    """Return the error of `weights` that run in place of those `given`, whose own is `error`; float64."""
    off = weights - given
    l1, l2 = float(np.abs(off).sum()), math.sqrt(float(np.square(off).sum()))
    norms = float(np.abs(given).sum()), math.sqrt(float(np.square(given).sum()))
    return added(error, Lost(l1, l2, *norms), *norms)


def added(error: ErrorBounds, lost: Lost, norm_l1: float, norm_l2: float) -> ErrorBounds:
    """Add up; what is lost is relative to the kernel that runs, which is within `error` of the one meant."""
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
