"""Wanted outputs behind an activation: of what a rectifier cuts off, whatever lies below is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray, RealArray
from ..._base.workers import Workers
from ..forms.activation import Activation, activation_of
from .moments import Excerpt, Means

__all__ = ["Aim"]

_Sums: TypeAlias = tuple[FloatArray, ...]

# Rows of an excerpt that are worked on at once.
_ROWS_AT_ONCE: Final = 4096


class Aim:
    """What a layer's wanted outputs become when all is right that comes out of the activation as it should.

    Parameters
    ----------
    seen : Means
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
        seen: Means,
        excerpt: Excerpt,
        flats: Sequence[RealArray],
        mean_y: FloatArray,
        activation: Activation | str | None = None,
        workers: Workers | None = None,
    ) -> None:
        known = activation_of(activation) or Activation("relu")
        count, groups = len(excerpt.x), len(flats)
        means = seen.x.reshape(groups, -1).astype(np.float32)
        single = [flat.astype(np.float32) for flat in flats]

        def sums_of(start: int) -> list[_Sums]:
            rows = slice(start, start + _ROWS_AT_ONCE)
            return [_sums(seen, excerpt, rows, g, single[g], means[g], mean_y, known) for g in range(groups)]

        starts = range(0, count, _ROWS_AT_ONCE)
        total: list[list[FloatArray]] = []
        for sums in (workers or Workers()).map(sums_of, starts):
            for g, one in enumerate(sums):
                if len(total) <= g:
                    total.append([np.asarray(part, np.float64) for part in one])
                    continue
                for whole, part in zip(total[g], one, strict=True):
                    whole += part
        self.error = sum(float(sums[0]) for sums in total) / count
        shifts = [sums[3] / count for sums in total]
        self.shift: FloatArray = np.concatenate(shifts)
        self.pulls = [
            sums[1] / count - np.outer(sums[2] / count, shift)
            for sums, shift in zip(total, shifts, strict=True)
        ]
        self.energies = [
            sums[5] / count - shift * (shift + 2 * sums[4] / count)
            for sums, shift in zip(total, shifts, strict=True)
        ]


def _sums(
    seen: Means,
    excerpt: Excerpt,
    rows: slice,
    group: int,
    flat: npt.NDArray[np.float32],
    mean_x: npt.NDArray[np.float32],
    mean_y: FloatArray,
    activation: Activation,
) -> _Sums:
    """Return sums over some rows: of errors, x by change, x, change, wanted outputs, squares.

    Products of a few thousand rows are made in single precision; sums of them are to be in double.
    """
    size, outputs = flat.shape
    ins = slice(group * size, (group + 1) * size)
    outs = slice(group * outputs, (group + 1) * outputs)
    x = excerpt.x[rows, ins] - mean_x
    y, floor = excerpt.y[rows, outs], excerpt.floor[rows, outs]
    given = x @ flat
    given += mean_y[outs].astype(np.float32)
    own = activation.of(outs)
    error = _squares(own(y - floor) - own(given - floor)).sum()
    change = own.aim(y - floor, given - floor) - (y - floor)
    centred = y - seen.y[outs].astype(np.float32)
    return (
        np.asarray(error),
        np.asarray(x.T @ change, np.float64),
        x.sum(axis=0, dtype=np.float64),
        change.sum(axis=0, dtype=np.float64),
        centred.sum(axis=0, dtype=np.float64),
        _squares(change + centred) - _squares(centred),
    )


def _squares(values: npt.NDArray[np.float32]) -> FloatArray:
    """Return the sum of squares of each column."""
    return np.asarray(np.einsum("no,no->o", values, values, dtype=np.float64), np.float64)
