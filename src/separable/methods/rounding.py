"""Kernels in float32: which are in its range, how taps are placed there, and what rounding them adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..kernel import means
from ..kernel.passes import with_scale
from ..kernel.value import ErrorBounds, SeparableKernel, Term
from .cascade import Cascade

Array: TypeAlias = npt.NDArray[Any]

_UNIT_ROUNDOFF: Final = 2.0**-24  # of float32
_FLUSHED: Final = 2.0**-150  # what a subnormal number is rounded by
_WRITTEN_OUT: Final = 1 << 14  # larger kernels have the bound of any weights
_SQUARED: Final = 60  # powers of two: products of eight norms of squares stay in the range of float64
_SUMMED: Final = 1e280  # magnitudes below are summed without overflow, however many
_UP: Final = 1 + 2.0**-40  # for the rounding of these few sums themselves

# Sums of magnitudes, as powers of two, that float32 has room for: weights 2**-30 times the largest are still
# normal numbers, and samples of up to 2**63 do not overflow. Other kernels are summed in float64.
_LEAST: Final = -96
_MOST: Final = 64

# Terms of one pass may differ so much, in powers of two, and be scaled alike: far from the ends of float32.
SPREAD: Final = 40

# Kernels that multiply by more than that power of two do so in their first pass: samples near the smallest
# that there are would lose their last bits in passes that make them smaller.
GAIN: Final = 24


def magnitude(kernel: SeparableKernel | Array) -> int:
    """Return a power of two near the largest gain of a kernel: the exponent of its sum of magnitudes.

    Of several terms that of the largest. 0 for a kernel of zeros.
    """
    terms = kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
    sums = [[_exponent(taps) for taps in term] for term in terms if all(taps.any() for taps in term)]
    return max(map(sum, sums), default=0)


def _exponent(values: Array) -> int:
    """Return the exponent of the sum of magnitudes, which itself may overflow; 0 for zeros."""
    magnitudes = np.abs(values)
    if float(magnitudes.max()) < _SUMMED:
        return math.frexp(float(magnitudes.sum()))[1]
    half = math.frexp(float(values.size))[1]
    return math.frexp(float(np.ldexp(magnitudes, -half).sum()))[1] + half


def leaves_float32(kernel: SeparableKernel | Array) -> bool:
    """Return whether weights or sums of `kernel` may vanish or overflow in float32."""
    return not _LEAST <= magnitude(kernel) <= _MOST


class Placed(NamedTuple):
    """Sums of terms as passes: the kernel's axis of each pass in the order they run, and all taps by it."""

    axes: list[int]
    kernels: list[list[list[Array]]]


def placed(kernels: Sequence[Sequence[Term]], axes: Sequence[int]) -> Placed:
    """Return the passes of one or several kernels, from the array's last axis on, in range of their dtype.

    Axes with one tap need no pass: they scale another, which is the last to run where terms may share those
    before. Powers of two move between passes, which rounds nothing: taps of 1e-60 along one axis and 1e60
    along another stay in range. Every pass but the last is brought to a sum of magnitudes in [1/2, 1), of
    the largest term where that lets terms share their taps. The last has the scale of the kernel; the first
    has it where that is large.

    Parameters
    ----------
    kernels : sequence of kernels
        Each a sequence of terms.
    axes : sequence of int
        The axis of the array for each axis of the kernels.
    """
    order = sorted(range(len(axes)), key=lambda n: axes[n], reverse=True)
    wide = [n for n in order if kernels[0][0][n].size > 1] or order[:1]
    into = wide[0] if sum(map(len, kernels)) == 1 else wide[-1]
    mantissas, powers = zip(*(_split(term, wide) for kernel in kernels for term in kernel), strict=True)
    terms = [[taps[n] for n in wide] for taps in (with_scale(term, wide, into) for term in mantissas)]
    own = [[_exponent(each) for each in term] for term in terms]
    most = [max(column) for column in zip(*own, strict=True)]
    alike = all(top - n <= SPREAD for row in own for top, n in zip(most[:-1], row[:-1], strict=True))
    used = [(most if alike else row)[:-1] for row in own]
    last = [sum(row) + power for row, power in zip(used, powers, strict=True)]
    gain = max(
        (row[-1] + n for row, n, term in zip(own, last, terms, strict=True) if term[-1].any()), default=0
    )
    scaled = []
    for term, row, n in zip(terms, used, last, strict=True):
        moved = [*(-power for power in row), n]
        if gain > GAIN:
            moved[-1] -= gain
            moved[0] += gain
        scaled.append([np.ldexp(each, power) for each, power in zip(term, moved, strict=True)])
    ready = iter(scaled)
    return Placed(wide, [[next(ready) for _ in kernel] for kernel in kernels])


def _split(term: Term, wide: Sequence[int]) -> tuple[list[Array], int]:
    """Return a term whose single taps are between 1/2 and 1 in magnitude, and the power of two they lack."""
    mantissas, power = list(term), 0
    for axis, taps in enumerate(term):
        if axis not in wide and taps[0] != 1:
            mantissa, exponent = math.frexp(float(taps[0]))
            mantissas[axis], power = np.array([mantissa]), power + exponent
    return mantissas, power


def as_run(
    method: str, kernel: object, error: ErrorBounds, dtype: np.dtype[Any], axes: Sequence[int]
) -> ErrorBounds:
    """Return the error of a kernel once its taps or weights are rounded to float32, as they are placed there.

    Parameters
    ----------
    method : str
        How it runs.
    kernel : SeparableKernel, ndarray, Cascade or another form
        As it runs. Running sums, cosines and transforms are prepared in float64: nothing is added for them.
    error : ErrorBounds
        Of the kernel before rounding.
    dtype : dtype
        Computed in. float64 rounds nothing but the taps of means (`separable.kernel.means`).
    axes : sequence of int
        The axis of the array for each axis of the kernel.
    """
    if isinstance(kernel, SeparableKernel) and method != "direct":
        return _of_terms(kernel, error, "float32" if dtype.char in "fF" else "float64", axes)
    if dtype.char not in "fF":
        return error
    if isinstance(kernel, SeparableKernel):
        return _of_weights(kernel, error)
    if isinstance(kernel, np.ndarray):
        lost = _lost([kernel])
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    if isinstance(kernel, Cascade):
        return _of_cascade(kernel, error)
    return error


def moved(error: ErrorBounds, given: Array, weights: Array) -> ErrorBounds:
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


def _lost(term: Sequence[Array], dtype: str = "float32") -> _Lost:
    """Norms of an outer product are the products of those of its factors; float64 loses nothing."""
    # Shares that are lost: products of 1 + x, less 1. Norms without powers of two that might leave float64.
    share_l1, share_l2, norm_l1, norm_l2, power = 0.0, 0.0, 1.0, 1.0, 0
    for taps in term:
        # Rounded at the scale they run at: what lies below the smallest numbers of float32 is lost.
        scaled, lost = taps, taps - taps.astype(dtype)
        exponent = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        if abs(exponent) > _SQUARED:
            scaled, lost, power = np.ldexp(taps, -exponent), np.ldexp(lost, -exponent), power + exponent
        own_l1, own_l2 = float(np.abs(scaled).sum()), math.sqrt(float(np.square(scaled).sum()))
        if own_l1 == 0:
            return _Lost(0.0, 0.0, 0.0, 0.0)
        share_l1 += float(np.abs(lost).sum()) / own_l1 * (1 + share_l1)
        share_l2 += math.sqrt(float(np.square(lost).sum())) / own_l2 * (1 + share_l2)
        norm_l1, norm_l2 = norm_l1 * own_l1, norm_l2 * own_l2
    norm_l1, norm_l2 = _scaled(norm_l1, power), _scaled(norm_l2, power)
    return _Lost(share_l1 * norm_l1, share_l2 * norm_l2, norm_l1, norm_l2)


def _with(lost: _Lost, moved: tuple[float, float]) -> _Lost:
    """Add shares of the norms that taps were moved by."""
    return lost._replace(l1=lost.l1 + moved[0] * lost.norm_l1, l2=lost.l2 + moved[1] * lost.norm_l2)


def _scaled(value: float, power: int) -> float:
    with np.errstate(over="ignore"):
        return float(np.ldexp(value, power))


def _of_terms(kernel: SeparableKernel, error: ErrorBounds, dtype: str, axes: Sequence[int]) -> ErrorBounds:
    placed_terms = placed([kernel.terms], axes).kernels[0]
    each = [_lost(term, dtype) for term in placed_terms]
    each = [_with(*pair) for pair in zip(each, (means.moved(t, dtype) for t in kernel.terms), strict=True)]
    lost = _Lost(*(sum(values) for values in zip(*each, strict=True)))
    if kernel.rank == 1:
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    written = _lost([kernel.dense()], dtype)
    return _added(error, lost, written.norm_l1, written.norm_l2)


def _of_weights(kernel: SeparableKernel, error: ErrorBounds) -> ErrorBounds:
    """Add what rounding does to the weights that a kernel is written out to."""
    if kernel.size <= _WRITTEN_OUT or kernel.rank > 1:
        lost = _lost([kernel.dense()])
        return _added(error, lost, lost.norm_l1, lost.norm_l2)
    norms = _lost(placed([kernel.terms], range(kernel.ndim)).kernels[0][0])
    flushed = _FLUSHED * kernel.size
    lost = norms._replace(
        l1=_UNIT_ROUNDOFF * norms.norm_l1 + flushed, l2=_UNIT_ROUNDOFF * norms.norm_l2 + flushed
    )
    return _added(error, lost, norms.norm_l1, norms.norm_l2)


def _of_cascade(cascade: Cascade, error: ErrorBounds) -> ErrorBounds:
    # Both factors' rounding, of the norm of their convolution, which is at most the product of theirs. The
    # first is placed near 1, the second at the scale of the kernel.
    sparse = float(np.abs(cascade.sparse).sum())
    flushed = _FLUSHED * (2 * sum(cascade.smooth.shape) + cascade.weights / min(sparse, 1.0))
    share = (1 + _UNIT_ROUNDOFF) ** (cascade.smooth.ndim + 1) - 1 + 2 * flushed
    l1 = share * cascade.smooth.norm_l1 * sparse
    # Relative to the kernel, as its own error is.
    norm = error.l1 / error.relative_l1 if error.relative_l1 else math.inf
    return _added(error, _Lost(l1, l1, norm, norm), norm, norm)


def _added(error: ErrorBounds, lost: _Lost, norm_l1: float, norm_l2: float) -> ErrorBounds:
    """Add up; what is lost is relative to the kernel that runs, which is within `error` of the one meant."""
    if lost.l1 == 0:
        return error
    share_l1 = lost.l1 / norm_l1 if norm_l1 else math.inf
    share_l2 = lost.l2 / norm_l2 if norm_l2 else math.inf
    return ErrorBounds(
        l1=(error.l1 + lost.l1) * _UP,
        relative_l1=(error.relative_l1 + share_l1 * (1 + error.relative_l1)) * _UP,
        relative_l2=(error.relative_l2 + share_l2 * (1 + error.relative_l2)) * _UP,
        spectral=(error.spectral + lost.l1) * _UP,
    )
