"""Wanted outputs behind an activation: of what a rectifier cuts off, whatever lies below is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray, RealArray
from ..._base.workers import Workers
from ..forms.activation import Activation, activation_of
from .moments import Excerpt, Means

__all__ = ["Aim", "WantedOutputs"]

_Singles: TypeAlias = npt.NDArray[np.float32]

# Rows of an excerpt that are worked on at once.
_ROWS_AT_ONCE: Final = 4096


class Aim(NamedTuple):
    """What a layer's wanted outputs become when all is right that comes out of the activation as it should.

    Attributes
    ----------
    error : float
        Mean squared error behind the activation.
    shift : ndarray, shape ``(C_out,)``
        Change of the mean of the wanted outputs.
    pulls, energies : list of ndarray
        For each group the changes of its covariance with the patches, ``(I*K, O)``, and of its variance.
    """

    error: float
    shift: FloatArray
    pulls: list[FloatArray]
    energies: list[FloatArray]


class WantedOutputs:
    """Outputs that are wanted of a layer behind its activation, on some patches of what it reads.

    Parameters
    ----------
    seen : Means
    excerpt : Excerpt
        Its patches are centred in place.
    groups : int
        Of the layer.
    activation : Activation, str or None
        None: a rectifier.
    workers : Workers, optional
    """

    def __init__(
        self,
        seen: Means,
        excerpt: Excerpt,
        groups: int,
        activation: Activation | str | None = None,
        workers: Workers | None = None,
    ) -> None:
        known = activation_of(activation) or Activation("relu")
        self._count, self._groups, self._workers = len(excerpt.x), groups, workers or Workers()
        excerpt.x[...] -= seen.x.astype(np.float32)
        self._pieces = [
            _WantedRows(seen, excerpt, slice(start, start + _ROWS_AT_ONCE), group, groups, known)
            for start in range(0, self._count, _ROWS_AT_ONCE)
            for group in range(groups)
        ]

    def aim(self, flats: Sequence[RealArray], mean_y: FloatArray) -> Aim:
        """Return what to aim at, given what the layer gives now.

        Parameters
        ----------
        flats : sequence of ndarray, shape ``(I*K, O)``
            What the layer's weights are in each group.
        mean_y : ndarray, shape ``(C_out,)``
            The mean of what it gives.

        Returns
        -------
        Aim
        """
        single = [flat.astype(np.float32) for flat in flats]
        means = mean_y.astype(np.float32).reshape(self._groups, -1)
        total: list[_AimSums | None] = [None] * self._groups
        made = self._workers.map(
            lambda piece: piece.sums(single[piece.group], means[piece.group]), self._pieces
        )
        for piece, sums in zip(self._pieces, made, strict=True):
            whole = total[piece.group]
            total[piece.group] = sums if whole is None else whole.plus(sums)
        kept = [sums for sums in total if sums is not None]
        count = self._count
        shifts = [sums.change / count for sums in kept]
        return Aim(
            sum(float(sums.error) for sums in kept) / count,
            np.concatenate(shifts),
            [
                sums.pull / count - np.outer(sums.x / count, shift)
                for sums, shift in zip(kept, shifts, strict=True)
            ],
            [
                sums.energy / count - shift * (shift + 2 * sums.y / count)
                for sums, shift in zip(kept, shifts, strict=True)
            ],
        )


class _AimSums(NamedTuple):
    """Sums over some rows: of errors, changes, patches by changes, patches, centred outputs, squares."""

    error: FloatArray
    change: FloatArray
    pull: FloatArray
    x: FloatArray
    y: FloatArray
    energy: FloatArray

    def plus(self, other: _AimSums) -> _AimSums:
        return _AimSums(*(one + two for one, two in zip(self, other, strict=True)))


class _WantedRows:
    """Some rows of one group: what is the same in every round is made once.

    Products of a few thousand rows are made in single precision; sums of them are in double.
    """

    def __init__(
        self, seen: Means, excerpt: Excerpt, rows: slice, group: int, groups: int, activation: Activation
    ) -> None:
        self.group = group
        ins, outs = (
            slice(group * (width // groups), (group + 1) * (width // groups))
            for width in (excerpt.x.shape[1], excerpt.y.shape[1])
        )
        self._own = activation.of(outs)
        self._x, self._floor = excerpt.x[rows, ins], excerpt.floor[rows, outs]
        self._wanted = excerpt.y[rows, outs] - self._floor
        self._behind = self._own(self._wanted)
        self._centred = excerpt.y[rows, outs] - seen.y[outs].astype(np.float32)
        self._sum_x = self._x.sum(axis=0, dtype=np.float64)
        self._sum_y = self._centred.sum(axis=0, dtype=np.float64)

    def sums(self, flat: _Singles, mean_y: _Singles) -> _AimSums:
        """Return the sums, given weights ``(I*K, O)`` and the mean of what they give."""
        given = self._x @ flat
        given += mean_y
        given -= self._floor
        behind = self._own(given)
        change = self._own.aim(self._wanted, given, (self._behind, behind))
        change -= self._wanted
        behind -= self._behind
        error = _products(behind, behind).sum()
        pull = np.asarray(self._x.T @ change, np.float64)
        energy = _products(change, change) + 2 * _products(change, self._centred)
        shift = change.sum(axis=0, dtype=np.float64)
        return _AimSums(np.asarray(error), shift, pull, self._sum_x, self._sum_y, energy)


def _products(one: _Singles, other: _Singles) -> FloatArray:
    """Return the sum of products of each column."""
    return np.asarray(np.einsum("no,no->o", one, other, dtype=np.float64), np.float64)
