"""Shrinkage: how far a covariance of few data is trusted, and the target that replaces the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..algebra.descent import Quadratic
from .moments import MomentSums

__all__ = ["problems_of", "regularised", "shrinkage"]

# Fractions of the target that are tried.
_TRIED: Final = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6)

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
    gram, pull, energies, taps = problem.gram, problem.pull, problem.energies, problem.taps
    channels = problem.channels
    if fraction:
        full = gram.reshape(channels, taps, channels, taps)
        among, within = np.einsum("ikjk->ij", full), np.einsum("ikil->kl", full)
        if taps == 1:  # nothing to factor
            among = np.eye(channels) * (float(np.trace(among)) / channels)
        trace = float(np.trace(within))
        target = np.kron(among, within) / (trace or 1.0)
        expected = target @ weights
        gram = (1 - fraction) * gram + fraction * target
        pull = (1 - fraction) * pull + fraction * expected
        energies = (1 - fraction) * energies + fraction * np.sum(weights * expected, axis=0)
    # Directions in which the data do not vary are left to the original weights.
    more = ridge * (float(np.trace(gram)) / len(gram) or 1.0)
    gram = gram if fraction else gram.copy()
    gram[np.diag_indices_from(gram)] += more
    return Quadratic(gram, pull + more * weights, energies + more * np.square(weights).sum(axis=0), taps)


def shrinkage(
    halves: Sequence[MomentSums],
    taps: int,
    weights: Sequence[FloatArray],
    ridge: float,
    solve: Callable[[Quadratic], FloatArray],
) -> float:
    """Return the fraction of the target that is best for inputs that were not seen.

    Each half of the samples is fitted with every fraction that is tried, and judged by the other half. All
    samples are twice as many, and need half of the fraction that is best for one half.

    Parameters
    ----------
    halves : sequence of two MomentSums
    taps : int
        K.
    weights : sequence of ndarray, shape ``(I*K, O)``
        The original ones of each group.
    ridge : float
    solve : callable
        Returns the weights that are fitted to a problem.

    Returns
    -------
    float
    """
    counts = [half.count for half in halves]
    if not min(counts):
        return _TRIED[-1]
    if sum(counts) >= _PLENTY * len(weights[0]):
        return 0.0
    first, second = (_Half(half, taps) for half in halves)
    losses = []
    for fraction in _TRIED:
        losses.append(0.0)
        for known, unseen in ((first, second), (second, first)):
            fitted = [
                solve(regularised(problem, flat, fraction, ridge))
                for problem, flat in zip(known.problems, weights, strict=True)
            ]
            losses[-1] += unseen.loss(fitted, known)
    return _TRIED[int(np.argmin(losses))] / 2


class _Half:
    """Some of the samples: fitted to, or judged by."""

    def __init__(self, sums: MomentSums, taps: int) -> None:
        self.problems = problems_of(sums, taps)
        self.mean_x, self.mean_y = (m.reshape(len(sums.cross), -1) for m in (sums.mean_x, sums.mean_y))

    def loss(self, fitted: Sequence[FloatArray], known: _Half) -> float:
        """Return the squared error of weights whose bias comes from other samples."""
        error = 0.0
        for n, (problem, weights) in enumerate(zip(self.problems, fitted, strict=True)):
            apart = self.mean_y[n] - known.mean_y[n] - (self.mean_x[n] - known.mean_x[n]) @ weights
            error += problem.loss(weights) + float(np.square(apart).sum())
        return error
