"""Taps of means as they run: rounded so that samples of 1 give exactly 1.

Floating-point sums of products with taps >= 0 never fall where a sample rises. So if samples of 1 give 1, no
result of samples up to 1 is above 1 and none of samples down to -1 is below -1, nor between other powers of
two: images in [0, 1] stay there. Rounded one by one, taps that sum to 1 may give a unit in the last place
more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .._base.caches import kept
from .._base.types import Array

# Taps count as those of a mean within the rounding of what made them.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

_HALVINGS: Final = 20  # of the range of a factor for all taps
_TRIED: Final = 6  # taps that are changed by a unit beside the largest one
_LARGEST_SUM: Final = 2.0**64
_MOST_TAPS: Final = 1 << 16  # longer sums round by so much that no unit in the last place matters


def as_run(term: Sequence[Array], dtype: str) -> list[Array]:
    """Return the taps of a term as they run in float32 or float64.

    Parameters
    ----------
    term : sequence of ndarray
        The taps along each axis.
    dtype : {"float32", "float64"}

    Returns
    -------
    list of ndarray
        float64. Taps >= 0 that sum to 1, or whose outer product does, rounded to `dtype` so that in the
        order in which the compiled core adds them samples of 1 give exactly 1; all others as they are.
    """
    return [_mean(taps, dtype) if is_mean(taps) else taps for taps in shared_out(term)]


def shared_out(term: Sequence[Array]) -> Sequence[Array]:
    """Return a term, in which the taps along every axis sum to 1 if those of a mean do together."""
    sums = [float(taps.sum()) for taps in term]
    if all(_is_one(total, taps.size) for taps, total in zip(term, sums, strict=True)):
        return term
    ordinary = max(sums) < _LARGEST_SUM  # taps of 1e200 along one axis and 1e-200 along another are no mean
    nowhere_negative = ordinary and all(float(taps.min()) >= 0 for taps in term)
    if not nowhere_negative or not _is_one(math.prod(sums), sum(taps.size for taps in term)):
        return term
    return [taps / total for taps, total in zip(term, sums, strict=True)]


def moved(term: Sequence[Array], dtype: str) -> tuple[float, float]:
    """Return by what shares of its l1 and l2 norm a term differs from its rounded taps as it runs.

    Of an outer product at most: the product of 1 + the shares of its taps, less 1.
    """
    shared = shared_out(term)
    divided = any(one is not other for one, other in zip(shared, term, strict=True))
    share_l1 = share_l2 = 2 * _ROUNDING * len(term) if divided else 0.0
    for own in shared:
        run = _mean(own, dtype) if is_mean(own) else own
        if run is own:
            continue
        lost = own.astype(dtype).astype(np.float64) - run
        own_l1 = float(np.abs(lost).sum()) / float(own.sum())
        own_l2 = math.sqrt(float(np.square(lost).sum()) / float(np.square(own).sum()))
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
    if dtype == "float32":  # all alike, so that none changes by much of itself
        scaled = _scaled(taps, total < 1, rounded.dtype)
        rounded = min(rounded, scaled, key=lambda line: abs(_sum_of_ones(line) - 1))
    changed = (rounded if _sum_of_ones(rounded) == 1 else _with_largest(rounded)).astype(np.float64)
    changed.flags.writeable = False
    return changed


def _scaled(taps: Array, low: bool, dtype: np.dtype[Any]) -> Array:
    """Return taps times the factor nearest to 1 with which ones give 1: they give too little, or too much."""
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
    """Return what samples of 1 give, in the dtype of `taps` and in the core's order.

    Taps that are equal about the middle are added from there on in pairs; others one after the other, and
    here from either end, because a convolution flips them: the larger sum counts.
    """
    if np.array_equal(taps, taps[::-1]):
        half = taps.size // 2
        pairs = 2 * taps[taps.size - half :]
        series = np.concatenate([taps[half : half + taps.size % 2], pairs])
        return float(np.add.accumulate(series)[-1])
    return max(float(np.add.accumulate(line)[-1]) for line in (taps, taps[::-1]))


def _with_largest(taps: Array) -> Array:
    """Return `taps` with the largest changed by units in the last place, so that ones sum to 1.

    The sum rises by units in the last place with it, but for two at once where it was half-way between; then
    the next smaller tap is changed as well.
    """
    own = taps.copy()
    for places in _by_size(taps)[1:_TRIED]:
        for towards in (0.0, 1.0):
            found = _fitted(own)
            if _sum_of_ones(found) == 1:
                return found
            own = taps.copy()
            own[places] = np.nextafter(own[places], taps.dtype.type(towards))
    return _fitted(taps)


def _by_size(taps: Array) -> list[list[int]]:
    """Return the places of taps, the largest first; those of a symmetric kernel in pairs."""
    n = taps.size
    if not np.array_equal(taps, taps[::-1]):
        return [[int(place)] for place in np.argsort(-taps, kind="stable")]
    return [sorted({n // 2 - 1 + n % 2 - j, n // 2 + j}) for j in range(n - n // 2)]


def _fitted(taps: Array) -> Array:
    """Return `taps` with the most at the largest that leaves the sum of ones at 1 or below."""
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
