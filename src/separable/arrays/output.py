"""How results are stored as whole numbers: rounded or truncated, saturated or wrapped around."""

from __future__ import annotations

import functools
import math
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from .._base.types import Array

Rounding: TypeAlias = Literal["nearest", "truncate"]
Overflow: TypeAlias = Literal["saturate", "wrap"]

ROUNDINGS: Final = ("nearest", "truncate")
OVERFLOWS: Final = ("saturate", "wrap")

# Maximum distance by which truncation snaps a value to the whole number within its rounding error; `kSnap` in
# the core.
_SNAP: Final = 0.25


class Bounds(NamedTuple):
    """The data from which bounds of the samples give bounds of a filter's exact results."""

    total: float  # the sum of the weights
    negative: float  # the sum of the magnitudes of the negative weights, or more
    outside: float | None = None  # the padding constant; None: padded with samples

    def of(self, low: float, high: float) -> tuple[float, float]:
        """Return the least and the largest result of samples from `low` to `high`.

        With positive weights that sum to P and negative ones to -N, it lies in
        ``[P low - N high, P high - N low]``: one point for a constant image, whatever rounding occurs.
        """
        if self.outside is not None:
            low, high = min(low, self.outside), max(high, self.outside)
        if not low <= high:  # there is no sample
            return -math.inf, math.inf
        spread = self.negative * (high - low) if self.negative else 0.0
        ends = self.total * low - spread, self.total * high + spread
        return -math.inf if math.isnan(ends[0]) else ends[0], math.inf if math.isnan(ends[1]) else ends[1]


class Storing(NamedTuple):
    """How results are stored in the output; all but `divisor` applies to integers and bool only."""

    rounding: Rounding = "nearest"
    overflow: Overflow = "saturate"
    exact: bool = True  # values have no rounding error: truncation does not snap them
    divisor: float = 1.0  # values are divided by it first: sums of a mean
    error: float = 0.0  # relative rounding error of values that are not exact
    bounds: Bounds | None = None  # give `low` and `high` once the samples are known
    low: float = -math.inf  # values are clipped to low..high
    high: float = math.inf
    absolute: float = 0.0  # absolute rounding error

    @property
    def snap(self) -> float:
        """The relative error within which truncation snaps values to whole numbers."""
        return 0.0 if self.exact else self.error

    def within(self, extent: tuple[float, float], source: np.dtype[Any], dtype: np.dtype[Any]) -> Storing:
        """Return the storing of samples within `extent`, of dtype `source`, into an output of `dtype`.

        Bounds within the range of `dtype` cannot wrap around: results are then saturated, also where the
        largest integer is not a float.
        """
        if self.bounds is None or dtype.kind not in "biu":
            return self
        low, high, overflow = self.limits(extent, source, dtype)
        return self._replace(bounds=None, low=low, high=high, overflow=overflow)

    def limits(
        self, extent: tuple[float, float], source: np.dtype[Any], dtype: np.dtype[Any]
    ) -> tuple[float, float, Overflow]:
        """Return the bounds to clip results to, and the overflow of those outside the range of `dtype`."""
        assert self.bounds is not None
        low, high = self.bounds.of(*extent)
        first, last = integer_range(dtype)
        inside = first <= low and (high <= last or (high <= extent[1] and _fits(source, dtype)))
        return low, high, "saturate" if inside else self.overflow


@functools.lru_cache(maxsize=256)
def _fits(source: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` holds all integers that `source` does."""
    return source.kind in "biu" and np.can_cast(source, dtype)


AS_IS: Final = Storing()  # floats unchanged, integers rounded to nearest


@functools.lru_cache(maxsize=256)
def storing(
    rounding: Rounding,
    overflow: Overflow,
    exact: bool = True,
    divisor: float = 1.0,
    error: float = 0.0,
    bounds: Bounds | None = None,
) -> Storing:
    """Return the `Storing` of these, cached; ValueError unless `rounding` and `overflow` are names."""
    check_names(rounding, overflow)
    return Storing(rounding, overflow, exact, divisor, error, bounds)


def check_names(rounding: str, overflow: str) -> None:
    """Raise ValueError unless `rounding` and `overflow` are names."""
    for name, value, names in (("rounding", rounding, ROUNDINGS), ("overflow", overflow, OVERFLOWS)):
        if value not in names:
            raise ValueError(f"`{name}={value!r}` is unknown; expected {' or '.join(map(repr, names))}.")


def store(values: Array, output: Array, how: Storing | None = None) -> None:
    """Write `values` into `output` of another dtype.

    Halves round to even, or fractions are truncated; values outside the integer's range saturate, or wrap
    modulo ``2**bits``; NaN becomes 0. bool saturates to the range 0 to 1, and wraps to whether the rounded
    value differs from 0. `values` is used as scratch memory.

    Parameters
    ----------
    values : ndarray of float32, float64, long double or their complex counterparts
    output : ndarray
    how : Storing, optional
        Rounded to the nearest and saturated by default.
    """
    how = how or Storing()
    if how.divisor != 1:
        values /= how.divisor
    if output.dtype.kind not in "biu":
        with np.errstate(over="ignore"):  # float16 ends at 65504
            np.copyto(output, values, casting="unsafe")
        return
    if how.low > -math.inf or how.high < math.inf:
        with np.errstate(over="ignore"):
            ends = values.dtype.type(how.low), values.dtype.type(how.high)
        np.clip(values, *ends, out=values)
    if how.rounding == "truncate":
        if how.snap or how.absolute:
            values += snapped(values, how.snap, how.absolute)
        np.trunc(values, out=values)
    else:
        np.rint(values, out=values)
    if how.overflow == "wrap":
        _wrap(values, output)
    else:
        _saturate(values, output)


def snapped(values: Array, error: float, absolute: float = 0.0) -> Array:
    """Return the signed bound of the rounding errors of `values`, to be added before truncation.

    It is `error` times the magnitude or, if larger, `absolute`; a quarter at most.
    """
    bound = np.minimum(np.maximum(np.abs(values) * values.dtype.type(error), absolute), _SNAP)
    signed: Array = np.copysign(bound.astype(values.dtype), values)
    return signed


def _saturate(values: Array, output: Array) -> None:
    np.nan_to_num(values, copy=False, nan=0.0)
    low, high = integer_range(output.dtype)
    top = values.dtype.type(high)
    if int(top) == high:
        np.copyto(output, np.clip(values, low, top, out=values), casting="unsafe")
        return
    # The largest integer lies between two floats (2**63 - 1 is not a float64), and casting the upper one
    # would wrap around: such elements are set afterwards.
    above = values >= top
    values[above] = 0
    np.copyto(output, np.maximum(values, low, out=values), casting="unsafe")
    output[above] = high


def _wrap(values: Array, output: Array) -> None:
    values[~np.isfinite(values)] = 0
    if output.dtype.kind == "b":
        np.not_equal(values, 0, out=output)
        return
    # The remainder nearest to 0 is exact, and its integer has the same low bits as the value.
    modulus = values.dtype.type(2.0 ** (8 * output.dtype.itemsize))
    values -= np.rint(values / modulus) * modulus
    values[values >= 2.0**63] = -(2.0**63)
    np.copyto(output, values.astype(np.int64), casting="unsafe")


@functools.lru_cache(maxsize=64)
def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer dtype or bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
