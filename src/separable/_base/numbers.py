"""Numbers as arguments: what counts as a whole number and what as a real one, decided by type alone.

Whole numbers are ints, NumPy's integers and arrays of them without axes; real numbers are those, floats, and
whatever else Python turns into a float. Neither are bool, complex numbers (3 + 0j, say), text, and arrays
with axes. A float that is whole is no whole number: 3.0 == 3, but whether it is accepted may not depend on
whether an equal number was seen before.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from .words.messages import shown

_T = TypeVar("_T")


def as_whole(value: Any) -> int | None:
    """Return a whole number as an int; None for all else."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def as_real(value: Any) -> float | None:
    """Return a real number as a float; None for all else."""
    if type(value) is float:
        return value
    if isinstance(value, (bool, complex, str, bytes, bytearray, np.ma.MaskedArray)):
        return None
    dtype = getattr(value, "dtype", None)
    if getattr(value, "shape", ()) != () or (isinstance(dtype, np.dtype) and dtype.kind not in "iuf"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    except OverflowError:  # an int beyond float64: as too large as anything
        return math.inf if value > 0 else -math.inf


def as_number(value: Any) -> complex | None:
    """Return a real number as a float, a complex one as a complex; None for all else."""
    real = as_real(value)
    if real is not None:
        return real
    dtype = getattr(value, "dtype", None)
    if isinstance(value, complex) or (
        isinstance(dtype, np.dtype) and dtype.kind == "c" and getattr(value, "shape", ()) == ()
    ):
        return complex(value)
    return None


def entries(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a sequence; None for what is one value, text and arrays without axes included."""
    if isinstance(value, (str, bytes)) or not np.iterable(value):
        return None
    return tuple(value)


def each_of(values: Sequence[Any], one: Callable[[Any], _T | None]) -> tuple[_T, ...] | None:
    """Return what `one` makes of every value; None where that is None for one of them."""
    converted = tuple(map(one, values))
    return None if any(item is None for item in converted) else converted  # type: ignore[return-value]


def instead(value: Any) -> str:
    """Return the fix for a float where a whole number is expected: ``"; pass 3"``, or nothing."""
    real = as_real(value)
    if real is None and (given := entries(value)):
        reals = each_of(given, as_real)
        if reals and all(number.is_integer() for number in reals):
            return f"; pass {shown(tuple(map(int, reals)))}"
        return ""
    return f"; pass {int(real)}" if real is not None and real.is_integer() else ""
