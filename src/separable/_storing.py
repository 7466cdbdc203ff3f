"""How results are stored as whole numbers: rounded or truncated, saturated or wrapped around."""

from __future__ import annotations

import functools
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Rounding: TypeAlias = Literal["nearest", "truncate"]
Overflow: TypeAlias = Literal["saturate", "wrap"]

ROUNDINGS: Final = ("nearest", "truncate")
OVERFLOWS: Final = ("saturate", "wrap")

# Taps that should sum to 1 sum to 1 - 1e-8, and truncation would turn 100 into 99: unless the arithmetic was
# exact, values are raised first, by so many units in the last place for each pass and tap. Constant images
# through Gaussians of sigma 0.3 to 20 along one to three axes lack at most a third of that.
_SLACK_OF_A_PASS: Final = 3
_SLACK_OF_A_TAP: Final = 1 / 16


def raising(dtype: np.dtype[Any], passes: int, taps: int) -> float:
    """Return the factor before truncation of values that `passes` with `taps` in all made in `dtype`."""
    return 1 + (_SLACK_OF_A_PASS * passes + _SLACK_OF_A_TAP * taps) * float(np.finfo(dtype).eps)


class Storing(NamedTuple):
    """How a result becomes an element of the output; `rounding` and `overflow` concern integers and bool."""

    rounding: Rounding = "nearest"
    overflow: Overflow = "saturate"
    exact: bool = True  # the values carry no rounding error, and truncation takes them as they are
    divisor: float = 1.0  # values are divided by it first: a mean is a sum until then
    raised: float = 1.0  # factor before truncation of values that are not exact

    @property
    def slack(self) -> float:
        """The factor that values are multiplied by before truncation."""
        return 1.0 if self.exact else self.raised


AS_IS: Final = Storing()  # floats into floats, whole numbers to the nearest


@functools.lru_cache(maxsize=256)
def storing(rounding: Rounding, overflow: Overflow, exact: bool, divisor: float, raised: float) -> Storing:
    """Return the `Storing` of these; ValueError unless `rounding` and `overflow` are names."""
    check_names(rounding, overflow)
    return Storing(rounding, overflow, exact, divisor, raised)


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
    values : ndarray of float32, float64 or their complex counterparts
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
    if how.rounding == "truncate":
        values *= values.dtype.type(how.slack)
        np.trunc(values, out=values)
    else:
        np.rint(values, out=values)
    if how.overflow == "wrap":
        _wrap(values, output)
    else:
        _saturate(values, output)


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


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer dtype or bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
