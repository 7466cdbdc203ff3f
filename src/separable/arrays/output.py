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

# Truncation takes values for the whole number that their rounding error may keep them from, and never takes
# that error for more than this: below half a step. As `kSnap` in the core.
_SNAP: Final = 0.25


class Bounds(NamedTuple):
    """What the exact results of a filter lie within, as soon as it is known what the samples lie within."""

    total: float  # the sum of the weights
    negative: float  # the sum of the magnitudes of those below 0, or more
    outside: float | None = None  # what stands beyond the ends

    def of(self, low: float, high: float) -> tuple[float, float]:
        """Return the least and the largest result of samples from `low` to `high`.

        With weights of sums P and -N it lies in ``[P low - N high, P high - N low]``. Of samples that are all
        equal that is one point: a constant stays what it is, whatever is rounded on the way.
        """
        if self.outside is not None:
            low, high = min(low, self.outside), max(high, self.outside)
        if not low <= high:  # there is no sample
            return -math.inf, math.inf
        spread = self.negative * (high - low) if self.negative else 0.0
        ends = self.total * low - spread, self.total * high + spread
        return -math.inf if math.isnan(ends[0]) else ends[0], math.inf if math.isnan(ends[1]) else ends[1]


class Storing(NamedTuple):
    """How a result becomes an element of the output; all but `divisor` concerns integers and bool."""

    rounding: Rounding = "nearest"
    overflow: Overflow = "saturate"
    exact: bool = True  # the values carry no rounding error, and truncation takes them as they are
    divisor: float = 1.0  # values are divided by it first: a mean is a sum until then
    error: float = 0.0  # rounding error of values that are not exact, relative to them
    bounds: Bounds | None = None  # what the values are to be kept within, once the samples are known
    low: float = -math.inf  # what they are kept within
    high: float = math.inf
    absolute: float = 0.0  # rounding error that does not shrink with a value

    @property
    def snap(self) -> float:
        """The error that truncation makes up for, relative to a value."""
        return 0.0 if self.exact else self.error

    def within(self, extent: tuple[float, float], source: np.dtype[Any], dtype: np.dtype[Any]) -> Storing:
        """Return the same for samples of that extent, in an array of `source`, and an output of `dtype`.

        What lies within the range of the integers cannot wrap around, and saturated it does not even where
        the largest of them is no float: no more than the samples, it lies within.
        """
        if self.bounds is None or dtype.kind not in "biu":
            return self
        low, high, overflow = self.limits(extent, source, dtype)
        return self._replace(bounds=None, low=low, high=high, overflow=overflow)

    def limits(
        self, extent: tuple[float, float], source: np.dtype[Any], dtype: np.dtype[Any]
    ) -> tuple[float, float, Overflow]:
        """Return what `within` keeps results in, and what becomes of those outside the range of `dtype`."""
        assert self.bounds is not None
        low, high = self.bounds.of(*extent)
        first, last = integer_range(dtype)
        inside = first <= low and (high <= last or (high <= extent[1] and _fits(source, dtype)))
        return low, high, "saturate" if inside else self.overflow


@functools.lru_cache(maxsize=256)
def _fits(source: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` holds all integers that `source` does."""
    return source.kind in "biu" and np.can_cast(source, dtype)


AS_IS: Final = Storing()  # floats into floats, whole numbers to the nearest


@functools.lru_cache(maxsize=256)
def storing(
    rounding: Rounding,
    overflow: Overflow,
    exact: bool = True,
    divisor: float = 1.0,
    error: float = 0.0,
    bounds: Bounds | None = None,
) -> Storing:
    """Return the `Storing` of these; ValueError unless `rounding` and `overflow` are names."""
    check_names(rounding, overflow)
    return Storing(rounding, overflow, exact, divisor, error, bounds)


def check_names(rounding: str, overflow: str) -> None:
    """Raise ValueError unless `rounding` and `overflow` are names."""
    for name, value, names in (("rounding", rounding, ROUNDINGS), ("overflow", overflow, OVERFLOWS)):
        if value not in names:
            raise ValueError(f"`{name}={value!r}` is unknown; expected {' or '.join(map(repr, names))}.")


def store(values: Array, output: Array, how: Storing | None = None) -> None:
    """Write `values` into `output` of another dtype.

    Halves go to the even integer, or fractions are dropped; what lies outside the integer's range goes to
    its ends, or is taken modulo ``2**bits``; NaN becomes 0. bool is an integer with the range 0 to 1 when
    saturated, and whether the rounded value differs from 0 when wrapped. `values` is used as scratch.

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
    """Return what rounding errors may keep `values` from a whole number.

    They are at most `error` times the magnitude of a value, or `absolute` where that is more.
    """
    size = np.minimum(np.maximum(np.abs(values) * values.dtype.type(error), absolute), _SNAP)
    moved: Array = np.copysign(size.astype(values.dtype), values)
    return moved


def _saturate(values: Array, output: Array) -> None:
    np.nan_to_num(values, copy=False, nan=0.0)
    low, high = integer_range(output.dtype)
    top = values.dtype.type(high)
    if int(top) == high:
        np.copyto(output, np.clip(values, low, top, out=values), casting="unsafe")
        return
    # The largest integer lies between two floats (2**63 - 1 is no float64), and casting the upper
    # one would wrap around: those elements are put in by hand.
    above = values >= top
    values[above] = 0
    np.copyto(output, np.maximum(values, low, out=values), casting="unsafe")
    output[above] = high


def _wrap(values: Array, output: Array) -> None:
    values[~np.isfinite(values)] = 0
    if output.dtype.kind == "b":
        np.not_equal(values, 0, out=output)
        return
    # The remainder nearest to 0 is exact, and the integer below it has the same low bits.
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
