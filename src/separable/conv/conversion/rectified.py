"""Wanted outputs behind an activation: of what a rectifier cuts off, whatever lies below is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ..forms.activation import Activation, activation_of
from .moments import Excerpt, MomentSums

__all__ = ["Aim"]

# Rows of an excerpt that are worked on at once.
_ROWS_AT_ONCE: Final = 4096


class Aim:
    """What a layer's wanted outputs become when all is right that comes out of the activation as it should.

    Parameters
    ----------
    seen : MomentSums
    excerpt : Excerpt
    flats : sequence of ndarray, shape ``(I*K, O)``
        What the layer's weights are in each group.
    mean_y : ndarray, shape ``(C_out,)``
        The mean of what it gives.
    activation : Activation, str or None
        None: a rectifier.

    Attributes
    ----------
    error : float
        Mean squared error behind the activation.
    shift : ndarray, shape ``(C_out,)``
        Change of the mean of the wanted outputs.
    pulls, energies : list of ndarray
        For each group the changes of its covariance with the patches, ``(I*K, O)``, and of its variance.
    """

    def __init__(
        self,
        seen: MomentSums,
        excerpt: Excerpt,
        flats: Sequence[FloatArray],
        mean_y: FloatArray,
        activation: Activation | str | None = None,
    ) -> None:
        known = activation_of(activation) or Activation("relu")
        count, groups = len(excerpt.x), len(flats)
        means = seen.mean_x.reshape(groups, -1)
        size, outputs = flats[0].shape
        cross, sum_x = np.zeros((groups, size, outputs)), np.zeros((groups, size))
        sum_d, sum_y, squares = (np.zeros((groups, outputs)) for _ in range(3))
        self.error = 0.0
        for start in range(0, count, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            for g in range(groups):
                ins, outs = slice(g * size, (g + 1) * size), slice(g * outputs, (g + 1) * outputs)
                # Products of a few thousand rows in single precision, sums of them in double.
                x = excerpt.x[rows, ins] - means[g].astype(np.float32)
                y, floor = excerpt.y[rows, outs], excerpt.floor[rows, outs]
                given = x @ flats[g].astype(np.float32) + mean_y[outs].astype(np.float32)
                own = known.of(outs)
                self.error += _squares(own(y - floor) - own(given - floor)).sum() / count
                change = own.aim(y - floor, given - floor) - (y - floor)
                centred = y - seen.mean_y[outs].astype(np.float32)
                cross[g] += x.T @ change
                sum_x[g] += x.sum(axis=0, dtype=np.float64)
                sum_d[g] += change.sum(axis=0, dtype=np.float64)
                sum_y[g] += centred.sum(axis=0, dtype=np.float64)
                squares[g] += _squares(change + centred) - _squares(centred)
        shift = sum_d / count
        self.shift: FloatArray = shift.reshape(-1)
        self.pulls = list(cross / count - np.einsum("gi,go->gio", sum_x / count, shift))
        self.energies = list(squares / count - shift * (shift + 2 * sum_y / count))


def _squares(values: npt.NDArray[np.float32]) -> FloatArray:
    """Return the sum of squares of each column."""
    return np.asarray(np.einsum("no,no->o", values, values, dtype=np.float64), np.float64)
