"""The value this package is about: a kernel written as a sum of outer products, and its error."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias, final

import numpy as np
import numpy.typing as npt

from .sharing import shared

Array: TypeAlias = npt.NDArray[np.float64]
LongArray: TypeAlias = npt.NDArray[np.longdouble]
Term: TypeAlias = tuple[Array, ...]

# No known filter has more axes, and a typo that makes hundreds of them should be named here.
MAX_NDIM: Final = 8

# Kernels are compared with their terms this many elements at a time, so that the long double
# copies of a large kernel stay small beside it.
_SLAB_ELEMENTS: Final = 1 << 18

# Twice the unit roundoff of long double. Never below x87's, because double-double (ppc64) reports
# a far smaller eps than its additions keep.
_LONG_EPS: Final = max(float(np.finfo(np.longdouble).eps), 2.0**-63)
_LONG_TINY: Final = np.finfo(np.longdouble).tiny


@dataclass(frozen=True)
class KernelError:
    """How far the sum of terms k^ may lie from the kernel k it stands for; upper bounds.

    Attributes
    ----------
    l1 : float
        ``||k - k^||_1``. No output sample differs by more than ``l1 * max|x|``, for every boundary
        mode that copies samples and for a constant within the range of x.
    relative_l1 : float
        ``||k - k^||_1 / ||k||_1``; what `tol` limits.
    relative_l2 : float
        ``||k - k^||_2 / ||k||_2``.
    """

    l1: float = 0.0
    relative_l1: float = 0.0
    relative_l2: float = 0.0


@final
class SeparableKernel:
    """A kernel as a sum of terms; a term is an outer product of 1-D taps, one per axis.

    The kernel is meant for correlation: output sample i is ``sum_k taps[k] * x[i + k - n//2]`` along
    each axis. The value is frozen: taps are private read-only copies, equality and hash go by value.

    Parameters
    ----------
    terms : sequence of terms
        Each term a sequence of 1-D real taps, one per axis, axis 0 first. All terms have the same tap
        counts. Stored as float64.
    error : KernelError, optional
        Certified distance to the kernel these terms stand for. Default: zeros (the terms are the kernel).

    Attributes
    ----------
    terms : tuple of tuples of ndarray
        The taps, read-only float64.
    shape : tuple of int
        Tap counts per axis; the shape of the dense kernel.
    ndim, rank, size : int
        Number of axes, of terms, and of elements of the dense kernel.
    macs : int
        Multiply-accumulates per sample: the tap counts of all passes. Terms with equal taps along the last
        axis share that pass, and terms with equal taps along the first are added up before it
        (`separable.sharing`). A 1-tap factor costs nothing, it is folded into its neighbour.
    error : KernelError

    Raises
    ------
    TypeError
        If taps are not real numbers, or `error` is not a KernelError.
    ValueError
        If there is no term, no axis or more than 8, if taps are empty, not 1-D, not finite or not of
        the same length in all terms, or if their product overflows float64.
    """

    __slots__ = ("_hash", "_macs", "_norm_l1", "error", "ndim", "rank", "shape", "size", "terms")

    terms: tuple[Term, ...]
    shape: tuple[int, ...]
    ndim: int
    rank: int
    size: int
    error: KernelError
    _hash: int
    _macs: int
    _norm_l1: float

    def __init__(self, terms: Iterable[Iterable[npt.ArrayLike]], *, error: KernelError | None = None) -> None:
        if error is not None and not isinstance(error, KernelError):
            raise TypeError(f"`error` is {type(error).__name__}; expected a KernelError or None.")
        checked = _checked_terms(terms)
        shape = tuple(taps.size for taps in checked[0])
        values = {
            "terms": checked,
            "shape": shape,
            "ndim": len(shape),
            "rank": len(checked),
            "size": math.prod(shape),
            "error": KernelError() if error is None else error,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def dense(self) -> Array:
        """Return the kernel written out: the sum of its terms' outer products.

        Returns
        -------
        ndarray, shape ``self.shape``, float64
            Summed in long double and rounded once.
        """
        total: LongArray = np.zeros(self.shape, np.longdouble)
        for term in self.terms:
            scaled, exponents = zip(*map(unit_scaled, term), strict=True)
            total += np.ldexp(outer(scaled), sum(exponents))
        return total.astype(np.float64)

    def adjoint(self) -> SeparableKernel:
        """Return the kernel with every axis flipped.

        Correlation with it is the adjoint of correlation with this kernel (odd tap counts, constant
        or periodic boundaries), and the same as convolution with this kernel.
        """
        return SeparableKernel([[taps[::-1] for taps in term] for term in self.terms], error=self.error)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample; see the class."""
        if not hasattr(self, "_macs"):
            object.__setattr__(self, "_macs", max(1, shared([self.terms]).macs if self.size > 1 else 1))
        return self._macs

    @property
    def norm_l1(self) -> float:
        """The sum of the dense kernel's absolute values: the filter's largest gain."""
        if not hasattr(self, "_norm_l1"):
            object.__setattr__(self, "_norm_l1", self._compute_norm_l1())
        return self._norm_l1

    def _compute_norm_l1(self) -> float:
        if self.rank > 1:
            return float(np.abs(self.dense()).sum())
        scaled, exponents = zip(*map(unit_scaled, self.terms[0]), strict=True)
        total = math.prod(float(np.abs(taps).sum()) for taps in scaled)
        with np.errstate(over="ignore"):
            return float(np.ldexp(total, sum(exponents)))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SeparableKernel is frozen: `{name}` cannot be set; build another kernel.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"SeparableKernel is frozen: `{name}` cannot be deleted.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SeparableKernel):
            return NotImplemented
        if self is other:
            return True
        return (
            self.shape == other.shape
            and self.rank == other.rank
            and self.error == other.error
            and _bytes(self.terms) == _bytes(other.terms)
        )

    def __hash__(self) -> int:
        # Kept, because plans are looked up by kernel on every call of a filter.
        if not hasattr(self, "_hash"):
            object.__setattr__(self, "_hash", hash((self.shape, self.error, _bytes(self.terms))))
        return self._hash

    def __copy__(self) -> SeparableKernel:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SeparableKernel:
        return self

    def __reduce__(self) -> tuple[Callable[..., SeparableKernel], tuple[tuple[Term, ...], KernelError]]:
        return _restore, (self.terms, self.error)

    def __repr__(self) -> str:
        return (
            f"SeparableKernel(shape={self.shape}, rank={self.rank}, macs={self.macs}, "
            f"relative_l1={self.error.relative_l1:.3g})"
        )


def _restore(terms: tuple[Term, ...], error: KernelError) -> SeparableKernel:
    return SeparableKernel(terms, error=error)


def _bytes(terms: tuple[Term, ...]) -> bytes:
    return b"".join(taps.tobytes() for term in terms for taps in term)


def _checked_terms(terms: Iterable[Iterable[npt.ArrayLike]]) -> tuple[Term, ...]:
    if not isinstance(terms, Iterable):
        raise TypeError(f"`terms` is {type(terms).__name__}; expected a sequence of terms.")
    checked: list[Term] = []
    for t, term in enumerate(terms):
        if not isinstance(term, Iterable):
            raise TypeError(f"`terms[{t}]` is {term!r}; expected a term: one sequence of 1-D taps per axis.")
        checked.append(tuple(_checked_taps(f"terms[{t}][{a}]", taps) for a, taps in enumerate(term)))
    if not checked:
        raise ValueError("`terms` is empty; expected at least one term.")
    lengths = tuple(taps.size for taps in checked[0])
    if not 1 <= len(lengths) <= MAX_NDIM:
        raise ValueError(f"`terms[0]` has taps for {len(lengths)} axes; expected 1 to {MAX_NDIM}.")
    for t, checked_term in enumerate(checked):
        _check_term(t, checked_term, lengths)
    return tuple(checked)


def _checked_taps(name: str, values: npt.ArrayLike) -> Array:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` has {array.ndim} dimensions; expected 1-D taps: a single term is written "
            "[[taps0, taps1]], and dense weights are factored by separable.factor(weights)."
        )
    if array.size == 0:
        raise ValueError(f"`{name}` is empty; expected at least one tap.")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"`{name}` has dtype {array.dtype}; expected real numbers.")
    with np.errstate(over="ignore"):  # a long double that overflows is reported as not finite
        taps = array.astype(np.float64) + 0.0  # no -0.0: equal kernels have equal bytes
    if not np.isfinite(taps).all():
        where = int(np.flatnonzero(~np.isfinite(taps))[0])
        raise ValueError(f"`{name}[{where}]` is {array[where]}; expected finite taps.")
    # Backed by bytes, not merely flagged: nobody can make it writeable again.
    return np.frombuffer(taps.tobytes(), np.float64)


def _check_term(t: int, term: Term, lengths: tuple[int, ...]) -> None:
    got = tuple(taps.size for taps in term)
    if got != lengths:
        raise ValueError(
            f"`terms[{t}]` has tap counts {got}, terms[0] has {lengths}; expected the same in all terms: "
            "pad the shorter taps with zeros."
        )
    mantissas, exponents = zip(*(math.frexp(float(np.abs(taps).max())) for taps in term), strict=True)
    try:
        math.ldexp(math.prod(mantissas), sum(exponents))
    except OverflowError:
        raise ValueError(
            f"`terms[{t}]` overflows: the product of its largest taps exceeds float64; scale the taps down."
        ) from None


def outer(taps: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the outer product of 1-D arrays, in their dtype, shape ``(n0, n1, ...)``."""
    return functools.reduce(np.multiply.outer, taps)


def unit_scaled(values: Array) -> tuple[LongArray, int]:
    """Return ``values * 2**-e`` in long double, and e, with the largest magnitude in [0.5, 1).

    Exact, so that no product of a few such arrays overflows and the scale of a kernel does not matter.
    Zeros stay zeros with e = 0.
    """
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values.astype(np.longdouble), -exponent), exponent


def certified_error(weights: Array, terms: Sequence[Term]) -> KernelError:
    """Bound the distance between dense weights and a sum of terms; the bound is never below the truth.

    The residual is computed in long double; to its norms a bound of all rounding in them is added, and
    every last step rounds up [1]_.

    Parameters
    ----------
    weights : ndarray, float64
        Finite, at least one element.
    terms : sequence of terms
        Taps per axis, float64, lengths as ``weights.shape``.

    Returns
    -------
    KernelError

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1.
    """
    terms = [term for term in terms if all(taps.any() for taps in term)]
    if not weights.any():
        # A zero kernel has no relative error, and whatever is not zero is infinitely far from it.
        distance = math.inf if terms else 0.0
        return KernelError(distance, distance, distance)
    exponent = math.frexp(float(np.abs(weights).max()))[1]
    scaled_terms = [_scaled_term(term, exponent) for term in terms]
    norm_l1, norm_l2, l1, l2 = _norms(weights, exponent, scaled_terms)

    # Each residual element passes ndim products and one subtraction per term, each off by half of
    # _LONG_EPS of magnitudes that sum to what the next two lines add up; then come the sums over the
    # kernel. Counting every step as a whole _LONG_EPS leaves room for the rounding of this bound itself.
    steps = (weights.ndim + len(terms) + 4) * _LONG_EPS
    magnitude_l1 = norm_l1 + sum(math.prod(np.abs(taps).sum() for taps in term) for term in scaled_terms)
    magnitude_l2 = norm_l2 + sum(
        math.prod(np.sqrt(np.square(taps).sum()) for taps in term) for term in scaled_terms
    )
    slack = weights.size * (len(terms) * weights.ndim + 2) * _LONG_TINY  # products that underflow
    summing = 1 + (weights.size + 4) * np.longdouble(_LONG_EPS)
    l1 = (l1 + steps * magnitude_l1 + slack) * summing
    l2 = (l2 + steps * magnitude_l2 + slack) * summing
    return KernelError(
        l1=_round_up(l1, exponent),
        relative_l1=_round_up(l1 / norm_l1 * summing),
        relative_l2=_round_up(l2 / norm_l2 * summing),
    )


def _scaled_term(term: Term, exponent: int) -> list[LongArray]:
    scaled, exponents = zip(*map(unit_scaled, term), strict=True)
    return [np.ldexp(scaled[0], sum(exponents) - exponent), *scaled[1:]]


def _norms(weights: Array, exponent: int, terms: list[list[LongArray]]) -> list[np.longdouble]:
    """l1 and l2 norm of ``weights * 2**-exponent``, then of what the terms leave of it."""
    l1, squares = np.zeros((2, 2), np.longdouble)
    rows = max(1, _SLAB_ELEMENTS * weights.shape[0] // weights.size)
    for start in range(0, weights.shape[0], rows):
        scaled = np.ldexp(weights[start : start + rows].astype(np.longdouble), -exponent)
        residual = scaled.copy()
        for first, *others in terms:
            residual -= outer([first[start : start + rows], *others])
        for i, values in enumerate((scaled, residual)):
            l1[i] += np.abs(values).sum()
            squares[i] += np.square(values).sum()
    return [l1[0], np.sqrt(squares[0]), l1[1], np.sqrt(squares[1])]


def _round_up(value: np.longdouble, exponent: int = 0) -> float:
    """Return the next float64 at or above ``value * 2**exponent``; infinite where none is."""
    with np.errstate(over="ignore"):
        rounded = np.float64(value)
        if rounded < value:
            rounded = np.nextafter(rounded, np.float64(np.inf))
        scaled = np.ldexp(rounded, exponent)
        if np.ldexp(scaled, -exponent) < rounded:  # lost bits in the subnormals
            scaled = np.nextafter(scaled, np.float64(np.inf))
    return float(scaled)
