"""The algorithms that fit a separable form to data: least squares over products of small tensors.

All data enter through one quadratic form. With patches x and wanted outputs y, both centred, a layer of
weights W (of shape ``(C_in*K, C_out)`` here) errs by ``E|y - W'x|**2 = energy - 2 <W, pull> + <W, gram W>``
where gram = E xx', pull = E xy' and energy = E|y|**2. A form is a way to write W as a product; every
function here lowers that error over one of its factors, or solves for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from ..._base.types import RealArray
from .cholesky import Cholesky

__all__ = [
    "TAPS_AT_ONCE",
    "TIE",
    "Quadratic",
    "alternate_outputs",
    "descend_inputs",
    "descend_reduction",
    "hidden_channels",
    "inverse_root",
    "leading_filters",
    "leading_outputs",
    "orthonormal_terms",
    "whitened_filters",
    "whitened_outputs",
]

# Maximum total taps of filters solved in one dense system; more are solved in groups. Such a system is
# factored in a fiftieth of a second and takes 8 MiB.
TAPS_AT_ONCE: Final = 1024

# Equations from which on systems that are solved side by side are factored as symmetric ones: of 512 in half
# the time of LAPACK's LU decomposition, of fewer in more.
_FACTORED: Final = 512

# Work is done about 32 MiB at a time.
_ELEMENTS_AT_ONCE: Final = 1 << 22

# Added to the unit diagonal of a Gram matrix of terms: nearly collinear terms share their mixing.
# Less of it leaves large numbers that cancel, which eight bits cannot hold: with 1e-11 the int8 error of a
# net on digits is seven times that with 5e-4 (0.146, 0.020 of the variance), in float it is the same.
TIE: Final = 1e-4

# Levenberg-Marquardt damping: its initial value, its factors after a step that lowered the error and after
# one that did not, and the value from which on steps are too small to matter.
_DAMPING: Final = 1e-3
_EASIER: Final = 0.25
_HARDER: Final = 10.0
_STUCK: Final = 1e6

# Roundings of the energy that a sweep has to gain, at least; one for each block of a long one.
_ROUNDINGS: Final = 5


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The error of a layer on data, as a function of its weights.

    Attributes
    ----------
    gram : ndarray, shape ``(I*K, I*K)``, symmetric positive definite
    pull : ndarray, shape ``(I*K, O)``
    energies : ndarray, shape ``(O,)``
        Of each output; `energy` is their sum.
    taps : int
        K.
    """

    gram: RealArray
    pull: RealArray
    energies: RealArray
    taps: int
    _bases: dict[int, RealArray] = field(default_factory=dict, init=False, repr=False)

    @property
    def energy(self) -> float:
        """What no weights at all would err by."""
        return float(self.energies.sum())

    @property
    def channels(self) -> int:
        """I, the input channels."""
        return len(self.gram) // self.taps

    @cached_property
    def own(self) -> RealArray:
        """Each channel's own block of `gram`, shape ``(I, K, K)``."""
        channels, taps = self.channels, self.taps
        blocks: RealArray = np.einsum("ikil->ikl", self.gram.reshape(channels, taps, channels, taps)).copy()
        return blocks

    @cached_property
    def factor(self) -> Cholesky:
        """Of `gram`: whatever is wanted of the same inputs is solved for with it."""
        return Cholesky(self.gram)

    @cached_property
    def optimum(self) -> RealArray:
        """The dense weights that err least, shape ``(I*K, O)``."""
        return self.factor.solve(self.pull)

    @cached_property
    def least(self) -> float:
        """The error of the optimum."""
        return self.energy - float(np.sum(self.optimum * self.pull))

    @cached_property
    def reduction(self) -> tuple[RealArray, RealArray]:
        """The output directions that a layer of few hidden channels should keep, the best first.

        Reduced-rank regression [1]_: of all weights of rank r the best are the optimum times ``U U'``, U the
        first r directions (orthonormal columns, shape ``(O, min(O, I*K))``), and each direction lowers the
        error by its gain (shape ``(min(O, I*K),)``); no other direction lowers it.

        References
        ----------
        .. [1] A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of
           Multivariate Analysis 5(2), 1975.
        """
        inputs, outputs = self.pull.shape
        if outputs > inputs:  # as of the classes behind a network: (O, O) would not end
            _, roots, directions = np.linalg.svd(self.factor.forward(self.pull), full_matrices=False)
            return directions.T, np.square(roots)
        explained = self.pull.T @ self.optimum
        values, vectors = np.linalg.eigh((explained + explained.T) / 2)
        return vectors[:, ::-1], np.maximum(values[::-1], 0.0)

    def hidden_basis(self, length: int) -> RealArray:
        """Return hidden channels to start :func:`descend_reduction` from, all of them, the best first.

        They are best where `gram` is a Kronecker product of a covariance of the first taps and a multiple of
        the identity. Each is made of `length` numbers, input channels times first taps.
        """
        if length not in self._bases:
            rest = len(self.gram) // length
            own = np.einsum("ilkl->ik", self.gram.reshape(length, rest, length, rest))
            root, unroot = inverse_root(own)
            white = root @ self.optimum.reshape(length, -1)
            _, vectors = np.linalg.eigh(white @ white.T)
            self._bases[length] = vectors.T[::-1] @ unroot
        return self._bases[length]

    def loss(self, weights: RealArray) -> float:
        """Return the error of weights of shape ``(I*K, O)``, which are rounded to the precision of `gram`."""
        weights = weights.astype(self.gram.dtype, copy=False)  # or `gram` would be copied as the wider type
        return self.energy + float(np.sum(weights * (self.gram @ weights - 2 * self.pull), dtype=np.float64))

    def aimed(self, pull: RealArray, energies: RealArray) -> Quadratic:
        """Return the error on the same inputs of another wanted output."""
        other = Quadratic(self.gram, pull.astype(self.gram.dtype, copy=False), energies, self.taps)
        vars(other).update({name: vars(self)[name] for name in ("own", "factor") if name in vars(self)})
        return other

    def of_outputs(self, some: slice) -> Quadratic:
        """Return the error of some of the outputs."""
        return self.aimed(self.pull[:, some], self.energies[some])


def inverse_root(matrices: RealArray) -> tuple[RealArray, RealArray]:
    """Return the symmetric roots of positive definite matrices (..., n, n), and the inverses of the roots."""
    values, vectors = np.linalg.eigh(matrices)
    # What the rounding of a singular matrix leaves below 0 counts as the smallest that can be told from 0.
    limits = np.finfo(values.dtype)
    floor = limits.eps * np.abs(values).max(axis=-1, keepdims=True) + limits.tiny
    roots = np.sqrt(np.maximum(values, floor))[..., np.newaxis, :]
    turned = vectors.swapaxes(-1, -2)
    return (vectors * roots) @ turned, (vectors / roots) @ turned


# -- depthwise, then pointwise -----------------------------------------------------------------------


class _Mixed:
    """Filters of input channels and, solved for, the mixing that follows: the state of the descent."""

    def __init__(self, problem: Quadratic, owner: npt.NDArray[np.intp], filters: RealArray) -> None:
        self.problem, self.owner = problem, owner
        self.filters = filters
        self.filtered = _filtered_gram(problem, owner, filters)
        self.gram = _filtered(self.filtered, owner, filters)
        self.wanted = _filtered(problem.pull.T, owner, filters).T
        self._solve()

    def _solve(self) -> None:
        gram = self.gram.copy()
        gram[np.diag_indices_from(gram)] *= 1 + TIE
        self.factor = Cholesky(gram)
        self.mixing = self.factor.solve(self.wanted)
        self.loss = self.problem.energy - float(np.sum(self.mixing * self.wanted))

    def with_filters(self, terms: slice, filters: RealArray) -> _Mixed:
        """Return the state with some terms' filters exchanged."""
        other = object.__new__(_Mixed)
        other.problem, other.owner = self.problem, self.owner
        owner, taps = self.owner[terms], self.problem.taps
        other.filters = _exchanged(self.filters, terms, filters)
        other.filtered = _exchanged(self.filtered, terms, _filtered_gram(self.problem, owner, filters))
        first, last = int(owner[0]), int(owner[-1]) + 1
        own = slice(first * taps, last * taps)
        wanted = _filtered(self.problem.pull[own].T, owner - first, filters).T
        other.wanted = _exchanged(self.wanted, terms, wanted)
        other.gram = self.gram.copy()
        other.gram[:, terms] = _filtered(other.filtered[:, own], owner - first, filters)
        other.gram[terms] = other.gram[:, terms].T
        other._solve()
        return other


def _exchanged(rows: RealArray, some: slice, new: RealArray) -> RealArray:
    if len(new) == len(rows):
        return new
    exchanged = rows.copy()
    exchanged[some] = new
    return exchanged


def _filtered(rows: RealArray, owner: npt.NDArray[np.intp], filters: RealArray) -> RealArray:
    """Filter each channel of rows (n, I*K) by its terms' filters, to (n, R)."""
    filtered = np.empty((len(rows), len(owner)), rows.dtype)
    by_tap = rows.reshape(len(rows), -1, filters.shape[1])
    step = max(1, _ELEMENTS_AT_ONCE // filters.size)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        np.einsum("nrk,rk->nr", by_tap[some][:, owner], filters, out=filtered[some])
    return filtered


def _filtered_gram(problem: Quadratic, owner: npt.NDArray[np.intp], filters: RealArray) -> RealArray:
    """Return the covariance of each filtered channel with every patch entry, shape ``(R, I*K)``."""
    rows = problem.gram.reshape(problem.channels, problem.taps, -1)
    products = np.empty((len(owner), rows.shape[2]), rows.dtype)
    step = max(1, _ELEMENTS_AT_ONCE // rows[0].size)
    for start in range(0, len(owner), step):
        some = slice(start, start + step)
        products[some] = np.matmul(filters[some, np.newaxis], rows[owner[some]])[:, 0]
    return products


def orthonormal_terms(filters: RealArray, ranks: Sequence[int], own: RealArray) -> RealArray:
    """Return filters (R, K) that span the same for each channel, orthonormal in its covariance."""
    orthonormal = filters.copy()
    ends = np.cumsum(ranks)
    for rank in sorted(set(ranks) - {0}):
        members = np.flatnonzero(np.array(ranks) == rank)
        rows = (ends[members] - rank)[:, np.newaxis] + np.arange(rank)
        some = filters[rows]
        grams = some @ own[members] @ some.swapaxes(1, 2)
        values, vectors = np.linalg.eigh(grams)
        limits = np.finfo(values.dtype)
        values = np.maximum(values, limits.tiny + 450 * limits.eps * values[:, -1:])
        orthonormal[rows] = (vectors.swapaxes(1, 2) / np.sqrt(values)[:, :, np.newaxis]) @ some
    return orthonormal


def whitened_filters(problem: Quadratic, ranks: Sequence[int]) -> RealArray:
    """Return the filters of each input channel that are best where channels are uncorrelated.

    Parameters
    ----------
    problem : Quadratic
    ranks : sequence of int, length I
        Terms of each channel.

    Returns
    -------
    ndarray, shape ``(R, K)``
        R is the sum of the ranks. Zeros where a channel has fewer than its rank.
    """
    channels, taps = problem.channels, problem.taps
    root, unroot = inverse_root(problem.own)
    white = root @ problem.optimum.reshape(channels, taps, -1)
    _, vectors = np.linalg.eigh(white @ white.swapaxes(1, 2))
    # A channel may have no more filters than taps, however many it is asked for.
    filters = np.zeros((channels, max(ranks, default=0), taps), white.dtype)
    most = min(filters.shape[1], taps)
    filters[:, :most] = vectors[:, :, ::-1].swapaxes(1, 2)[:, :most] @ unroot
    kept: RealArray = filters[np.arange(filters.shape[1]) < np.array(ranks)[:, np.newaxis]]
    return kept


def descend_inputs(
    problem: Quadratic, ranks: Sequence[int], filters: RealArray, sweeps: int, tolerance: float
) -> tuple[RealArray, RealArray, float]:
    """Fit the filters of each input channel, and the mixing of all.

    The mixing is solved for exactly at every point, so that only filters are moved: variable projection
    [1]_ with Kaufman's approximation of the second derivative, damped so that no step increases the error.

    Parameters
    ----------
    problem : Quadratic
    ranks : sequence of int, length I
        Terms of each channel.
    filters : ndarray, shape ``(R, K)``
        To start from; R is the sum of the ranks.
    sweeps : int
        Times that every filter is moved, at most.
    tolerance : float
        Stop where a sweep gains less than this fraction of the error.

    Returns
    -------
    filters : ndarray, shape ``(R, K)``
    mixing : ndarray, shape ``(R, O)``
    loss : float

    References
    ----------
    .. [1] G. Golub, V. Pereyra, Separable nonlinear least squares: the variable projection method and its
       applications, Inverse Problems 19(2), 2003.
    """
    owner = np.repeat(np.arange(len(ranks)), ranks)
    state = _Mixed(problem, owner, orthonormal_terms(filters, ranks, problem.own))
    blocks = _blocks(ranks, problem.taps)
    damping = [_DAMPING] * len(blocks)
    # Gains are differences of losses that are as uncertain as what they are the small rest of.
    rounding = max(_ROUNDINGS, len(blocks)) * np.finfo(problem.gram.dtype).eps * problem.energy
    for _ in range(sweeps):
        before = state.loss
        for number, (channels, terms) in enumerate(blocks):
            state, damping[number] = _moved(state, ranks, channels, terms, damping[number])
        if before - state.loss <= tolerance * max(before, 0.0) + rounding:
            break
    return state.filters, state.mixing, state.loss


def _blocks(ranks: Sequence[int], taps: int) -> list[tuple[slice, slice]]:
    """Cut channels into runs of few enough filters; return the channels and the terms of each run."""
    ends = np.cumsum(ranks)
    blocks, start = [], 0
    while start < len(ranks):
        first = int(ends[start]) - ranks[start]
        stop = max(start + 1, int(np.searchsorted(ends, first + TAPS_AT_ONCE // taps, side="right")))
        if ends[stop - 1] > first:
            blocks.append((slice(start, stop), slice(first, int(ends[stop - 1]))))
        start = stop
    return blocks


def _moved(
    state: _Mixed, ranks: Sequence[int], channels: slice, terms: slice, damping: float
) -> tuple[_Mixed, float]:
    """Take one damped step with the filters of some channels; return the better state."""
    problem, taps = state.problem, state.problem.taps
    owner, mixing = state.owner[terms], state.mixing[terms]
    columns = (owner[:, np.newaxis] * taps + np.arange(taps)).reshape(-1)
    seen = state.filtered[:, columns]
    left = problem.pull[columns] - seen.T @ state.mixing
    slope = np.matmul(left.reshape(len(owner), taps, -1), mixing[:, :, np.newaxis])[:, :, 0]
    # A Schur complement: the covariance given all filtered channels, which no mixing of them can explain.
    curvature = problem.gram[np.ix_(columns, columns)]
    white = state.factor.forward(seen)
    curvature -= white.T @ white
    alike = mixing @ mixing.T
    count = len(owner)
    curvature.reshape(count, taps, count, taps)[...] *= alike[:, np.newaxis, :, np.newaxis]
    diagonal = np.diagonal(alike)[:, np.newaxis, np.newaxis] * problem.own[owner]
    least = 1e-12 * float(np.trace(curvature)) / len(curvature)
    if least <= 0:
        return state, damping  # no output depends on these channels
    own_block = np.arange(count)
    inner = ranks[channels]
    while damping < _STUCK:
        damped = curvature.copy()
        damped.reshape(count, taps, count, taps)[own_block, :, own_block, :] += damping * diagonal
        damped[np.diag_indices_from(damped)] += least
        try:
            step = Cholesky(damped).solve(slope.reshape(-1)).reshape(count, taps)
            moved = orthonormal_terms(state.filters[terms] + step, inner, problem.own[channels])
            other = state.with_filters(terms, moved)
        except np.linalg.LinAlgError:  # few data in single precision: more damping outweighs the rounding
            damping *= _HARDER
            continue
        if other.loss < state.loss:
            return other, max(damping * _EASIER, 1e-9)
        damping *= _HARDER
    return state, _DAMPING


# -- pointwise, then depthwise -----------------------------------------------------------------------


def leading_filters(problem: Quadratic, weights: RealArray, rank: int) -> RealArray:
    """Return the filters of each output that are best where `gram` is a Kronecker product.

    Parameters
    ----------
    problem : Quadratic
    weights : ndarray, shape ``(I*K, O)``
        Dense ones, to be approximated.
    rank : int
        At most ``min(I, K)``.

    Returns
    -------
    ndarray, shape ``(O, rank, K)``
    """
    _, unright, vectors = leading_outputs(problem, weights)
    return vectors[:, :, -rank:].swapaxes(1, 2) @ unright


def whitened_outputs(problem: Quadratic, rank: int) -> RealArray:
    """Return weights of `rank` terms for each output that are best where `gram` is a Kronecker product.

    Parameters
    ----------
    problem : Quadratic
    rank : int

    Returns
    -------
    ndarray, shape ``(I*K, O)``
    """
    white, unright, vectors = leading_outputs(problem, problem.optimum)
    kept = vectors[:, :, -rank:]
    weights: RealArray = (white @ kept @ kept.swapaxes(1, 2) @ unright).reshape(len(white), -1).T
    return weights


def leading_outputs(problem: Quadratic, weights: RealArray) -> tuple[RealArray, RealArray, RealArray]:
    """Return what the terms of each output are made of that are best where `gram` is a Kronecker product.

    Parameters
    ----------
    problem : Quadratic
    weights : ndarray, shape ``(I*K, O)``

    Returns
    -------
    white : ndarray, shape ``(O, I, K)``
        The weights, whitened along their taps.
    unright : ndarray, shape ``(K, K)``
        Undoes that.
    vectors : ndarray, shape ``(O, K, K)``
        In columns the filters of whitened taps, the best last.
    """
    channels, taps = problem.channels, problem.taps
    full = problem.gram.reshape(channels, taps, channels, taps)
    # The marginals of a Kronecker product are its factors, but for scale.
    (left, _), (right, unright) = inverse_root(np.einsum("ikjk", full)), inverse_root(np.einsum("ikil", full))
    white = weights.T.reshape(-1, channels, taps) @ right
    # The right singular vectors, from the K x K products: there are far fewer taps than channels.
    scaled = left @ white
    return white, unright, np.linalg.eigh(scaled.swapaxes(1, 2) @ scaled)[1]


def alternate_outputs(
    problem: Quadratic, filters: RealArray, sweeps: int, tolerance: float
) -> tuple[RealArray, RealArray, float]:
    """Fit the filters of each output channel and its mixing; outputs do not depend on each other.

    Mixing and filters are solved for in turn.

    Parameters
    ----------
    problem : Quadratic
    filters : ndarray, shape ``(O, T, K)``
        To start from.
    sweeps : int
        Turns, at most.
    tolerance : float
        An output is left alone once a turn gains less than this fraction of its error.

    Returns
    -------
    filters : ndarray, shape ``(O, T, K)``
    mixing : ndarray, shape ``(O, T, I)``
    loss : float
    """
    channels, taps = problem.channels, problem.taps
    pulls = problem.pull.T.reshape(-1, channels, taps)
    full = problem.gram.reshape(channels, taps, channels, taps)
    pairs = full.transpose(1, 3, 0, 2).reshape(taps * taps, channels * channels)
    count = max(1, _ELEMENTS_AT_ONCE // (filters.shape[1] * channels) ** 2)
    solutions = [
        _alternated(pulls[some], problem.energies[some], pairs, filters[some], sweeps, tolerance)
        for some in (slice(start, start + count) for start in range(0, len(pulls), count))
    ]
    fitted, mixing = (np.concatenate([solution[place] for solution in solutions]) for place in (0, 1))
    return fitted, mixing, sum(float(solution[2].sum()) for solution in solutions)


def _alternated(
    pulls: RealArray,
    energies: RealArray,
    pairs: RealArray,
    filters: RealArray,
    sweeps: int,
    tolerance: float,
) -> tuple[RealArray, RealArray, RealArray]:
    """Solve for the mixing (B, T, I) and the filters (B, T, K) in turn, several outputs at once.

    `pairs` is the covariance, shape ``(K*K, I*I)``; `pulls` has shape ``(B, I, K)``.
    """
    filters = filters.copy()
    mixing = np.zeros((*filters.shape[:2], pulls.shape[1]), pulls.dtype)
    losses, going = energies.copy(), np.arange(len(pulls))
    for _ in range(max(sweeps, 1)):
        pull, before = pulls[going], losses[going]
        # Orthonormal rows span the same and keep the equations solvable where the terms are dependent.
        basis = _orthonormal(filters[going])
        mixing[going] = _orthonormal(_solved(_gram(basis, pairs), basis @ pull.swapaxes(1, 2)))
        pulled = mixing[going] @ pull
        filters[going] = _solved(_gram(mixing[going], pairs.T), pulled)
        losses[going] = energies[going] - np.sum(filters[going] * pulled, axis=(1, 2))
        gained = before - losses[going]
        going = going[gained > np.maximum(tolerance * before, 1e-15 * energies[going])]
        if not len(going):
            break
    return filters, mixing, losses


def _orthonormal(rows: RealArray) -> RealArray:
    basis: RealArray = np.linalg.qr(rows.swapaxes(1, 2))[0].swapaxes(1, 2)
    return basis


def _gram(rows: RealArray, pairs: RealArray) -> RealArray:
    """Return the normal equations (B, T*n, T*n) of what multiplies `rows` (B, T, m); pairs (m*m, n*n)."""
    count, terms, length = rows.shape
    products = rows[:, :, np.newaxis, :, np.newaxis] * rows[:, np.newaxis, :, np.newaxis, :]
    blocks = products.reshape(-1, length * length) @ pairs
    size = math.isqrt(pairs.shape[1])
    shaped = blocks.reshape(count, terms, terms, size, size).swapaxes(2, 3)
    return shaped.reshape(count, terms * size, terms * size)


def _solved(grams: RealArray, right: RealArray) -> RealArray:
    if grams.shape[1] >= _FACTORED:
        flat = right.reshape(len(right), -1)
        solved = [Cholesky(gram).solve(b) for gram, b in zip(grams, flat, strict=True)]
        return np.stack(solved).reshape(right.shape)
    column = right.reshape(len(right), -1, 1)  # NumPy before 2.0 takes two axes for one matrix
    return np.asarray(np.linalg.solve(grams, column)).reshape(right.shape)


# -- fewer channels in between -----------------------------------------------------------------------


def _hidden(problem: Quadratic, rows: RealArray) -> tuple[RealArray, RealArray, RealArray]:
    """Return the covariance of hidden patches with all patches, with each other and with what is wanted."""
    hidden, length = rows.shape
    rest = len(problem.gram) // length
    # (r*L, J*L): the covariance of the hidden patches with the patches.
    seen = (rows @ problem.gram.reshape(length, -1)).reshape(hidden * rest, -1)
    gram = rows @ np.moveaxis(seen.reshape(-1, length, rest), 1, 0).reshape(length, -1)
    gram = gram.reshape(hidden, hidden * rest, rest).swapaxes(0, 1).reshape(hidden * rest, -1)
    gram[np.diag_indices_from(gram)] *= 1 + TIE
    return seen, gram, (rows @ problem.pull.reshape(length, -1)).reshape(hidden * rest, -1)


def hidden_channels(problem: Quadratic, rows: RealArray) -> tuple[RealArray, RealArray]:
    """Return the covariance of hidden channels, made orthonormal in turn, and that with what is wanted.

    Parameters
    ----------
    problem : Quadratic
    rows : ndarray, shape ``(r, J)``

    Returns
    -------
    gram : ndarray, shape ``(r*L, r*L)``
    pull : ndarray, shape ``(r*L, O)``
    """
    return _hidden(problem, _orthonormal(rows[np.newaxis])[0])[1:]


class _Reduction:
    """Hidden channels made by the first taps, and, solved for, what the other taps make of them."""

    def __init__(self, problem: Quadratic, rows: RealArray) -> None:
        self.problem, self.rows = problem, rows
        self.seen, self.gram, self.pull = _hidden(problem, rows)
        self.rest = Cholesky(self.gram).solve(self.pull)
        self.loss = problem.energy - float(np.sum(self.rest * self.pull))

    @property
    def slope(self) -> RealArray:
        """Half the gradient of the loss with respect to the first taps, shape ``(r, J)``."""
        left = self.seen.T @ self.rest - self.problem.pull
        return self.rest.reshape(len(self.rows), -1) @ left.reshape(self.rows.shape[1], -1).T

    @property
    def hidden(self) -> Quadratic:
        """The error as a function of what the other taps make of the hidden channels."""
        return Quadratic(self.gram, self.pull, self.problem.energies, len(self.gram) // len(self.rows))


def descend_reduction(
    problem: Quadratic, rows: RealArray, sweeps: int, tolerance: float
) -> tuple[RealArray, Quadratic, float]:
    """Fit weights ``W[(j, l), o] = sum_r rows[r, j] * rest[r, l, o]``, J first and L other taps.

    `rest` is solved for at every point; `rows` moves by conjugate gradients, preconditioned by what the
    second derivative is where the covariance is a Kronecker product.

    Parameters
    ----------
    problem : Quadratic
    rows : ndarray, shape ``(r, J)``
        To start from. J has the input channel and the first taps.
    sweeps : int
        Steps, at most.
    tolerance : float
        Stop where a step gains less than this fraction of the error.

    Returns
    -------
    rows : ndarray, shape ``(r, J)``
    hidden : Quadratic
        The problem that is left for the other taps: r channels of L taps.
    loss : float
    """
    length = rows.shape[1]
    rest = len(problem.gram) // length
    full = problem.gram.reshape(length, rest, length, rest)
    first = np.einsum("ilkl->ik", full) / rest
    least = max(1e-9, 10 * float(np.finfo(first.dtype).eps))
    first[np.diag_indices_from(first)] += least * np.trace(first) / length
    scaled = Cholesky(first)
    state = _Reduction(problem, _orthonormal(rows[np.newaxis])[0])
    direction, last = np.zeros_like(rows), (np.zeros_like(rows), 0.0)
    for _ in range(sweeps):
        slope = state.slope
        wide = state.rest.reshape(len(rows), -1)
        scale = wide @ wide.T
        if not scale.any():
            break  # the other taps are all zero
        scale[np.diag_indices_from(scale)] += least * np.trace(scale) / len(scale)
        steepest: RealArray = -Cholesky(scale).solve(scaled.solve(slope.T).T)
        size = -float(np.sum(steepest * slope))
        turn = max(0.0, size + float(np.sum(steepest * last[0]))) / last[1] if last[1] > 0 else 0.0
        direction = steepest + turn * direction
        if np.sum(direction * slope) >= 0:
            direction = steepest
        other = _searched(problem, state, direction, float(np.sum(direction * slope)))
        gained = state.loss - other.loss
        state, last = other, (slope, size)
        if gained <= tolerance * max(state.loss, 0.0) + 1e-15 * problem.energy:
            break
    return state.rows, state.hidden, state.loss


def _reached(problem: Quadratic, rows: RealArray) -> _Reduction | None:
    """Return the state with some rows; None where numbers are too large, or too alike, to be told apart."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            other = _Reduction(problem, rows)
        except np.linalg.LinAlgError:
            return None
    return other if math.isfinite(other.loss) else None


def _searched(problem: Quadratic, state: _Reduction, direction: RealArray, slope: float) -> _Reduction:
    """Return the best of a few points along a direction; `state` itself where none is better."""
    best, step = state, 1.0
    for _ in range(4):
        other = _reached(problem, state.rows + step * direction)
        if other is None:  # too far for the precision
            if best is not state:
                break
            step *= 0.1
            continue
        # The parabola through the loss and its slope here and the loss there; slope is half the gradient.
        bend = other.loss - state.loss - 2 * slope * step
        if other.loss < best.loss:
            best = other
        elif best is not state:
            break
        wanted = -slope * step * step / bend if bend > 0 else 4 * step
        if best is not state and abs(wanted - step) < 0.3 * step:
            break
        step = min(max(wanted, 0.1 * step), 4 * step)
    return best
