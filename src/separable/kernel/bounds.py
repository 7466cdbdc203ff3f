"""How far a sum of terms is from the kernel it stands for: bounds that are never below the truth."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.types import FloatArray

LongArray: TypeAlias = npt.NDArray[np.longdouble]
Term: TypeAlias = tuple[FloatArray, ...]

# Kernels are compared with their terms this many elements at a time, so that the long double
# copies of a large kernel stay small beside it; and so many elements of the terms' products are kept.
_SLAB_ELEMENTS: Final = 1 << 20
_PRODUCT_ELEMENTS: Final = 1 << 21

_EPS: Final = float(np.finfo(np.float64).eps)


class _Precision(NamedTuple):
    """What residuals are computed in: twice its unit roundoff, and its least normal number."""

    dtype: npt.DTypeLike
    eps: float
    tiny: Any


_DOUBLE: Final = _Precision(np.float64, _EPS, np.finfo(np.float64).tiny)
# Never below x87's, because double-double (ppc64) reports a far smaller eps than its additions keep.
_LONG: Final = _Precision(
    np.longdouble, max(float(np.finfo(np.longdouble).eps), 2.0**-63), np.finfo(np.longdouble).tiny
)

# Residuals of so many products are computed in long double at once, which takes a millisecond. Larger ones
# are in double precision first, fifty times as fast, and stay so where rounding is less than this share.
_FEW_PRODUCTS: Final = 1 << 17
_ROUNDING_SHARE: Final = 1e-3


# The transfer function is sampled that many times as finely as the kernel, on at most so many points.
_OVERSAMPLING: Final = (8, 4, 2)
_FREQUENCIES: Final = 1 << 20


@dataclass(frozen=True)
class ErrorBounds:
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
    spectral : float
        The largest magnitude of the residual's transfer function: on periodic images the root mean square
        of the output differs by no more than ``spectral`` times that of x. Never above `l1`, which it is
        where nothing better is known.
    """

    l1: float = 0.0
    relative_l1: float = 0.0
    relative_l2: float = 0.0
    spectral: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "spectral", min(self.spectral, self.l1))


def outer(taps: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the outer product of 1-D arrays, in their dtype, shape ``(n0, n1, ...)``."""
    return functools.reduce(np.multiply.outer, taps)


def unit_scaled(values: FloatArray) -> tuple[LongArray, int]:
    """Return ``values * 2**-e`` in long double, and e, with the largest magnitude in [0.5, 1).

    Exact, so that no product of a few such arrays overflows and the scale of a kernel does not matter.
    Zeros stay zeros with e = 0.
    """
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values.astype(np.longdouble), -exponent), exponent


KernelError = ErrorBounds  # its first name


def certified_error(weights: FloatArray, terms: Sequence[Term]) -> ErrorBounds:
    """Bound the distance between dense weights and a sum of terms; the bound is never below the truth.

    The residual is computed in long double, or in double precision where rounding is a thousandth of it at
    most; to its norms a bound of all rounding in them is added, and every last step rounds up [1]_.

    Parameters
    ----------
    weights : ndarray, float64
        Finite, at least one element.
    terms : sequence of terms
        Taps per axis, float64, lengths as ``weights.shape``.

    Returns
    -------
    ErrorBounds

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1.
    .. [2] H. Ehlich, K. Zeller, Schwankung von Polynomen zwischen Gitterpunkten, Math. Zeitschrift 86,
       1964: how far a trigonometric polynomial may rise between samples.
    """
    terms = [term for term in terms if all(taps.any() for taps in term)]
    if not weights.any():
        # A zero kernel has no relative error, and whatever is not zero is infinitely far from it.
        distance = math.inf if terms else 0.0
        return ErrorBounds(distance, distance, distance)
    exponent = math.frexp(float(np.abs(weights).max()))[1]
    scaled_terms = [_scaled_term(term, exponent) for term in terms]
    if len(terms) * weights.size > _FEW_PRODUCTS:
        error, share = _bounds(weights, exponent, scaled_terms, _DOUBLE)
        if share <= _ROUNDING_SHARE:
            return error
    return _bounds(weights, exponent, scaled_terms, _LONG)[0]


def _bounds(
    weights: FloatArray, exponent: int, scaled_terms: list[list[LongArray]], precision: _Precision
) -> tuple[ErrorBounds, float]:
    """Return the bounds, and what share of the l1 norm is for rounding."""
    dtype, eps, tiny = precision
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # what overflows is no small share
        terms = [[taps.astype(dtype) for taps in term] for term in scaled_terms]
        norm_l1, norm_l2, l1, l2, residual = _norms(weights, exponent, terms, dtype)

    # Each residual element passes ndim products and one subtraction per term, each off by half of
    # `eps` of magnitudes that sum to what the next two lines add up; then come the sums over the
    # kernel. Counting every step as a whole `eps` leaves room for the rounding of this bound itself.
    steps = (weights.ndim + len(terms) + 4) * eps
    magnitude_l1 = norm_l1 + sum(math.prod(np.abs(taps).sum() for taps in term) for term in scaled_terms)
    magnitude_l2 = norm_l2 + sum(
        math.prod(np.sqrt(np.square(taps).sum()) for taps in term) for term in scaled_terms
    )
    slack = weights.size * (len(terms) * weights.ndim + 2) * tiny  # products that underflow
    summing = 1 + (weights.size + 4) * np.longdouble(eps)
    rounding = steps * magnitude_l1 + slack
    share = float(rounding / l1) if 0 < l1 < math.inf else math.inf
    l1 = (l1 + rounding) * summing
    l2 = (l2 + steps * magnitude_l2 + slack) * summing
    error = ErrorBounds(
        l1=_round_up(l1, exponent),
        relative_l1=_round_up(l1 / norm_l1 * summing),
        relative_l2=_round_up(l2 / norm_l2 * summing),
        spectral=_round_up(_gain(residual, weights.shape, l1, rounding), exponent),
    )
    return error, share


def after_rounding(
    error: ErrorBounds, dense: FloatArray, terms: Sequence[Term], rounded: Sequence[Term]
) -> ErrorBounds:
    """Bound the distance of rounded terms from the kernel that the terms stood for.

    Parameters
    ----------
    error : ErrorBounds
        Of the terms as they were.
    dense : ndarray, float64
        The terms written out and rounded.
    terms, rounded : sequence of terms
    """
    before, after = certified_error(dense, terms), certified_error(dense, rounded)
    # Against the norm of the kernel, of which the terms' own tells: ||k|| >= ||k^|| / (1 + relative error).
    shares = []
    for name in ("relative_l1", "relative_l2"):
        own, one, other = (getattr(each, name) for each in (error, before, after))
        added = (one + other) * (1 + own) / max(1 - one, 0.5) if one < 0.5 else math.inf
        shares.append(math.inf if math.isinf(added) else own + added)
    raised = [value * (1 + 8 * _EPS) for value in (error.l1 + before.l1 + after.l1, *shares)]
    spectral = (error.spectral + before.spectral + after.spectral) * (1 + 8 * _EPS)
    return ErrorBounds(raised[0], raised[1], raised[2], spectral)


def _gain(
    residual: FloatArray | None, shape: tuple[int, ...], l1: np.longdouble, rounding: np.longdouble
) -> np.longdouble:
    """Bound the largest magnitude of the residual's transfer function; `l1` where it is not kept.

    It is sampled by a zero-padded FFT. Along an axis with n taps it is a trigonometric polynomial of degree
    n / 2, and between N samples it rises by a factor of 1 / cos(pi n / 2N) at most [2 in `certified_error`].
    """
    if residual is None:
        return l1
    times = max(each for each in _OVERSAMPLING if each ** len(shape) * residual.size <= _FREQUENCIES)
    padded = [times * n for n in shape]
    # Of the FFT (Higham, section 24.1), with room; the residual's own rounding is in `rounding`.
    points = math.prod(padded)
    blurred = 8 * _EPS * math.log2(2 * points) * math.sqrt(points) * float(np.linalg.norm(residual))
    spectrum = np.fft.rfftn(residual.reshape(shape), padded, axes=range(len(shape)))
    largest = float(np.abs(spectrum).max()) + blurred
    rise = math.cos(math.pi / (2 * times)) ** -len(shape) * (1 + 16 * _EPS)
    return np.longdouble(largest * rise) + rounding


def _scaled_term(term: Term, exponent: int) -> list[LongArray]:
    scaled, exponents = zip(*map(unit_scaled, term), strict=True)
    return [np.ldexp(scaled[0], sum(exponents) - exponent), *scaled[1:]]


def _norms(
    weights: FloatArray, exponent: int, terms: list[list[Any]], dtype: npt.DTypeLike
) -> tuple[np.longdouble, np.longdouble, np.longdouble, np.longdouble, FloatArray | None]:
    """l1 and l2 norm of ``weights * 2**-exponent``, then of what the terms leave of it, and that, in float64.

    The last is None where the kernel is too large for its transform.
    """
    l1, squares = np.zeros((2, 2), np.longdouble)
    small = min(_OVERSAMPLING) ** weights.ndim * weights.size <= _FREQUENCIES
    kept = np.empty(weights.size) if small else None
    matrix = weights.reshape(len(weights), -1)
    rows = max(1, min(len(matrix), _SLAB_ELEMENTS // matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        scaled = np.ldexp(matrix[start : start + rows].astype(dtype), -exponent)
        residual = scaled - _written_out([[first[start : start + rows], *rest] for first, *rest in terms])
        for i, values in enumerate((scaled, residual)):
            l1[i] += np.abs(values).sum()
            squares[i] += np.square(values).sum()
        if kept is not None:
            place = start * matrix.shape[1]
            kept[place : place + residual.size] = residual.ravel()
    return l1[0], np.sqrt(squares[0]), l1[1], np.sqrt(squares[1]), kept


def _written_out(terms: list[list[Any]]) -> Any:
    """Return the sum of terms as rows of the first axis, a block of terms at a time.

    In long double the sum over terms runs along the memory of both factors: five times as fast as a product
    of matrices, for which there is no library.
    """
    total: Any = 0.0
    block = max(1, _PRODUCT_ELEMENTS // math.prod(taps.size for taps in terms[0][1:])) if terms else 1
    for begin in range(0, len(terms), block):
        first, *others = (np.stack(taps, axis=1) for taps in zip(*terms[begin : begin + block], strict=True))
        right = np.ones((1, first.shape[1]), first.dtype)
        for taps in others:
            right = (right[:, np.newaxis, :] * taps[np.newaxis, :, :]).reshape(-1, first.shape[1])
        if first.dtype == np.float64:
            total = total + first @ right.T
        else:
            total = total + np.einsum("jk,ik->ji", right, first).T
    return total


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
