"""Sums of terms that share lines of taps: the form that is extended, fitted and pruned by `factor`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.types import FloatArray
from ..kernel.value import Term
from .parity import centre_parity, line_parities, parity

Indices: TypeAlias = npt.NDArray[np.intp]

_BLOCK_ELEMENTS: Final = 1 << 22  # maximum elements of the outer products of a block of terms
_SHARED_NDIM: Final = 3  # maximum axes along which the core shares passes


@dataclass(frozen=True)
class Form:
    """A sum of terms; term p is the outer product of ``lines[a][index[a][p]]`` over the axes a.

    A line along the last axis shared by several terms runs once, and so do later passes of terms with equal
    lines along the axes before: `macs` counts these once.

    Attributes
    ----------
    lines : tuple of ndarray, shapes ``(L_a, n_a)``
    index : tuple of integer ndarray, shapes ``(P,)``
    """

    lines: tuple[FloatArray, ...]
    index: tuple[Indices, ...]

    @classmethod
    def of(cls, lines: Sequence[FloatArray], index: Sequence[Indices]) -> Form:
        """Return a form in which no line along the last axis but one is shared, and all lines are used.

        Sharing lines along that axis saves nothing, and the line holds the weight of its term.
        """
        free = len(lines) - 2
        kept, places = [], []
        for axis, (axis_lines, axis_index) in enumerate(zip(lines, index, strict=True)):
            if axis == free:
                kept.append(axis_lines[axis_index])
                places.append(np.arange(len(axis_index)))
            else:
                used, inverse = np.unique(axis_index, return_inverse=True)
                kept.append(axis_lines[used])
                places.append(inverse.ravel())
        return cls(tuple(kept), tuple(places))

    @property
    def count(self) -> int:
        """The number of terms."""
        return len(self.index[0])

    @property
    def free(self) -> int:
        """The axis along which no line is shared: the last but one."""
        return len(self.lines) - 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense kernel."""
        return tuple(lines.shape[1] for lines in self.lines)

    @classmethod
    def of_terms(cls, terms: Sequence[Term]) -> Form:
        """Return terms as a form that shares bitwise equal lines."""
        lines, index = [], []
        for taps in zip(*terms, strict=True):
            distinct, inverse = np.unique(np.stack(taps), axis=0, return_inverse=True)
            lines.append(distinct)
            index.append(inverse.ravel())
        return cls.of(lines, index)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample, shared passes counted once.

        As `separable.kernel.passes` counts them: along more than three axes nothing is shared.
        """
        if len(self.lines) > _SHARED_NDIM:
            return self.count * sum(self.shape)
        places = np.stack(self.index)
        total = len(self.lines[-1]) * self.shape[-1]
        for axis in range(self.free):
            total += np.unique(places[: axis + 1], axis=1).shape[1] * self.shape[axis]
        return int(total + self.count * self.shape[self.free])

    def select(self, terms: Any) -> Form:
        """Return the form with the selected terms only."""
        return Form.of(self.lines, [index[terms] for index in self.index])

    def without(self, terms: Any) -> Form:
        """Return the form without the given terms."""
        return self.select(np.delete(np.arange(self.count), terms))

    def extended(self, other: Form) -> Form:
        """Return the sum of two forms."""
        lines = [np.concatenate(pair) for pair in zip(self.lines, other.lines, strict=True)]
        index = [
            np.concatenate([mine, theirs + len(lines_of_axis)])
            for mine, theirs, lines_of_axis in zip(self.index, other.index, self.lines, strict=True)
        ]
        return Form(tuple(lines), tuple(index))

    def products(self, axis: int, terms: slice = slice(None)) -> FloatArray:
        """Return each term's outer product over all axes but one, shape ``(P, size / n_axis)``."""
        total: FloatArray = np.ones((len(self.index[0][terms]), 1))
        for other, lines in enumerate(self.lines):
            if other != axis:
                right = lines[self.index[other][terms]]
                total = (total[:, :, np.newaxis] * right[:, np.newaxis, :]).reshape(len(total), -1)
        return total

    def dense(self) -> FloatArray:
        """Return the dense sum of the terms."""
        first = self.shape[0]
        total = np.zeros((first, math.prod(self.shape[1:])))
        step = max(1, _BLOCK_ELEMENTS // total.shape[1])
        for start in range(0, self.count, step):
            block = slice(start, start + step)
            total += self.lines[0][self.index[0][block]].T @ self.products(0, block)
        return total.reshape(self.shape)

    def terms(self, exponent: int) -> list[Term]:
        """Return the terms times ``2**exponent``; shared taps stay bitwise equal.

        Weight and scale are distributed over the axes, so that taps of very small or large kernels stay in
        the range of float32. The largest tap of each line is positive, on all axes but `free`.
        """
        ndim, free = len(self.lines), self.free
        lines = list(self.lines)
        gains = np.ones(self.count)
        for axis in range(ndim):
            norms = np.linalg.norm(lines[axis], axis=1)
            peaks = lines[axis][np.arange(len(norms)), np.argmax(np.abs(lines[axis]), axis=1)]
            norms = np.where(norms > 0, norms, 1.0) * (np.where(peaks < 0, -1, 1) if axis != free else 1)
            lines[axis] = lines[axis] / norms[:, np.newaxis]
            gains *= norms[self.index[axis]]
        alone = [axis for axis in range(ndim) if len(lines[axis]) == self.count]
        roots = np.abs(gains) ** (1 / len(alone))
        for axis in alone:
            line_roots = roots[np.argsort(self.index[axis])]
            lines[axis] = lines[axis] * line_roots[:, np.newaxis]
        lines[free] = lines[free] * np.sign(gains)[:, np.newaxis]
        for axis in range(ndim):
            share = exponent // ndim + (axis < exponent % ndim)
            lines[axis] = np.ldexp(lines[axis], share)
        return Form(tuple(lines), self.index).listed()

    def listed(self) -> list[Term]:
        """Return the terms, unscaled."""
        places = list(zip(self.lines, self.index, strict=True))
        return [tuple(lines[index[p]] for lines, index in places) for p in range(self.count)]

    def amplification(self) -> float:
        """Return the sum of the terms' l1 norms: the factor of rounding errors in a filter."""
        total = np.ones(self.count)
        for lines, index in zip(self.lines, self.index, strict=True):
            total *= np.abs(lines).sum(axis=1)[index]
        return float(total.sum())


def relative_l1(tensor: FloatArray, form: Form) -> float:
    """Return the relative l1 error of a form, up to rounding."""
    return float(np.abs(tensor - form.dense()).sum() / np.abs(tensor).sum())


def signs_of(form: Form, tensor: FloatArray) -> list[FloatArray | None]:
    """Return for each axis the parities of lines to keep in fits of the form to `tensor`, or None.

    Least squares keeps them up to rounding; filters fold only exact ones.
    """
    signs: list[FloatArray | None] = []
    centre = centre_parity(tensor)
    lines = [line_parities(axis_lines) for axis_lines in form.lines]
    keeps_all = centre and all(parities.all() for parities in lines)
    for axis, parities in enumerate(lines):
        along = parity(tensor, (axis,))
        if along:
            signs.append(np.full(len(parities), float(along)))
        else:
            signs.append(parities if keeps_all else None)
    return signs
