"""What it adds to a certified error that filters round a kernel to the dtype they compute in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .cascade import Cascade
from .kernel import KernelError, SeparableKernel

Array: TypeAlias = npt.NDArray[Any]

_UNIT_ROUNDOFF: Final = 2.0**-24  # of float32
_WRITTEN_OUT: Final = 1 << 14  # larger kernels have the bound of any weights
_UP: Final = 1 + 2.0**-40  # for the rounding of these few sums themselves


def as_run(method: str, kernel: object, error: KernelError, dtype: np.dtype[Any]) -> KernelError:
    """Return the error of a kernel once its taps or weights are rounded to float32.

    Parameters
    ----------
    method : str
        How it runs.
    kernel : SeparableKernel, ndarray, Cascade or another form
        As it runs. Running sums, cosines and transforms are prepared in float64: nothing is added for them.
    error : KernelError
        Of the kernel before rounding.
    dtype : dtype
        Computed in. float64 rounds nothing.
    """
    if dtype.char not in "fF":
        return error
    if isinstance(kernel, SeparableKernel) and method == "direct":
        return _of_weights(kernel, error)
    if isinstance(kernel, SeparableKernel):
        return _of_taps(kernel.terms[0], error) if kernel.rank == 1 else kernel.rounded("float32").error
    if isinstance(kernel, np.ndarray):
        return _of_taps([kernel], error)
    if isinstance(kernel, Cascade):
        return _of_cascade(kernel, error)
    return error


def _of_taps(term: Sequence[Array], error: KernelError) -> KernelError:
    """Add what rounding does to one outer product: its norms are the products of those of the factors."""
    l1, relative_l1, relative_l2 = 1.0, 0.0, 0.0  # the latter two: products of 1 + x, less 1
    for taps in term:
        scale = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        scaled = np.ldexp(taps, -scale)
        lost = scaled - scaled.astype(np.float32)
        own, squares = float(np.abs(scaled).sum()), math.sqrt(float(np.square(scaled).sum()))
        if own == 0:
            return error
        share = float(np.abs(lost).sum()) / own
        relative_l1 += share * (1 + relative_l1)
        share = math.sqrt(float(np.square(lost).sum())) / squares
        relative_l2 += share * (1 + relative_l2)
        l1 *= math.ldexp(own, scale)
    return _added(error, relative_l1 * l1, relative_l1, relative_l2) if relative_l1 else error


def _of_weights(kernel: SeparableKernel, error: KernelError) -> KernelError:
    """Add what rounding does to the weights that a kernel is written out to."""
    if kernel.size <= _WRITTEN_OUT:
        return _of_taps([kernel.dense()], error)
    return _added(error, _UNIT_ROUNDOFF * kernel.norm_l1, _UNIT_ROUNDOFF, _UNIT_ROUNDOFF)


def _of_cascade(cascade: Cascade, error: KernelError) -> KernelError:
    # Both factors' rounding, of the norm of their convolution, which is at most the product of theirs.
    share = (1 + _UNIT_ROUNDOFF) ** (cascade.smooth.ndim + 1) - 1
    l1 = share * cascade.smooth.norm_l1 * float(np.abs(cascade.sparse).sum())
    # Relative to the kernel, as its own error is.
    norm = error.l1 / error.relative_l1 if error.relative_l1 else math.inf
    return _added(error, l1, l1 / norm, l1 / norm)


def _added(error: KernelError, l1: float, relative_l1: float, relative_l2: float) -> KernelError:
    # What is lost is relative to the kernel that runs, which is within `error` of the one it stands for.
    return KernelError(
        l1=(error.l1 + l1) * _UP,
        relative_l1=(error.relative_l1 + relative_l1 * (1 + error.relative_l1)) * _UP,
        relative_l2=(error.relative_l2 + relative_l2 * (1 + error.relative_l2)) * _UP,
        spectral=(error.spectral + l1) * _UP,
    )
