"""Samples that are unknown: a mask, NaN to be left out, and whether a kernel's sums can be normalised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .kernel import SeparableKernel

Array: TypeAlias = npt.NDArray[Any]
Nan: TypeAlias = Literal["propagate", "omit"]
NANS: Final = ("propagate", "omit")


class Known(NamedTuple):
    """Which samples are known: all where `mask` is True (None: everywhere), but for NaN if `omit_nan`."""

    mask: Array | None
    omit_nan: bool

    def paired(self) -> Known:
        """Return the same for real and imaginary parts as a further axis of two."""
        if self.mask is None:
            return self
        return Known(np.broadcast_to(self.mask[..., None], (*self.mask.shape, 2)), self.omit_nan)

    def of(self, x: Array) -> Array:
        """Return a bool array of the shape of `x`."""
        mask = np.ones(x.shape, bool) if self.mask is None else self.mask
        return mask & ~np.isnan(x) if self.omit_nan else mask


def known_of(x: Array, mask: npt.ArrayLike | None, nan: str) -> Known | None:
    """Return what is known of `x`; None if nothing hides any of it.

    Raises
    ------
    ValueError
        `mask` cannot be broadcast to the shape of `x`; `nan` is no name.
    TypeError
        `mask` is not bool.
    """
    if nan not in NANS:
        raise ValueError(f"`nan={nan!r}` is unknown; expected 'propagate' or 'omit'.")
    omit = nan == "omit" and x.dtype.kind in "fc"
    full = None if mask is None else _mask(x, mask)
    if omit and x.dtype.kind == "c":  # unknown together where either part is NaN
        there = ~np.isnan(x)
        return Known(there if full is None else full & there, False)
    return None if full is None and not omit else Known(full, omit)


def _mask(x: Array, mask: npt.ArrayLike) -> Array:
    given = np.asarray(mask)
    if given.dtype != np.bool_:
        raise TypeError(
            f"`mask` has dtype {given.dtype}; expected bool, True where `x` is known (pass mask != 0, say)."
        )
    try:
        return np.broadcast_to(given, x.shape)
    except ValueError:
        raise ValueError(
            f"`mask` has shape {given.shape}, which does not broadcast to the shape {x.shape} of `x`."
        ) from None


def check_weights(kernel: SeparableKernel | Array) -> None:
    """Raise ValueError unless `kernel` has no negative weight, and a sum to normalise by."""
    if isinstance(kernel, SeparableKernel) and kernel.rank == 1:
        (term,) = kernel.terms
        low = math.prod(-1.0 if (taps <= 0).all() else 1.0 for taps in term)
        if any((taps > 0).any() and (taps < 0).any() for taps in term):
            low = -1.0
        total = math.prod(abs(float(taps.sum())) for taps in term)
    else:
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        total = float(dense.sum())
        # A sum of terms leaves rounding errors where the kernel is 0.
        low = float(dense.min()) + 8 * np.finfo(np.float64).eps * float(np.abs(dense).max())
    if low < 0 or total <= 0:
        what = "negative weights" if low < 0 else "no weight that is not 0"
        raise ValueError(
            "with `mask` or nan='omit' sums are divided by the weights of what is known, but this kernel has "
            f"{what}: derivatives cannot be normalised. "
            "Fill what is unknown, or smooth with weights >= 0 and differentiate the result."
        )


def normalise(values: Array, weights: Array, kernel: SeparableKernel | Array) -> Array:
    """Return `values` divided by what is known (`weights`) and times the sum of `kernel`.

    NaN where nothing is known; as they are where all is, to the last bit.
    """
    dense_sum = sum(math.prod(float(taps.sum()) for taps in term) for term in _terms(kernel))
    steps = sum(kernel.shape) + kernel.ndim
    off = np.abs(weights - weights.dtype.type(dense_sum))
    partly = off > steps * float(np.finfo(weights.dtype).eps) * abs(dense_sum)
    with np.errstate(invalid="ignore", divide="ignore"):
        values[partly] *= weights.dtype.type(dense_sum) / weights[partly]
    return values


def _terms(kernel: SeparableKernel | Array) -> Sequence[Sequence[Array]]:
    return kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
