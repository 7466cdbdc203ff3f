"""Means: taps >= 0 that sum to 1, rounded so that samples of 1 give exactly 1.

Floating-point sums of products with taps >= 0 are monotone in the samples. So if samples of 1 give 1, results
of samples in [-1, 1] stay there, as do those within other powers of two: images in [0, 1] stay in [0, 1].
Taps rounded one by one may sum to 1 ULP more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .._base.caches import kept
from .._base.types import Array

# Tolerance of the sum of a mean, times the root of the number of taps: 8 roundings of float64.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

_HALVINGS: Final = 20  # bisections of a common factor of all taps
_TRIED: Final = 6  # taps, by size, of which all but the largest are changed by 1 ULP
_LARGEST_SUM: Final = 2.0**64  # maximum sum of the taps along an axis of a mean
_MOST_TAPS: Final = 1 << 16  # maximum taps: the rounding of longer sums exceeds the correction


def as_run(term: Sequence[Array], dtype: str) -> list[Array]:
    """Return the taps of a term that run in float32 or float64.

    Parameters
    ----------
    term : sequence of ndarray
        The taps along each axis.
    dtype : {"float32", "float64"}

    Returns
    -------
    list of ndarray
        float64. Taps >= 0 that sum to 1, or whose outer product does, rounded to `dtype` so that samples of 1
        give exactly 1 in the compiled core's order of additions; all others unchanged.
    """
    return [_mean(taps, dtype) if is_mean(taps) else taps for taps in shared_out(term)]


def shared_out(term: Sequence[Array]) -> Sequence[Array]:
    """Return a term; if its outer product is a mean, with taps along every axis that sum to 1."""
    sums = [float(taps.sum()) for taps in term]
    if all(_is_one(total, taps.size) for taps, total in zip(term, sums, strict=True)):
        return term
    ordinary = max(sums) < _LARGEST_SUM  # with taps of 1e200 and 1e-200 the product is inaccurate
    nowhere_negative = ordinary and all(float(taps.min()) >= 0 for taps in term)
    if not nowhere_negative or not _is_one(math.prod(sums), sum(taps.size for taps in term)):
        return term
    return [taps / total for taps, total in zip(term, sums, strict=True)]


def moved(term: Sequence[Array], dtype: str) -> tuple[float, float]:
    """Return bounds of the relative l1 and l2 distance between a term's rounded taps and those that run.

    For an outer product: the product of 1 + the relative distances of its factors, minus 1.
    """
    shared = shared_out(term)
    divided = any(one is not other for one, other in zip(shared, term, strict=True))
    share_l1 = share_l2 = 2 * _ROUNDING * len(term) if divided else 0.0
    for taps in shared:
        runs = _mean(taps, dtype) if is_mean(taps) else taps
        if runs is taps:
            continue
        lost = taps.astype(dtype).astype(np.float64) - runs
        own_l1 = float(np.abs(lost).sum()) / float(taps.sum())
        own_l2 = math.sqrt(float(np.square(lost).sum()) / float(np.square(taps).sum()))
        share_l1, share_l2 = own_l1 + share_l1 * (1 + own_l1), own_l2 + share_l2 * (1 + own_l2)
    return share_l1, share_l2


def is_mean(taps: Array) -> bool:
    """Return whether taps, or weights, are >= 0 and sum to 1."""
    return float(taps.min()) >= 0 and _is_one(float(taps.sum()), taps.size)


def _is_one(total: float, taps: int) -> bool:
    return abs(total - 1) <= _ROUNDING * math.sqrt(taps)


def _mean(taps: Array, dtype: str) -> Array:
    if taps.size > _MOST_TAPS or _sum_of_ones(taps.astype(dtype)) == 1:
        return taps
    return _changed(taps.tobytes(), dtype)


@kept
def _changed(data: bytes, dtype: str) -> Array:
    taps = np.frombuffer(data)
    rounded = taps.astype(dtype)
    total = _sum_of_ones(rounded)
    if dtype == "float32":  # a common factor, so that no tap changes by much relative to itself
        scaled = _scaled(taps, total < 1, rounded.dtype)
        rounded = min(rounded, scaled, key=lambda line: abs(_sum_of_ones(line) - 1))
    changed = (rounded if _sum_of_ones(rounded) == 1 else _with_largest(rounded)).astype(np.float64)
    changed.flags.writeable = False
    return changed


def _scaled(taps: Array, low: bool, dtype: np.dtype[Any]) -> Array:
    """Return taps times the factor nearest to 1 for which ones sum to 1; `low`: they sum to less now."""
    reach = taps.size * float(np.finfo(dtype).eps)
    near, far = 1.0, 1 + reach if low else 1 - reach
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        total = _sum_of_ones((taps * middle).astype(dtype))
        if total < 1 if low else total > 1:
            near = middle
        else:
            far = middle
    return (taps * far).astype(dtype)


def _sum_of_ones(taps: Array) -> float:
    """Return the result for samples of 1, in the dtype of `taps` and the core's order of additions.

    Symmetric taps are folded and added from the centre outwards, others one after the other; the larger sum
    of both directions is returned, because a convolution flips the taps.
    """
    if np.array_equal(taps, taps[::-1]):
        half = taps.size // 2
        pairs = 2 * taps[taps.size - half :]
        series = np.concatenate([taps[half : half + taps.size % 2], pairs])
        return float(np.add.accumulate(series)[-1])
    return max(float(np.add.accumulate(line)[-1]) for line in (taps, taps[::-1]))


def _with_largest(taps: Array) -> Array:
    """Return `taps` with the largest changed by ULPs, so that ones sum to 1.

    The sum follows it in steps of 1 ULP, or of 2 where it was half-way between; then the next smaller tap is
    changed as well.
    """
    trial = taps.copy()
    for places in _by_size(taps)[1:_TRIED]:
        for towards in (0.0, 1.0):
            fitted = _fitted(trial)
            if _sum_of_ones(fitted) == 1:
                return fitted
            trial = taps.copy()
            trial[places] = np.nextafter(trial[places], taps.dtype.type(towards))
    return _fitted(taps)


def _by_size(taps: Array) -> list[list[int]]:
    """Return the indices of taps, the largest first; those of symmetric taps in pairs."""
    n = taps.size
    if not np.array_equal(taps, taps[::-1]):
        return [[int(place)] for place in np.argsort(-taps, kind="stable")]
    return [sorted({n // 2 - 1 + n % 2 - j, n // 2 + j}) for j in range(n - n // 2)]


def _fitted(taps: Array) -> Array:
    """Return `taps` with the largest one raised, or lowered, until ones sum to 1 at most."""
    places = _by_size(taps)[0]
    move = 2 * abs(_sum_of_ones(taps) - 1) + 2 * float(np.finfo(taps.dtype).eps)
    changed = taps.copy()

    def holds(value: Any) -> bool:
        changed[places] = value
        return _sum_of_ones(changed) <= 1

    low, high = (taps.dtype.type(max(float(taps[places[0]]) + by, 0.0)) for by in (-move, move))
    while np.nextafter(low, high) < high:
        middle = taps.dtype.type((float(low) + float(high)) / 2)
        low, high = (middle, high) if holds(middle) else (low, middle)
    holds(low)
    return changed
