"""Unknown samples: masks, NaN to omit, and the normalisation of sums over known samples."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.foreign import read
from .._base.types import Array
from ..kernel.value import SeparableKernel
from .output import snapped

Nan: TypeAlias = Literal["propagate", "omit"]
NANS: Final = ("propagate", "omit")

# Share of known weights below which the division may magnify underflow; the same in the core.
FEW: Final = 2.0**-10


class Known(NamedTuple):
    """Which samples are known: where `mask` is True (None: all), except NaN if `omit_nan`."""

    mask: Array | None
    omit_nan: bool
    outside: bool = True  # the padding constant is known

    def paired(self) -> Known:
        """Return the mask with an additional last axis for real and imaginary parts."""
        if self.mask is None:
            return self
        return self._replace(mask=np.broadcast_to(self.mask[..., None], (*self.mask.shape, 2)))

    def of(self, x: Array) -> Array:
        """Return where `x` is known, a bool array of its shape."""
        mask = np.ones(x.shape, bool) if self.mask is None else self.mask
        return mask & ~np.isnan(x) if self.omit_nan else mask


def known_of(x: Array, mask: npt.ArrayLike | None, nan: str, cval: complex | None = None) -> Known | None:
    """Return which samples of `x` are known; None if neither a mask nor NaN hides any.

    Parameters
    ----------
    x : ndarray
    mask : array_like of bool or None
    nan : {"propagate", "omit"}
    cval : complex, optional
        The padding constant, if a mode pads with one; NaN there is omitted as well.

    Raises
    ------
    ValueError
        `mask` cannot be broadcast to the shape of `x`; `nan` is no name.
    TypeError
        `mask` is not bool.
    """
    check_nan(nan)
    outside = cval is None or nan != "omit" or cval == cval
    omit = nan == "omit" and x.dtype.kind in "fc"
    full = None if mask is None else _mask(x, mask)
    if omit and x.dtype.kind == "c":  # unknown where either part is NaN
        numbers = ~np.isnan(x)
        return Known(numbers if full is None else full & numbers, False, outside)
    return None if full is None and not omit and outside else Known(full, omit, outside)


def _mask(x: Array, mask: npt.ArrayLike) -> Array:
    known = read("mask", mask)
    check_mask(known.dtype, known.shape, x.shape)
    return np.broadcast_to(known, x.shape)


def check_mask(dtype: np.dtype[Any], shape: tuple[int, ...], of: tuple[int, ...]) -> None:
    """Raise TypeError unless a mask is of bool, ValueError unless its shape broadcasts to that of `x`."""
    if dtype != np.bool_:
        raise TypeError(
            f"`mask` has dtype {dtype}; expected bool, True where `x` is known (pass mask != 0, say)."
        )
    fits = len(shape) <= len(of) and all(
        n in (1, wanted) for n, wanted in zip(reversed(shape), reversed(of), strict=False)
    )
    if not fits:
        raise ValueError(f"`mask` has shape {shape}, which does not broadcast to the shape {of} of `x`.")


def check_nan(nan: str) -> None:
    """Raise ValueError unless `nan` is a name."""
    if nan not in NANS:
        raise ValueError(f"`nan={nan!r}` is unknown; expected 'propagate' or 'omit'.")


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
        # A sum of terms has rounding errors where the kernel is 0.
        low = float(dense.min()) + 8 * np.finfo(np.float64).eps * float(np.abs(dense).max())
    if low < 0 or total <= 0:
        what = "negative weights" if low < 0 else "no weight that is not 0"
        raise ValueError(
            "with `mask` or nan='omit' sums are divided by the weights of what is known, but this kernel has "
            f"{what}: derivatives cannot be normalised. "
            "Fill what is unknown, or smooth with weights >= 0 and differentiate the result."
        )


class MaskedSums(NamedTuple):
    """Filtered samples (0 where unknown), and the sums of weights over known and over unknown samples."""

    values: Array
    known: Array
    hidden: Array

    def normalised(self, total: float, snap: float = 0.0) -> Array:
        """Return `values` divided by the known weights and multiplied by the sum of all weights, `total`.

        NaN where no sample is known; unchanged to the last bit where all are, that is where `hidden` is 0.
        The others are snapped (`output.snapped`) by the relative error `snap`.
        """
        result = self.values.copy()
        partly = self.hidden != 0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            quotients = result[partly] * (total / self.known[partly])
            if snap:
                quotients += snapped(quotients, snap)
        result[partly] = quotients
        return result

    def weak(self, total: float, least: float, small: float) -> Array:
        """Return where results may have lost bits to underflow, by the core's rule (`Norm` in casts.h)."""
        few_known = (self.known > 0) & (self.known < total * FEW) & (np.abs(self.values) < small)
        underflowed: Array = (self.hidden != 0) & ((self.known < least) | few_known)
        return underflowed


def smallest(x: Array, known: Array, cval: complex) -> float:
    """Return the smallest nonzero magnitude of known samples and `cval`; infinity if there is none."""
    size = np.abs(x.astype(np.float64) if x.dtype.kind in "biu" else x)
    least = float(size.min(where=known & (size > 0), initial=np.inf))
    return min(least, abs(cval)) if abs(cval) > 0 else least
