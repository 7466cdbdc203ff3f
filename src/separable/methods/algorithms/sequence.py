"""Two filters in sequence as one, whose boundary is that of the convolution of both kernels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..._base.types import Array
from ..._core import Sweeps, TermsJob, empty
from ...arrays.boundaries import continued
from ..method import Job


class Margin(NamedTuple):
    """The padding of one axis before the filters run, the offset of the results in it, and its mode."""

    before: int
    after: int
    begin: int
    mode: str


class SequenceJob:
    """Two filters in sequence, with one intermediate array, and one rounding to the output at the end.

    Parameters
    ----------
    shape : tuple of int
        Of the arrays.
    dtype : {"float32", "float64"}
        The dtype computed in.
    first, second : jobs
        For arrays of `shape`, or of the padded shape.
    margins : list of Margin, optional
        One per axis, where the first filter does not preserve the boundary modes: the array is then padded by
        the reach of both filters.
    cval : float
        The padding value of mode constant.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        first: Job,
        second: Job,
        margins: list[Margin] | None,
        cval: float,
    ) -> None:
        self._dtype, self._first, self._second = dtype, first, second
        self._margins, self._cval = margins, cval
        self._between = shape
        if margins is not None:
            self._between = tuple(n + m.before + m.after for n, m in zip(shape, margins, strict=True))
            self._copy = _copy(shape, dtype)

    @classmethod
    def of_one(cls, shape: tuple[int, ...], dtype: str, first: Job) -> SequenceJob:
        """Return `first` with an intermediate array of `dtype`, from which results are stored."""
        return cls(shape, dtype, first, _copy(shape, dtype), None, 0.0)

    def run(self, src: Array, dst: Array, threads: int, *told: Any, **more: Any) -> None:
        """Filter `src` into `dst`, with the arguments of other jobs."""
        between = empty(self._between, self._dtype)
        with Sweeps(2 if self._margins is None else 3) as counted:
            if self._margins is None:
                self._first.run(src, between, threads)
                counted.step()
                self._second.run(between, dst, threads, *told, **more)
                return
            self._first.run(self._continued(src), between, threads)
            counted.step()
            last = empty(self._between, self._dtype)
            self._second.run(between, last, threads)
            counted.step()
            inside = tuple(slice(m.begin, m.begin + n) for m, n in zip(self._margins, dst.shape, strict=True))
            self._copy.run(last[inside], dst, threads, *told, **more)

    def scratch_bytes(self, threads: int) -> int:
        """Return the bytes of scratch memory, beside the arrays."""
        arrays = 1 if self._margins is None else 3
        item = 4 if self._dtype == "float32" else 8
        inner = max(self._first.scratch_bytes(threads), self._second.scratch_bytes(threads))
        return arrays * item * math.prod(self._between) + inner

    def _continued(self, src: Array) -> Array:
        assert self._margins is not None
        array = src.astype(self._dtype)
        for axis, margin in enumerate(self._margins):
            array = continued(array, axis, margin.before, margin.after, margin.mode, self._cval)
        return array


def _copy(shape: tuple[int, ...], dtype: str) -> TermsJob:
    """Return the identity filter, which stores results as told."""
    return TermsJob(shape, dtype, [(0, 0, 0, [np.ones(1)])], [(0, 0)], 0.0)
