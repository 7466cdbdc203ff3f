"""Certified bounds of the distance of a sum of terms from the kernel that it approximates."""

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

# Maximum elements of a kernel compared with its terms at a time (their long double copies stay small beside a
# large kernel), and of the products of the factors of a block of terms.
_SLAB_ELEMENTS: Final = 1 << 20
_PRODUCT_ELEMENTS: Final = 1 << 21

_EPS: Final = float(np.finfo(np.float64).eps)


class _Precision(NamedTuple):
    """The dtype of residuals, twice its unit roundoff, and its smallest normal number."""

    dtype: npt.DTypeLike
    eps: float
    tiny: Any


_DOUBLE: Final = _Precision(np.float64, _EPS, np.finfo(np.float64).tiny)
# At least x87's eps: double-double (ppc64) reports a far smaller one than its additions achieve.
_LONG: Final = _Precision(
    np.longdouble, max(float(np.finfo(np.longdouble).eps), 2.0**-63), np.finfo(np.longdouble).tiny
)

# Maximum products of a residual computed in long double, which takes a millisecond. Larger ones are computed
# in float64, 50 times as fast, and again in long double if rounding exceeds this share of the l1 norm.
_FEW_PRODUCTS: Final = 1 << 17
_ROUNDING_SHARE: Final = 1e-3

# Oversampling factors of the transfer function, the largest first, and the maximum points of its FFT.
_OVERSAMPLING: Final = (8, 4, 2)
_FREQUENCIES: Final = 1 << 20


@dataclass(frozen=True)
class ErrorBounds:
    """Upper bounds of the distance of a sum of terms k^ from the kernel k that it approximates.

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
        of the output differs by no more than ``spectral`` times that of x. At most `l1`, and equal to it
        where no better bound is known.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> disk = sp.families.disk(7)
    >>> rough = sp.factor(disk, rank=2)
    >>> x = np.random.default_rng(0).uniform(-1, 1, (64, 64))
    >>> change = np.abs(sp.correlate(x, rough) - sp.correlate(x, disk, method="direct")).max()
    >>> bool(change <= rough.error.l1 * np.abs(x).max() + 1e-12)  # whatever x is
    True
    >>> rough.error.spectral <= rough.error.l1
    True
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

    The scaling is exact; products of a few such arrays do not overflow. Zeros have e = 0.
    """
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values.astype(np.longdouble), -exponent), exponent


KernelError = ErrorBounds  # the name in earlier versions


def certified_error(weights: FloatArray, terms: Sequence[Term]) -> ErrorBounds:
    """Return certified upper bounds of the distance between dense weights and a sum of terms.

    The residual is computed in long double, or in float64 where rounding is at most a thousandth of it. A
    bound of all rounding is added to its norms, and every last step rounds up [1]_.

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
        # The relative error of a zero kernel is 0 or, with nonzero terms, infinite.
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
    """Return the bounds, and the bound of rounding as a share of the residual's l1 norm."""
    dtype, eps, tiny = precision
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # overflow gives an infinite share
        terms = [[taps.astype(dtype) for taps in term] for term in scaled_terms]
        norm_l1, norm_l2, l1, l2, residual = _norms(weights, exponent, terms, dtype)

    # Each residual element takes ndim products and one subtraction per term, each rounded by `eps` / 2
    # relative to magnitudes whose norms are `magnitude_l1` and `magnitude_l2`; then come the sums over the
    # kernel. Counting a whole `eps` per step covers the rounding of this bound itself.
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
    """Return bounds of the distance of rounded terms from the kernel that the terms approximated.

    Parameters
    ----------
    error : ErrorBounds
        The error of the terms before rounding.
    dense : ndarray, float64
        The sum of the outer products of the terms, rounded.
    terms, rounded : sequence of terms
    """
    before, after = certified_error(dense, terms), certified_error(dense, rounded)
    # Relative to the norm of the kernel, from that of the terms: ||k|| >= ||k^|| / (1 + relative error).
    shares = []
    for name in ("relative_l1", "relative_l2"):
        kernel_error, error_before, error_after = (getattr(bounds, name) for bounds in (error, before, after))
        added = (
            (error_before + error_after) * (1 + kernel_error) / max(1 - error_before, 0.5)
            if error_before < 0.5
            else math.inf
        )
        shares.append(math.inf if math.isinf(added) else kernel_error + added)
    raised = [value * (1 + 8 * _EPS) for value in (error.l1 + before.l1 + after.l1, *shares)]
    spectral = (error.spectral + before.spectral + after.spectral) * (1 + 8 * _EPS)
    return ErrorBounds(raised[0], raised[1], raised[2], spectral)


def _gain(
    residual: FloatArray | None, shape: tuple[int, ...], l1: np.longdouble, rounding: np.longdouble
) -> np.longdouble:
    """Return a bound of the largest magnitude of the residual's transfer function; `l1` without residual.

    It is sampled by a zero-padded FFT. Along an axis with n taps it is a trigonometric polynomial of degree
    n / 2, which between N samples rises by a factor of at most 1 / cos(pi n / 2N) [2 in `certified_error`].
    """
    if residual is None:
        return l1
    oversampling = max(
        factor for factor in _OVERSAMPLING if factor ** len(shape) * residual.size <= _FREQUENCIES
    )
    padded = [oversampling * n for n in shape]
    # Rounding of the FFT (Higham, section 24.1), with a margin; that of the residual is in `rounding`.
    points = math.prod(padded)
    blurred = 8 * _EPS * math.log2(2 * points) * math.sqrt(points) * float(np.linalg.norm(residual))
    spectrum = np.fft.rfftn(residual.reshape(shape), padded, axes=range(len(shape)))
    largest = float(np.abs(spectrum).max()) + blurred
    rise = math.cos(math.pi / (2 * oversampling)) ** -len(shape) * (1 + 16 * _EPS)
    return np.longdouble(largest * rise) + rounding


def _scaled_term(term: Term, exponent: int) -> list[LongArray]:
    scaled, exponents = zip(*map(unit_scaled, term), strict=True)
    return [np.ldexp(scaled[0], sum(exponents) - exponent), *scaled[1:]]


def _norms(
    weights: FloatArray, exponent: int, terms: list[list[Any]], dtype: npt.DTypeLike
) -> tuple[np.longdouble, np.longdouble, np.longdouble, np.longdouble, FloatArray | None]:
    """Return l1 and l2 norm of ``weights * 2**-exponent``, then of its residual, and the residual.

    The residual is float64, or None where the kernel is too large for its FFT.
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

    In long double, for which there is no BLAS, the sum over terms runs along the contiguous axis of both
    factors: five times as fast as a matrix product.
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
    """Return the next float64 at or above ``value * 2**exponent``; infinity where there is none."""
    with np.errstate(over="ignore"):
        rounded = np.float64(value)
        if rounded < value:
            rounded = np.nextafter(rounded, np.float64(np.inf))
        scaled = np.ldexp(rounded, exponent)
        if np.ldexp(scaled, -exponent) < rounded:  # lost bits in the subnormals
            scaled = np.nextafter(scaled, np.float64(np.inf))
    return float(scaled)
