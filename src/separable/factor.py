"""From dense weights to a sum of few outer products, with a certified error."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from ._errors import NotSeparableError
from .kernel import MAX_NDIM, Array, SeparableKernel, Term, certified_error, outer

# One part in a million: below the rounding of a float32 filter, above the rounding of float32 weights.
DEFAULT_TOL: Final = 1e-6

_EPS: Final = float(np.finfo(np.float64).eps)
_SVD_BYTES: Final = 2 << 30
_BLOCK_ELEMENTS: Final = 1 << 22

# Relative errors below this differ by rounding only, and fewer terms win over a smaller error.
_ROUNDING: Final = 1e-12

# Up to four axes every order of splitting is tried (12 of them); 8 axes would have 20,160.
_ALL_ORDERS_NDIM: Final = 4

# Alternating least squares gains a constant factor per sweep; a kernel that still improves after
# this many is far from rank one and keeps what it has.
_SWEEPS: Final = 64


def factor(
    weights: npt.ArrayLike, tol: float | None = None, rank: SupportsIndex | None = None
) -> SeparableKernel:
    """Write dense weights as a sum of few outer products of 1-D taps.

    Parameters
    ----------
    weights : array_like, shape ``(n0, n1, ...)``
        Real kernel of 1 to 8 axes. Its scale does not matter: 1e-300 times a kernel has the same rank.
    tol : float, optional
        Relative l1 error allowed, ``||k - k^||_1 / ||k||_1``. Alone it asks for the fewest terms within
        it; where rounding keeps every number of terms from it (``tol=0``, say), for the fewest terms
        that come as close as rounding lets them. Neither `tol` nor `rank`: 1e-6.
    rank : int, optional
        The largest number of terms. Alone it asks for the best approximation with that many (fewer
        where the kernel has fewer) in the least-squares sense, whatever its error. With `tol`: the
        fewest terms within `tol`, and an error where `rank` terms do not reach it.

    Returns
    -------
    SeparableKernel
        With its certified `error`. Where the weights are exactly symmetric or antisymmetric along an
        axis, so are all taps along it; sums of several terms keep the symmetry through the centre too.
        The filters run such taps in half the multiplications.

    Raises
    ------
    NotSeparableError
        If both are given and `rank` terms do not reach `tol`. It carries the numbers.
    TypeError, ValueError
        If an argument is not as described, or the SVD would need more than 2 GiB.

    Notes
    -----
    A kernel of rank one is read off its fibres through the largest element: exactly, with integer taps,
    where the weights are integers (or integers times a power of two). Other kernels are split by the
    SVD, 2-D ones into the best sum of every rank in the least-squares sense. With more axes one axis is
    split off after the other, in every order up to four axes, and the largest products of singular
    values are kept; the order with the fewest terms wins. Those terms are orthogonal, which is not
    always the shortest sum: a 3-D Laplacian of Gaussian gets four terms so, and has three
    (:func:`separable.families.laplacian_of_gaussian`).

    References
    ----------
    .. [1] C. Eckart, G. Young, The approximation of one matrix by another of lower rank,
       Psychometrika 1, 1936.
    .. [2] L. De Lathauwer, B. De Moor, J. Vandewalle, On the best rank-1 and rank-(R1,...,RN)
       approximation of higher-order tensors, SIAM J. Matrix Anal. Appl. 21(4), 2000.
    """
    dense = _checked_weights(weights)
    allowed = _checked_tol(tol)
    limit = _checked_rank(rank)
    if allowed is None and limit is None:
        allowed = DEFAULT_TOL
    squeezed = dense.squeeze()
    kernel = _factor(squeezed, allowed, limit)
    if allowed is not None and limit is not None and kernel.error.relative_l1 > allowed:
        raise _not_separable(squeezed, dense.shape, kernel, allowed, limit)
    return _with_single_taps(kernel, dense.shape)


def is_separable(weights: npt.ArrayLike, tol: float | None = None) -> bool:
    """Tell whether dense weights are one outer product of 1-D taps, within a relative l1 error.

    Parameters
    ----------
    weights : array_like, shape ``(n0, n1, ...)``
        As for :func:`factor`.
    tol : float, optional
        Relative l1 error allowed. Default: 1e-6.

    Returns
    -------
    bool
        The same for the weights times any non-zero number.

    Raises
    ------
    TypeError, ValueError
        As for :func:`factor`.
    """
    dense = _checked_weights(weights)
    allowed = _checked_tol(tol)
    limit = DEFAULT_TOL if allowed is None else allowed
    return _factor(dense.squeeze(), limit, 1).error.relative_l1 <= limit


# -- arguments ---------------------------------------------------------------------------------------


def _checked_weights(weights: npt.ArrayLike) -> Array:
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


def _checked_tol(tol: float | None) -> float | None:
    if tol is None:
        return None
    try:
        value = float(tol)
    except (TypeError, ValueError):
        raise TypeError(f"`tol` is {tol!r}; expected a number or None.") from None
    if not 0.0 <= value < math.inf:
        raise ValueError(f"`tol` is {tol}; expected a finite number >= 0, such as 1e-6.")
    return value


def _checked_rank(rank: SupportsIndex | None) -> int | None:
    if rank is None:
        return None
    try:
        value = operator.index(rank)
    except TypeError:
        raise TypeError(f"`rank` is {rank!r}; expected an integer or None.") from None
    if value < 1:
        raise ValueError(f"`rank` is {value}; expected at least 1.")
    return value


def _with_single_taps(kernel: SeparableKernel, shape: tuple[int, ...]) -> SeparableKernel:
    """Put back the axes of length 1, which were squeezed out, with the tap 1."""
    wide = [axis for axis, n in enumerate(shape) if n > 1] or [0]
    terms: list[list[npt.ArrayLike]] = []
    for term in kernel.terms:
        full: list[npt.ArrayLike] = [[1.0] for _ in shape]
        for axis, taps in zip(wide, term, strict=True):
            full[axis] = taps
        terms.append(full)
    return SeparableKernel(terms, error=kernel.error)


def _not_separable(
    squeezed: Array, shape: tuple[int, ...], best: SeparableKernel, tol: float, rank: int
) -> NotSeparableError:
    relative = best.error.relative_l1
    if _largest_svd(squeezed.shape) > _SVD_BYTES:
        fix = "It is too large to say which rank is; crop it or raise tol."
    elif (enough := _factor(squeezed, tol, None)).error.relative_l1 <= tol:
        fix = f"Pass rank={enough.rank} or raise tol."
    else:
        fix = f"No rank reaches it in float64; raise tol to {2 * enough.error.relative_l1:.1e}."
    return NotSeparableError(
        f"kernel {shape} is not rank {rank}: relative l1 error {relative:.3g} > tol {tol:g}. {fix}",
        relative_l1=relative,
        tol=tol,
        rank=rank,
    )


# -- choosing the number of terms --------------------------------------------------------------------


def _factor(dense: Array, tol: float | None, rank: int | None) -> SeparableKernel:
    """Return the fewest terms within `tol`, at most `rank`; the best that many can do where that fails.

    `dense` has no axis of length 1, but may be 0-d.
    """
    if dense.ndim <= 1:
        return SeparableKernel([[np.atleast_1d(dense)]])
    if not dense.any():
        return SeparableKernel([[np.zeros(n) for n in dense.shape]])
    single = _integer_rank_one(dense) or _cross_rank_one(dense)
    if single.error.relative_l1 <= 16 * dense.ndim * _EPS:  # rounding: nothing does better
        return single
    exponent = math.frexp(float(np.abs(dense).max()))[1]
    scaled = np.ldexp(dense, -exponent)
    needed = _largest_svd(dense.shape)
    if needed > _SVD_BYTES:
        if rank != 1 and (tol is None or single.error.relative_l1 > tol):
            raise ValueError(
                f"`weights` of shape {dense.shape} needs {needed / 2**30:.1f} GiB for its SVD; "
                f"expected at most {_SVD_BYTES / 2**30:.0f} GiB: crop the kernel, or pass rank=1, "
                "which needs no SVD."
            )
        return _choose([single, _refined(dense, scaled, exponent, single.terms[0])], tol)
    expansions = [_expand(scaled, order) for order in _orders(dense.ndim)]
    found = [single, *(_fewest(dense, scaled, exponent, e, tol, rank) for e in expansions)]
    if dense.ndim > 2:
        start = max(expansions, key=lambda e: float(e.weights[0])).terms(1, exponent)[0]
        found.append(_refined(dense, scaled, exponent, start))
    return _choose(found, tol)


def _choose(found: list[SeparableKernel], tol: float | None) -> SeparableKernel:
    """Return the fewest terms within `tol`, else the closest; differences in rounding do not count.

    Without `tol` the closest is meant in the least-squares sense, as an SVD means it.
    """

    def distance(kernel: SeparableKernel) -> float:
        return kernel.error.relative_l2 if tol is None else kernel.error.relative_l1

    least = min(map(distance, found))
    enough = max(least, tol or 0.0, min(4 * least, _ROUNDING))
    close = (kernel for kernel in found if distance(kernel) <= enough)
    return min(close, key=lambda kernel: (kernel.rank, distance(kernel)))


def _fewest(
    dense: Array,
    scaled: Array,
    exponent: int,
    expansion: _Expansion,
    tol: float | None,
    rank: int | None,
) -> SeparableKernel:
    """Return the leading terms of one expansion: as few as `tol` allows, at most `rank`."""

    def kernel(count: int) -> SeparableKernel:
        return _certified(dense, expansion.terms(count, exponent))

    most = min(len(expansion.weights), rank or len(expansion.weights))
    if tol is None:
        return kernel(most)
    norm = float(np.abs(scaled).sum())
    # The terms are orthogonal, so what is left after r of them has a known l2 norm, and l1 >= l2.
    tails = np.sqrt(np.cumsum(np.square(expansion.weights[::-1]))[::-1])
    hopeless = int(np.count_nonzero(tails > (tol + 64 * _EPS) * norm))
    count = min(max(1, hopeless), most)
    residual = scaled - expansion.partial(0, count)
    errors = []
    for r in range(count, most + 1):
        errors.append(float(np.abs(residual).sum()) / norm)
        if errors[-1] <= tol * (1 + 1e-9):
            candidate = kernel(r)
            if candidate.error.relative_l1 <= tol:
                return candidate
        if r < most:
            residual -= expansion.partial(r, r + 1)
    if rank is not None:
        return kernel(most)
    return kernel(count + int(np.argmax(np.array(errors) <= 4 * min(errors))))


def _certified(dense: Array, terms: Sequence[Term]) -> SeparableKernel:
    return SeparableKernel(terms, error=certified_error(dense, terms))


# -- rank one ----------------------------------------------------------------------------------------


def _fibres(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], list[npt.NDArray[Any]]]:
    """Return the place of the largest magnitude and, for each axis, the line of values through it."""
    pivot = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(values))), values.shape))
    lines = []
    for axis in range(values.ndim):
        through: tuple[int | slice, ...] = (*pivot[:axis], slice(None), *pivot[axis + 1 :])
        lines.append(values[through])
    return pivot, lines


def _integer_rank_one(dense: Array) -> SeparableKernel | None:
    """Return the exact factors with integer taps of integers times a power of two, or None."""
    mantissas, exponents = np.frexp(dense[dense != 0])
    # A float64 is an odd number of at most 53 bits times a power of two; the smallest such power is the unit.
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = int((exponents - 53 + np.frexp((whole & -whole).astype(np.float64))[1] - 1).min())
    if int(exponents.max()) - lowest > 62:
        return None
    integers = np.ldexp(dense, -lowest).astype(np.int64)
    pivot, lines = _fibres(integers)
    taps = [line // np.gcd.reduce(line) for line in lines]
    taps = [line * np.sign(line[i]) for line, i in zip(taps, pivot, strict=True)]
    factor_out, remainder = divmod(
        int(integers[pivot]), math.prod(int(line[i]) for line, i in zip(taps, pivot, strict=True))
    )
    # No product overflows: through the largest element, every element of the outer product is smaller.
    if remainder or not np.array_equal(outer([taps[0] * factor_out, *taps[1:]]), integers):
        return None
    first = np.ldexp((taps[0] * factor_out).astype(np.float64), lowest)
    return SeparableKernel([_tamed([first, *(line.astype(np.float64) for line in taps[1:])])])


def _tamed(taps: list[Array]) -> list[Array]:
    """Move powers of two to axis 0 from taps too large to be meant as integers."""
    first, *others = taps
    for i, line in enumerate(others):
        shift = math.frexp(float(np.abs(line).max()))[1]
        if shift > 24:  # beyond float32's integers
            others[i] = np.ldexp(line, -shift)
            first = np.ldexp(first, shift)
    return [first, *others]


def _cross_rank_one(dense: Array) -> SeparableKernel:
    """Return the outer product of the lines through the largest element, over that element."""
    pivot, (first, *others) = _fibres(dense)
    return _certified(dense, [(first, *(line / dense[pivot] for line in others))])


def _refined(dense: Array, scaled: Array, exponent: int, start: Term) -> SeparableKernel:
    """Return the rank-one kernel that alternating least squares finds from `start` [2 in `factor`]."""
    peaked = [line / np.abs(line).max() for line in start]
    taps = [line / np.linalg.norm(line) for line in peaked]
    parities = [_parity(line, (0,)) for line in start]
    if not (all(parities) and _parity(scaled, tuple(range(scaled.ndim)))):
        parities = [_parity(scaled, (axis,)) for axis in range(scaled.ndim)]
    norm = 0.0
    for _ in range(_SWEEPS):
        before = norm
        for axis in range(scaled.ndim):
            line = _contracted(scaled, taps, axis)
            if parities[axis]:
                line = (line + parities[axis] * line[::-1]) / 2
            norm = float(np.linalg.norm(line))
            if norm == 0.0:  # `start` is orthogonal to the kernel
                return _certified(dense, [start])
            taps[axis] = line / norm
        if norm <= before * (1 + _EPS):
            break
    expansion = _Expansion(np.array([norm]), tuple(line[np.newaxis] for line in taps))
    return _certified(dense, expansion.terms(1, exponent))


def _contracted(tensor: Array, taps: list[Array], kept: int) -> Array:
    """Return the tensor times all taps but one axis's, shape ``(n_kept,)``."""
    for axis in reversed(range(tensor.ndim)):
        if axis != kept:
            tensor = np.tensordot(tensor, taps[axis], axes=(axis, 0))
    return tensor


# -- sums of terms by staged SVD ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Expansion:
    """Orthogonal rank-one terms of one array: weights (R,), descending; unit taps (R, n) per axis."""

    weights: Array
    taps: tuple[Array, ...]

    def partial(self, start: int, stop: int) -> Array:
        """Return the sum of terms `start` to `stop`, written out."""
        shape = tuple(lines.shape[1] for lines in self.taps)
        total = np.zeros((shape[0], math.prod(shape[1:])))
        step = max(1, _BLOCK_ELEMENTS // total.shape[1])
        for begin in range(start, stop, step):
            block = slice(begin, min(begin + step, stop))
            right = np.ones((block.stop - begin, 1))
            for lines in self.taps[1:]:
                right = (right[:, :, np.newaxis] * lines[block, np.newaxis, :]).reshape(len(right), -1)
            total += (self.weights[block, np.newaxis] * self.taps[0][block]).T @ right
        return total.reshape(shape)

    def terms(self, count: int, exponent: int) -> list[Term]:
        """Return the leading terms times ``2**exponent``, weight and scale shared out over the axes.

        Shared out, so that taps of very small or large kernels stay within the range even of float32.
        """
        ndim = len(self.taps)
        shares = [exponent // ndim + (axis < exponent % ndim) for axis in range(ndim)]
        terms = []
        for r in range(count):
            root = float(self.weights[r]) ** (1 / ndim)
            lines = [lines[r] for lines in self.taps]
            for axis in range(1, ndim):  # signs: the largest tap is positive on all axes but the first
                if lines[axis][np.argmax(np.abs(lines[axis]))] < 0:
                    lines[axis], lines[0] = -lines[axis], -lines[0]
            terms.append(tuple(np.ldexp(line * root, s) for line, s in zip(lines, shares, strict=True)))
        return terms


def _orders(ndim: int) -> list[tuple[int, ...]]:
    """Return the orders in which the axes are split off; the last two axes are one SVD, in either order."""
    if ndim <= _ALL_ORDERS_NDIM:
        return [order for order in itertools.permutations(range(ndim)) if order[-2] < order[-1]]
    axes = list(range(ndim))
    return [(axis, *axes[:axis], *axes[axis + 1 :]) for axis in axes]


def _svd_bytes(shape: Sequence[int]) -> int:
    """Memory of the first and largest SVD: the parity parts, factors and LAPACK's gesdd workspace."""
    m, n = shape[0], math.prod(shape[1:])
    k = min(m, n)
    return 8 * (4 * m * n + m * k + k * n + 4 * k * k + 7 * k)


def _largest_svd(shape: tuple[int, ...]) -> int:
    return max(_svd_bytes([shape[axis] for axis in order]) for order in _orders(len(shape)))


def _expand(tensor: Array, order: tuple[int, ...]) -> _Expansion:
    turned = np.transpose(tensor, order)
    weights, taps = _staged(turned, 0.0)
    ranking = np.argsort(-weights, kind="stable")
    by_axis = dict(zip(order, taps, strict=True))
    return _Expansion(weights[ranking], tuple(by_axis[axis][ranking] for axis in range(tensor.ndim)))


def _staged(tensor: Array, floor: float) -> tuple[Array, list[Array]]:
    """Split off the first axis by an SVD, then treat each of its right vectors alike.

    Returns the weights (R,) of the terms and their unit taps (R, n) per axis. Terms not above `floor`
    are rounding noise and left out; 0.0 asks for the floor of this tensor.
    """
    left, values, right = _parity_svd(tensor)
    floor = floor or float(values.max()) * _EPS * max(tensor.shape)
    kept = values > floor
    left, values, right = left[kept], values[kept], right[kept]
    if tensor.ndim == 2:
        return values, [left, right]
    weights, taps = [], []
    for line, value, rest in zip(left, values, right, strict=True):
        inner_weights, inner_taps = _staged(rest, floor / float(value))
        weights.append(value * inner_weights)
        taps.append([np.broadcast_to(line, (len(inner_weights), line.size)), *inner_taps])
    return np.concatenate(weights), [np.concatenate(lines) for lines in zip(*taps, strict=True)]


def _parity_svd(tensor: Array) -> tuple[Array, Array, Array]:
    """SVD of the first axis against the rest, with singular vectors of the tensor's own symmetries.

    Filters run symmetric and antisymmetric taps in half the multiplications, but only exact ones, and
    an SVD returns them with rounding, or mixed where singular values coincide. A tensor that is even or
    odd through its centre is the sum of its parts even and odd along axis 0, whose row spaces are
    orthogonal: their SVDs together are one of the tensor.

    Returns
    -------
    left (r, n0), values (r,), right (r, *rest)
        Values not sorted.
    """
    rest = tuple(range(1, tensor.ndim))
    own = _parity(tensor, (0,))
    centre = _parity(tensor, (0, *rest))
    if own:
        parts = [(tensor, own)]
    elif centre:
        mirrored = np.flip(tensor, 0)
        parts = [((tensor + mirrored) / 2, 1), ((tensor - mirrored) / 2, -1)]
    else:
        parts = [(tensor, 0)]
    lefts, values, rights = [], [], []
    for part, parity in parts:
        u, s, vt = np.linalg.svd(part.reshape(len(tensor), -1), full_matrices=False)
        lefts.append(_with_parity(u.T, (1,), parity))
        values.append(s)
        right = vt.reshape(-1, *tensor.shape[1:])
        rights.append(_with_parity(right, rest, parity * centre))
    right = np.concatenate(rights)
    for axis in rest:
        right = _with_parity(right, (axis,), _parity(tensor, (axis,)))
    return np.concatenate(lefts), np.concatenate(values), right


def _parity(tensor: Array, axes: tuple[int, ...]) -> int:
    """1 if flipping the axes leaves the tensor as it is, -1 if it changes its sign, else 0; exactly."""
    mirrored = np.flip(tensor, axes)
    if np.array_equal(tensor, mirrored):
        return 1
    return -1 if np.array_equal(tensor, -mirrored) else 0


def _with_parity(vectors: Array, axes: tuple[int, ...], parity: int) -> Array:
    return (vectors + parity * np.flip(vectors, axes)) / 2 if parity else vectors
