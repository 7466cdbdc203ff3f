"""Samples that are unknown: a mask, NaN to be left out, and whether a kernel's sums can be normalised."""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.types import Array
from ..kernel.value import SeparableKernel
from .output import snapped

Nan: TypeAlias = Literal["propagate", "omit"]
NANS: Final = ("propagate", "omit")

# Of all weights: where more is known, rounding to the smallest numbers is magnified less. As in the core.
FEW: Final = 2.0**-10


class Known(NamedTuple):
    """Which samples are known: all where `mask` is True (None: everywhere), but for NaN if `omit_nan`."""

    mask: Array | None
    omit_nan: bool
    outside: bool = True  # so is the constant beyond the ends

    def paired(self) -> Known:
        """Return the same for real and imaginary parts as a further axis of two."""
        if self.mask is None:
            return self
        return self._replace(mask=np.broadcast_to(self.mask[..., None], (*self.mask.shape, 2)))

    def of(self, x: Array) -> Array:
        """Return a bool array of the shape of `x`."""
        mask = np.ones(x.shape, bool) if self.mask is None else self.mask
        return mask & ~np.isnan(x) if self.omit_nan else mask


def known_of(x: Array, mask: npt.ArrayLike | None, nan: str, cval: complex | None = None) -> Known | None:
    """Return what is known of `x`; None if nothing hides any of it.

    Parameters
    ----------
    x : ndarray
    mask : array_like of bool or None
    nan : {"propagate", "omit"}
    cval : complex, optional
        What stands beyond the ends, if it is not samples that do: NaN is left out as well.

    Raises
    ------
    ValueError
        `mask` cannot be broadcast to the shape of `x`; `nan` is no name.
    TypeError
        `mask` is not bool.
    """
    if nan not in NANS:
        raise ValueError(f"`nan={nan!r}` is unknown; expected 'propagate' or 'omit'.")
    outside = cval is None or nan != "omit" or cval == cval
    omit = nan == "omit" and x.dtype.kind in "fc"
    full = None if mask is None else _mask(x, mask)
    if omit and x.dtype.kind == "c":  # unknown together where either part is NaN
        there = ~np.isnan(x)
        return Known(there if full is None else full & there, False, outside)
    return None if full is None and not omit and outside else Known(full, omit, outside)


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


class MaskedSums(NamedTuple):
    """What filters make of samples with 0 for the unknown ones, of 1 for the known, of 1 for the others."""

    values: Array
    known: Array
    hidden: Array

    def normalised(self, total: float, snap: float = 0.0) -> Array:
        """Return `values` divided by what is known and times the sum of the weights, `total`.

        NaN where nothing is known; as they are where all is, to the last bit: a sum of what is unknown is 0
        there and nowhere else. Others are snapped as `_storing.snapped` says.
        """
        result = self.values.copy()
        partly = self.hidden != 0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            some = result[partly] * (total / self.known[partly])
            if snap:
                some += snapped(some, snap)
        result[partly] = some
        return result

    def weak(self, total: float, least: float, small: float) -> Array:
        """Return where something may be lost to underflow, as the core tells it (`Norm` in casts.h)."""
        few = (self.known > 0) & (self.known < total * FEW) & (np.abs(self.values) < small)
        found: Array = (self.hidden != 0) & ((self.known < least) | few)
        return found


def smallest(x: Array, there: Array, cval: complex) -> float:
    """Return the smallest magnitude but 0 of samples that are there, and of `cval`; infinity without any."""
    size = np.abs(x.astype(np.float64) if x.dtype.kind in "biu" else x)
    least = float(size.min(where=there & (size > 0), initial=np.inf))
    return min(least, abs(cval)) if abs(cval) > 0 else least
