"""By how much a conversion changes a network's outputs, and the inputs that are held out to measure it on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["HeldOut", "OutputChange", "Values"]

Values: TypeAlias = npt.NDArray[Any]

# Every eighth calibration input is held out.
_EVERY: Final = 8


class HeldOut:
    """Which calibration inputs are left out of every fit, to measure the loss on: each eighth one.

    Where there are fewer than eight, all serve for both.

    Parameters
    ----------
    batches : iterable of int
        Inputs in each batch.

    Attributes
    ----------
    count : int
        Inputs held out.
    """

    def __init__(self, batches: Iterable[int]) -> None:
        self._ends = list(itertools.accumulate(batches))
        self.count = (self._ends[-1] if self._ends else 0) // _EVERY

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return which inputs of a batch, given by its number, are held out.

        Parameters
        ----------
        number : int

        Returns
        -------
        ndarray of bool, shape ``(inputs,)``
        """
        places = np.arange(self._ends[number - 1] if number else 0, self._ends[number])
        return np.asarray(places % _EVERY == _EVERY - 1)

    def measures(self, number: int) -> bool:
        """Return whether the loss is measured on any input of a batch."""
        return not self.count or bool(self.mask(number).any())

    def fitted(self, number: int, rows: int) -> npt.NDArray[np.intp]:
        """Return which rows of an array made from a batch may be fitted to.

        Parameters
        ----------
        number : int
            Of the batch.
        rows : int
            Length of the array's first axis: a multiple of the inputs, or what has no relation to them.

        Returns
        -------
        ndarray of int
        """
        return np.flatnonzero(~self._held_out(number, rows, False))

    def measured(self, number: int, rows: int) -> npt.NDArray[np.intp]:
        """Return which rows of an array made from a batch the loss is measured on; as `fitted`."""
        return np.flatnonzero(self._held_out(number, rows, True)) if self.count else np.arange(rows)

    def _held_out(self, number: int, rows: int, unknown: bool) -> npt.NDArray[np.bool_]:
        mask = self.mask(number)
        if not len(mask) or rows % len(mask):
            return np.full(rows, unknown)
        return np.asarray(np.repeat(mask, rows // len(mask)))


class OutputChange:
    """By how much a network's outputs change, over their variance, summed up batch by batch.

    Parameters
    ----------
    held_out : HeldOut
        The change is measured on the inputs that it holds out, the variance on all.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out
        self._outputs: dict[object, _Output] = {}

    def add(self, number: int, output: object, before: Values, after: Values | None) -> None:
        """Add one output of a batch.

        Parameters
        ----------
        number : int
            Of the batch.
        output : hashable
            Which output.
        before : ndarray, shape ``(N, ...)`` or ``()``
            The original's. What is not finite is left out.
        after : ndarray or None
            The changed network's; None where the batch holds no input that is held out. An output whose shape
            changes cannot be compared: it is left out, with all of its batches.
        """
        precise, known = _finite(before.astype(np.float64))
        sums = self._outputs.setdefault(output, _Output())
        sums.spread(precise)
        if after is None:
            return
        if after.shape != before.shape:
            sums.comparable = False
            return
        rows: Any = self._held_out.measured(number, len(precise)) if precise.ndim else ...
        now = after[rows] if known is None else np.where(known, after, precise)[rows]
        with np.errstate(invalid="ignore", over="ignore"):  # an output that became infinite
            change = float(np.square(now - precise[rows]).sum())
        sums.change += math.inf if math.isnan(change) else change
        sums.measured += now.size

    @property
    def value(self) -> float:
        """The mean squared change over the mean variance of all elements.

        The variance is about the mean of all elements where there was one input. NaN where nothing was
        measured: there is no output that varies, or none that can be compared.
        """
        compared = [output for output in self._outputs.values() if output.comparable]
        elements = sum(output.elements for output in compared)
        change, measured = (
            sum(getattr(output, name) for output in compared) for name in ("change", "measured")
        )
        total = sum(output.variation for output in compared)
        if elements and total * measured > 0:
            return float(change / (total * measured / elements))
        return math.inf if change > 0 else math.nan


class _Output:
    """What is summed up of one output."""

    def __init__(self) -> None:
        self.comparable = True
        self.change, self.measured, self.elements = 0.0, 0, 0
        # By length of a row: how many came, their mean, and the sums of squared distances to it.
        self._sums: dict[int, tuple[int, Values, Values]] = {}

    @property
    def variation(self) -> float:
        """The sum of squared distances to the mean."""
        return sum(
            float(squares.sum() if count > 1 else np.square(mean - mean.mean()).sum())
            for count, mean, squares in self._sums.values()
        )

    def spread(self, values: Values) -> None:
        """Add a batch of the original's."""
        self.elements += values.size
        if not values.size:
            return
        rows = values.reshape(len(values), -1) if values.ndim > 1 else values.reshape(-1, 1)
        count, mean, squares = self._sums.get(rows.shape[1], (0, np.zeros(1), np.zeros(1)))
        own = rows.mean(axis=0)
        # Chan, Golub, LeVeque: updating formulae, 1979; sums of squares alone would cancel.
        share = len(rows) / (count + len(rows))
        squares = squares + np.square(rows - own).sum(axis=0) + np.square(own - mean) * count * share
        self._sums[rows.shape[1]] = (count + len(rows), mean + (own - mean) * share, squares)


def _finite(values: Values) -> tuple[Values, npt.NDArray[np.bool_] | None]:
    """Return values with 0 for what is not finite, such as the logarithm of 0, and which are; None: all."""
    known = np.isfinite(values)
    return (values, None) if known.all() else (np.where(known, values, 0.0), known)
