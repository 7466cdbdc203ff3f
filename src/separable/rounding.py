"""What it adds to a certified error that filters round a kernel to the dtype they compute in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .cascade import Cascade
from .kernel import KernelError, SeparableKernel
from .means import as_run as as_means_run
from .means import shared_out

Array: TypeAlias = npt.NDArray[Any]

_UNIT_ROUNDOFF: Final = 2.0**-24  # of float32
_DIVIDED: Final = 2.0**-48  # a mean's sum differs from 1 by less
_WRITTEN_OUT: Final = 1 << 14  # larger kernels have the bound of any weights
_UP: Final = 1 + 2.0**-40  # for the rounding of these few sums themselves


def as_run(method: str, kernel: object, error: KernelError, dtype: np.dtype[Any]) -> KernelError:
    """Return the error of a kernel once its taps or weights are rounded to the dtype it computes in.

    Parameters
    ----------
    method : str
        How it runs.
    kernel : SeparableKernel, ndarray, Cascade or another form
        As it runs. Running sums, cosines and transforms are prepared in float64: nothing is added for them.
    error : KernelError
        Of the kernel before rounding.
    dtype : dtype
        Computed in. float64 rounds nothing but the taps of means (`separable.means`).
    """
    name = "float32" if dtype.char in "fF" else "float64"
    if isinstance(kernel, SeparableKernel) and method == "separable":
        return _of_terms(kernel, error, name)
    if name == "float64":
        return error
    if isinstance(kernel, SeparableKernel):
        return _of_weights(kernel, error)
    if isinstance(kernel, np.ndarray):
        lost = _lost([kernel])
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    if isinstance(kernel, Cascade):
        return _of_cascade(kernel, error)
    return error


def moved(error: KernelError, given: Array, weights: Array) -> KernelError:
    """Return the error of `weights` that run in place of those `given`, whose own is `error`; float64."""
    off = weights - given
    l1, l2 = float(np.abs(off).sum()), math.sqrt(float(np.square(off).sum()))
    norms = float(np.abs(given).sum()), math.sqrt(float(np.square(given).sum()))
    return _added(error, _Lost(l1, l2, *norms), *norms)


class _Lost(NamedTuple):
    """What rounding takes from an outer product at most, and its norms."""

    l1: float
    l2: float
    norm_l1: float
    norm_l2: float


def _lost(term: Sequence[Array], dtype: str = "float32", running: Sequence[Array] | None = None) -> _Lost:
    """Norms of an outer product are the products of those of its factors; powers of two round nothing.

    `running` is the term with its taps as they run, before they are rounded to `dtype`; itself by default.
    """
    # Shares that are lost: products of 1 + x, less 1. Norms without the powers of two.
    share_l1, share_l2, norm_l1, norm_l2, power = 0.0, 0.0, 1.0, 1.0, 0
    for taps, kept in zip(term, term if running is None else running, strict=True):
        exponent = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        scaled = np.ldexp(taps, -exponent)
        lost = scaled - np.ldexp(kept, -exponent).astype(dtype)
        own_l1, own_l2 = float(np.abs(scaled).sum()), math.sqrt(float(np.square(scaled).sum()))
        if own_l1 == 0:
            return _Lost(0.0, 0.0, 0.0, 0.0)
        share_l1 += float(np.abs(lost).sum()) / own_l1 * (1 + share_l1)
        share_l2 += math.sqrt(float(np.square(lost).sum())) / own_l2 * (1 + share_l2)
        norm_l1, norm_l2, power = norm_l1 * own_l1, norm_l2 * own_l2, power + exponent
    norm_l1, norm_l2 = _scaled(norm_l1, power), _scaled(norm_l2, power)
    return _Lost(share_l1 * norm_l1, share_l2 * norm_l2, norm_l1, norm_l2)


def _scaled(value: float, power: int) -> float:
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, power))


def _of_terms(kernel: SeparableKernel, error: KernelError, dtype: str) -> KernelError:
    each = [_of_term(term, dtype) for term in kernel.terms]
    lost = _Lost(*(sum(values) for values in zip(*each, strict=True)))
    if kernel.rank == 1:
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    written = _lost([kernel.dense()])
    return _added(error, lost, written.norm_l1, written.norm_l2)


def _of_term(term: Sequence[Array], dtype: str) -> _Lost:
    given, running = shared_out(term), as_means_run(term, dtype)
    lost = _lost(given, dtype, running)
    if given is term or not lost.l1:
        return lost
    # Divisions round, and the quotients' product differs from that of the taps.
    more = len(term) * _DIVIDED
    return lost._replace(l1=lost.l1 + more * lost.norm_l1, l2=lost.l2 + more * lost.norm_l2)


def _of_weights(kernel: SeparableKernel, error: KernelError) -> KernelError:
    """Add what rounding does to the weights that a kernel is written out to."""
    if kernel.size <= _WRITTEN_OUT or kernel.rank > 1:
        lost = _lost([kernel.dense()])
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    norms = _lost(kernel.terms[0])
    lost = norms._replace(l1=_UNIT_ROUNDOFF * norms.norm_l1, l2=_UNIT_ROUNDOFF * norms.norm_l2)
    return _added(error, lost, norms.norm_l1, norms.norm_l2)


def _of_cascade(cascade: Cascade, error: KernelError) -> KernelError:
    # Both factors' rounding, of the norm of their convolution, which is at most the product of theirs.
    share = (1 + _UNIT_ROUNDOFF) ** (cascade.smooth.ndim + 1) - 1
    l1 = share * cascade.smooth.norm_l1 * float(np.abs(cascade.sparse).sum())
    # Relative to the kernel, as its own error is.
    norm = error.l1 / error.relative_l1 if error.relative_l1 else math.inf
    return _added(error, _Lost(l1, l1, norm, norm), norm, norm)


def _added(error: KernelError, lost: _Lost, norm_l1: float, norm_l2: float) -> KernelError:
    """Add up; what is lost is relative to the kernel that runs, which is within `error` of the one meant."""
    if lost.l1 == 0:
        return error
    share_l1 = lost.l1 / norm_l1 if norm_l1 else math.inf
    share_l2 = lost.l2 / norm_l2 if norm_l2 else math.inf
    return KernelError(
        l1=(error.l1 + lost.l1) * _UP,
        relative_l1=(error.relative_l1 + share_l1 * (1 + error.relative_l1)) * _UP,
        relative_l2=(error.relative_l2 + share_l2 * (1 + error.relative_l2)) * _UP,
        spectral=(error.spectral + lost.l1) * _UP,
    )
