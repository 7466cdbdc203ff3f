"""What each further rank of a form takes off the error: all ranks for the price of one factorization.

Filters, hidden channels and directions come best first, so that those of a lower rank are the leading ones of
a higher. What the rest of the form makes of them is solved for by least squares, and the leading part of a
Cholesky factor is the factor of the leading part: the errors of all ranks are partial sums of one vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..._base.types import RealArray
from .cholesky import Cholesky
from .descent import TIE, Quadratic, hidden_channels, inverse_root, leading_outputs

__all__ = ["direction_losses", "hidden_losses", "input_losses", "output_losses"]

# Columns of one product with the covariance, for outputs that are fitted apart: of more, some are looked at.
_COLUMNS: Final = 512


def input_losses(problem: Quadratic, most: int) -> RealArray:
    """Return the errors of 1 to `most` filters for each input channel, the mixing of all solved for.

    The filters are those of :func:`whitened_filters`.

    Parameters
    ----------
    problem : Quadratic
    most : int
        At most K.

    Returns
    -------
    ndarray, shape ``(most,)``
        Never rising.
    """
    channels, taps = problem.channels, problem.taps
    root, unroot = inverse_root(problem.own)
    white = root @ problem.optimum.reshape(channels, taps, -1)
    _, vectors = np.linalg.eigh(white @ white.swapaxes(1, 2))
    filters = vectors[:, :, ::-1].swapaxes(1, 2)[:, :most] @ unroot
    # All first filters, then all second ones: what a rank has are the leading rows.
    filtered = filters @ problem.gram.reshape(channels, taps, -1)
    filtered = filtered.swapaxes(0, 1).reshape(most * channels, channels, taps)
    gram = np.empty((most * channels, most, channels), filters.dtype)
    for channel, own in enumerate(filters):
        gram[:, :, channel] = filtered[:, channel] @ own.T
    wanted = (filters @ problem.pull.reshape(channels, taps, -1)).swapaxes(0, 1)
    flat = gram.reshape(most * channels, -1)
    flat[np.diag_indices_from(flat)] *= 1 + TIE
    return _falling(problem, flat, wanted.reshape(most * channels, -1), most)


def hidden_losses(problem: Quadratic, length: int, most: int) -> RealArray:
    """Return the errors of 1 to `most` hidden channels made by the first taps, the other taps solved for.

    The hidden channels are those of :meth:`Quadratic.hidden_basis`.

    Parameters
    ----------
    problem : Quadratic
    length : int
        Input channels times first taps.
    most : int
        At most `length`.

    Returns
    -------
    ndarray, shape ``(most,)``
        Never rising.
    """
    gram, pull = hidden_channels(problem, problem.hidden_basis(length)[:most])
    return _falling(problem, gram, pull, most)


def _falling(problem: Quadratic, gram: RealArray, wanted: RealArray, most: int) -> RealArray:
    """Return the errors of least squares with 1 to `most` equal parts of some unknowns, from the first on."""
    gained = np.square(Cholesky(gram).forward(wanted)).sum(axis=1).reshape(most, -1).sum(axis=1)
    losses: RealArray = problem.energy - np.cumsum(gained)
    return losses


def output_losses(problem: Quadratic, most: int) -> RealArray:
    """Return about the errors of 1 to `most` terms for each output channel.

    They are those of :func:`whitened_outputs`. Outputs are fitted apart: where there are many, some of them
    stand for all.

    Parameters
    ----------
    problem : Quadratic
    most : int
        At most ``min(I, K)``.

    Returns
    -------
    ndarray, shape ``(most,)``
    """
    count = len(problem.energies)
    step = -(-count * most // _COLUMNS)
    some = slice(None, None, step)
    part = problem.of_outputs(some) if step > 1 else problem
    optimum = problem.optimum[:, some]
    white, unright, vectors = leading_outputs(problem, optimum)
    losses, weights = np.empty(most), np.zeros_like(optimum)
    for rank in range(most):
        last = vectors[:, :, -1 - rank, np.newaxis]
        term = (white @ last) @ (last.swapaxes(1, 2) @ unright)
        weights = weights + term.reshape(len(term), -1).T
        losses[rank] = part.loss(weights)
    scale = problem.energy / part.energy if step > 1 and part.energy > 0 else 1.0
    return losses * scale


def direction_losses(problem: Quadratic, ranks: Sequence[int]) -> RealArray:
    """Return the least error of some numbers of output directions; see :meth:`Quadratic.reduction`."""
    gained = np.cumsum(problem.reduction[1])
    losses: RealArray = problem.energy - gained[np.array(ranks) - 1]
    return losses
