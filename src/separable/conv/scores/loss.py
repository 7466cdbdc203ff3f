"""By how much a conversion changes a network's outputs, and the inputs that are held out to measure it on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .interval import student
from .records import Loss, OutputLoss

__all__ = ["HeldOut", "MeasuredRows", "OutputChange", "Values"]

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

    def size(self, number: int) -> int:
        """Return the inputs of a batch."""
        return len(self.mask(number))

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


class MeasuredRows(Protocol):
    """What tells of some batches which inputs the loss is measured on."""

    def measured(self, number: int, rows: int) -> npt.NDArray[np.intp]:
        """Return which rows of an array made from a batch that are."""

    def size(self, number: int) -> int:
        """Return the inputs of a batch."""


class OutputChange:
    """By how much a network's outputs change, summed up batch by batch.

    Of an output of floating-point numbers the mean squared change counts, over the mean variance of its
    elements; of one of whole numbers or truth values the fraction of elements that change. Of several outputs
    it is the mean, in which each counts alike, however large its numbers are or how many it holds.

    Parameters
    ----------
    held_out : MeasuredRows
        The change is measured on the inputs that it holds out, the variance on all.
    """

    def __init__(self, held_out: MeasuredRows) -> None:
        self._held_out = held_out
        self._outputs: dict[object, _Output] = {}

    def add(self, number: int, output: object, before: Values, after: Values | None) -> None:
        """Add one output of a batch.

        Parameters
        ----------
        number : int
            Of the batch.
        output : hashable
            Which output; its name, where it has one.
        before : ndarray, shape ``(N, ...)`` or ``()``
            The original's. What is not finite is left out.
        after : ndarray or None
            The changed network's; None where the batch holds no input that is held out. An output whose shape
            changes cannot be compared: it is left out, with all of its batches.
        """
        whole = before.dtype.kind in "biu"
        sums = self._outputs.setdefault(output, _Output(whole))
        if before.dtype.kind not in "biuf":
            sums.reason = f"it holds no numbers ({before.dtype})"
            return
        precise, known = _finite(before.astype(np.float64))
        sums.spread(precise)
        if after is None or sums.reason:
            return
        if after.shape != before.shape:
            sums.reason = f"its shape changes, from {before.shape} to {after.shape}"
            return
        for place, rows in self._inputs(number, precise):
            now, then = np.asarray(after)[rows], (before if whole else precise)[rows]
            now = now if known is None else np.where(known[rows], now, then)
            with np.errstate(invalid="ignore", over="ignore"):  # an output that became infinite
                total = float((now != then).sum() if whole else np.square(now - then).sum())
            sums.inputs[number, place] = (math.inf if math.isnan(total) else total, now.size)

    def _inputs(self, number: int, values: Values) -> Iterator[tuple[int, Any]]:
        """Yield the inputs of a batch that are measured, and the rows of an array that are of each."""
        if not values.ndim:
            yield 0, ...
            return
        rows = self._held_out.measured(number, len(values))
        inputs = self._held_out.size(number)
        if not inputs or len(values) % inputs:
            yield from [(0, rows)] if len(rows) else []
            return
        wide = len(values) // inputs
        for first in rows[::wide] if wide else ():
            yield int(first) // wide, slice(first, first + wide)

    @property
    def value(self) -> float:
        """The mean of what was measured; NaN where that is nothing.

        The variance is about the mean of all elements where there was one input.
        """
        return self.loss.change

    @property
    def loss(self) -> Loss:
        """The same, with its interval and the change of each output.

        The interval is Student's, over the inputs; the variance of the original's outputs is taken as it is.
        Where no element of whole numbers changed, its upper end is 3 / inputs (the rule of three). An output
        that changes, and did not vary, has no fraction to add: it is named. If there is no other, the change
        is infinite.
        """
        outputs = tuple(_told(name, output) for name, output in self._outputs.items())
        measured = [output for output in self._outputs.values() if math.isfinite(output.mean_change)]
        if not measured:
            endless = any(math.isinf(output.mean_change) for output in self._outputs.values())
            return Loss(math.inf if endless else math.nan, outputs=outputs)
        change = float(np.mean([output.mean_change for output in measured]))
        places = sorted(set().union(*(output.inputs for output in measured)))
        if len(places) < 2:
            return Loss(change, None, len(places), outputs)
        half = student(np.mean([output.residuals(places) for output in measured], axis=0))
        if not change:
            half = max(half, 3 / len(places) * sum(output.whole for output in measured) / len(measured))
        return Loss(change, (max(change - half, 0.0), change + half), len(places), outputs)


def _told(name: object, output: _Output) -> OutputLoss:
    """Return what is known of one output by itself."""
    reason = output.reason
    if not reason and not math.isfinite(output.mean_change):
        reason = "it does not vary" if math.isnan(output.mean_change) else "it changes, and does not vary"
    label = name if isinstance(name, str) else f"output {name}"
    return OutputLoss(label, "elements" if output.whole else "variance", output.mean_change, reason)


class _Output:
    """What is summed up of one output."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole
        self.reason = ""  # why it cannot be compared
        self.elements = 0
        # By number of the batch and place in it: the change of each input that is measured, and its elements.
        self.inputs: dict[tuple[int, int], tuple[float, int]] = {}
        # By length of a row: how many came, their mean, and the sums of squared distances to it.
        self._sums: dict[int, tuple[int, Values, Values]] = {}

    @property
    def mean_change(self) -> float:
        """Infinity where it changes and does not vary; NaN where nothing was measured, or nothing varies."""
        change, measured = (sum(entry[n] for entry in self.inputs.values()) for n in (0, 1))
        if self.reason or not measured:
            return math.nan
        if self.variation > 0 or (self.whole and change):
            return float(change / measured / self._scale)
        return math.inf if change > 0 else math.nan

    @property
    def _scale(self) -> float:
        """The variance of its elements; of whole numbers what one counts."""
        return 1.0 if self.whole else self.variation / self.elements

    def residuals(self, places: Sequence[tuple[int, int]]) -> Values:
        """Return by how much each input moves the mean, as a ratio of sums has it, times their number."""
        sums = np.array([self.inputs.get(place, (0.0, 0)) for place in places])
        apart = sums[:, 0] / self._scale - self.mean_change * sums[:, 1]
        return np.asarray(apart * len(places) / sums[:, 1].sum())

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
