"""Shrinkage: how far a covariance of few data is trusted, and the target that replaces the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..._base.workers import Workers
from ..algebra.descent import Quadratic
from .moments import MomentSums

__all__ = ["problems_of", "regularised", "shrinkages"]

# Fractions of the target that are tried.
_TRIED: Final = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6)

# Which of them are tried first; then those beside the best, until it has been tried between two others.
_FIRST: Final = (1, 3)

# Outputs of a group that judge a fraction, spread over them.
_OUTPUTS: Final = 64

# Patches per unknown from which the sample covariance is used without shrinkage.
_PLENTY: Final = 100


def problems_of(sums: MomentSums, taps: int) -> list[Quadratic]:
    """Return the error of each group's weights on the samples that are summed up."""
    energies = sums.variance_y.reshape(len(sums.cross), -1)
    return [
        Quadratic(gram, pull, energy, taps)
        for gram, pull, energy in zip(sums.covariance, sums.cross, energies, strict=True)
    ]


def regularised(problem: Quadratic, weights: FloatArray, fraction: float, ridge: float) -> Quadratic:
    """Shrink the covariance towards one of fewer unknowns, and leave what both leave open to the weights.

    The target, towards which the sample covariance is shrunk [1]_, is the Kronecker product of the covariance
    of channels and that of taps; with a single tap, where that is no target, channels that are independent
    and alike. On its part, the outputs wanted are those of the original weights.

    Parameters
    ----------
    problem : Quadratic
    weights : ndarray, shape ``(I*K, O)``
        The original ones.
    fraction : float
        Of the target, from 0 to 1.
    ridge : float
        This fraction of the mean variance is added to every variance.

    Returns
    -------
    Quadratic

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal
       of Multivariate Analysis 88(2), 2004; here towards a Kronecker product.
    """
    pull, energies, taps = problem.pull, problem.energies, problem.taps
    gram = (1 - fraction) * problem.gram
    if fraction:
        shape = (problem.channels, taps)
        full = problem.gram.reshape(*shape, *shape)
        among, within = np.einsum("ikjk->ij", full), np.einsum("ikil->kl", full)
        if taps == 1:  # nothing to factor
            among = np.eye(shape[0]) * (float(np.trace(among)) / shape[0])
        within = within / (float(np.trace(within)) or 1.0)
        shrunk = gram.reshape(*shape, *shape)
        for channel, row in enumerate(fraction * among):  # row by row: nothing else of the size of `gram`
            shrunk[channel] += within[:, np.newaxis, :] * row[:, np.newaxis]
        along_taps = (within @ weights.reshape(*shape, -1)).reshape(shape[0], -1)
        expected = (among @ along_taps).reshape(weights.shape)
        pull = (1 - fraction) * pull + fraction * expected
        energies = (1 - fraction) * energies + fraction * np.sum(weights * expected, axis=0)
    # Directions in which the data do not vary are left to the original weights.
    more = ridge * (float(np.trace(gram)) / len(gram) or 1.0)
    gram[np.diag_indices_from(gram)] += more
    return Quadratic(gram, pull + more * weights, energies + more * np.square(weights).sum(axis=0), taps)


def shrinkages(
    halves: Sequence[MomentSums],
    taps: int,
    weights: Sequence[FloatArray],
    ridge: float,
    solvers: Mapping[str, Callable[[Quadratic], FloatArray]],
    workers: Workers | None = None,
) -> dict[str, float]:
    """Return the fraction of the target that is best for inputs that were not seen, for each of some forms.

    Each half of the samples is fitted with the fractions that are tried, and judged by the other half. All
    samples are twice as many, and need half of the fraction that is best for one half.

    Parameters
    ----------
    halves : sequence of two MomentSums
    taps : int
        K.
    weights : sequence of ndarray, shape ``(I*K, O)``
        The original ones of each group.
    ridge : float
    solvers : mapping of str to callable
        By form: returns the weights that are fitted to a problem. What they ask of a problem, such as its
        factor, they share.
    workers : Workers, optional

    Returns
    -------
    dict of str to float
    """
    counts = [half.count for half in halves]
    if not min(counts):
        return dict.fromkeys(solvers, _TRIED[-1])
    if sum(counts) >= _PLENTY * len(weights[0]):
        return dict.fromkeys(solvers, 0.0)
    first, second = (_Half(half, taps) for half in halves)
    run = (workers or Workers()).map

    def judged(fraction: float, pair: tuple[_Half, _Half]) -> dict[str, float]:
        known, unseen = pair
        problems = [
            regularised(problem, flat, fraction, ridge)
            for problem, flat in zip(known.problems, weights, strict=True)
        ]
        return {
            form: unseen.loss([solve(problem) for problem in problems], known)
            for form, solve in solvers.items()
        }

    losses: dict[int, dict[str, float]] = {}
    waiting = set(_FIRST)
    while waiting:
        for place in sorted(waiting):
            one, other = run(partial(judged, _TRIED[place]), ((first, second), (second, first)))
            losses[place] = {form: one[form] + other[form] for form in solvers}
        best = {form: min((tried[form], place) for place, tried in losses.items())[1] for form in solvers}
        beside = {place + step for place in best.values() for step in (-1, 1)}
        waiting = {place for place in beside if 0 <= place < len(_TRIED)} - losses.keys()
    return {form: _TRIED[place] / 2 for form, place in best.items()}


class _Half:
    """Some of the samples: fitted to, or judged by."""

    def __init__(self, sums: MomentSums, taps: int) -> None:
        self.problems = problems_of(sums, taps)
        self.mean_x, self.mean_y = (m.reshape(len(sums.cross), -1) for m in (sums.mean_x, sums.mean_y))

    def loss(self, fitted: Sequence[FloatArray], known: _Half) -> float:
        """Return the squared error of weights whose bias comes from other samples, on some of the outputs."""
        error = 0.0
        for n, (problem, weights) in enumerate(zip(self.problems, fitted, strict=True)):
            some = slice(None, None, -(-weights.shape[1] // _OUTPUTS))
            apart = self.mean_y[n] - known.mean_y[n] - (self.mean_x[n] - known.mean_x[n]) @ weights
            error += problem.of_outputs(some).loss(weights[:, some]) + float(np.square(apart[some]).sum())
        return error
