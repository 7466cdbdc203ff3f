"""The arguments of `factor`, checked and converted."""

from __future__ import annotations

import math
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from .._base.numbers import as_real, as_whole, instead
from .._base.types import FloatArray
from .._base.words.messages import shown
from ..kernel.value import MAX_NDIM, SeparableKernel


def checked_weights(weights: npt.ArrayLike) -> FloatArray:
    """Return real finite weights of 1 to 8 axes as a private float64 array."""
    if isinstance(weights, SeparableKernel):
        raise TypeError("`weights` is a SeparableKernel; expected dense weights: pass kernel.dense().")
    if isinstance(weights, np.ma.MaskedArray):
        raise TypeError("`weights` is a masked array; expected a plain one: pass weights.filled(0).")
    array = np.asarray(weights)
    _check_dtype(array.dtype)
    if not 1 <= array.ndim <= MAX_NDIM:
        raise ValueError(f"`weights` has {array.ndim} dimensions; expected 1 to {MAX_NDIM}.")
    if array.size == 0:
        raise ValueError(f"`weights` of shape {array.shape} is empty; expected at least one element.")
    dense = array.astype(np.float64) + 0.0  # a private copy, without -0.0
    if not np.isfinite(dense).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(dense))[0])
        index = ", ".join(map(str, where))
        raise ValueError(f"`weights[{index}]` is {array[where]}; expected finite weights.")
    if array.dtype.kind in "iu" and max(int(array.max()), -int(array.min())) > 2**53:
        raise ValueError(
            "`weights` holds integers beyond 2**53, which float64 rounds; "
            "pass weights.astype(float) to accept that."
        )
    return dense


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind == "c":
        raise TypeError(
            f"`weights` has dtype {dtype}; expected real numbers: factor weights.real and weights.imag."
        )
    if dtype.kind not in "biuf":
        raise TypeError(f"`weights` has dtype {dtype}; expected real numbers.")
    if dtype.kind == "f" and dtype.itemsize > 8:
        raise TypeError(f"`weights` has dtype {dtype}; expected at most float64: pass weights.astype(float).")


def checked_tol(tol: float | str | None) -> float | None:
    """Return a tolerance as a finite number, or None."""
    if tol is None:
        return None
    value = as_real(tol)
    if value is None:
        raise TypeError(f"`tol` is {shown(tol)}; expected a number, 'noise' or None.")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"`tol` is {tol}; expected a finite number >= 0, such as 1e-6.")
    return value


def checked_effort(effort: float) -> float:
    """Return an effort as a number > 0, infinity included."""
    try:
        value = float(effort)
    except (TypeError, ValueError):
        raise TypeError(f"`effort` is {effort!r}; expected a number of multiplications.") from None
    if not value > 0.0:
        raise ValueError(f"`effort` is {effort}; expected a number of multiplications > 0, such as 1e10.")
    return value


def checked_rank(rank: SupportsIndex | None) -> int | None:
    """Return a number of terms as an int of at least 1, or None."""
    if rank is None:
        return None
    value = as_whole(rank)
    if value is None:
        raise TypeError(f"`rank` is {shown(rank)}; expected an integer or None{instead(rank)}.")
    if value < 1:
        raise ValueError(f"`rank` is {value}; expected at least 1.")
    return value
