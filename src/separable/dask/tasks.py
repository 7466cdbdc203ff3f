"""What runs in the tasks: a chunk is filtered with its halo, or its least and largest sample is found."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base.caches import kept
from .._base.types import Array
from ..arrays.masks import Nan, known_of
from ..arrays.output import Overflow, Rounding
from ..filters.core import extent_of
from ..filters.plan import Plan
from .windows import ChunkWindow

Extent = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BlockFilter:
    """A filter of chunks: the plan of the whole array, and how results are stored.

    Attributes
    ----------
    plan : Plan
    samples : dtype
        Of the array.
    stored : dtype or None
        Of the result, where it was named.
    threads : int or None
        By default one in a task beside others.
    """

    plan: Plan
    samples: np.dtype[Any]
    stored: np.dtype[Any] | None
    nan: Nan
    rounding: Rounding
    overflow: Overflow
    threads: int | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the result."""
        return self.plan.dtype if self.stored is None else self.stored

    def __call__(
        self,
        window: ChunkWindow,
        blocks: Sequence[Any],
        mask_window: ChunkWindow | None = None,
        mask_blocks: Sequence[Any] = (),
        extent: Extent | None = None,
    ) -> Array:
        """Return the filtered chunk of a window."""
        if 0 in window.shape:
            return np.empty([end - begin for begin, end in window.places], self.dtype)
        x, known = self._read(window, blocks, mask_window, mask_blocks)
        part = self.plan.part(x.shape, window.starts, extent)
        how: Any = {"nan": self.nan, "rounding": self.rounding, "overflow": self.overflow}
        result = part(x, self.stored, self.threads, mask=known, **how)
        own = result[window.written]
        return result if own.shape == result.shape else own.copy()

    def extent(
        self,
        window: ChunkWindow,
        blocks: Sequence[Any],
        mask_window: ChunkWindow | None = None,
        mask_blocks: Sequence[Any] = (),
    ) -> Extent:
        """Return the least and the largest known sample of a chunk; infinities where there is none."""
        if 0 in window.shape:
            return np.inf, -np.inf
        x, mask = self._read(window, blocks, mask_window, mask_blocks)
        known = known_of(x, mask, self.nan, self.plan.outside)
        return extent_of(x, self.threads or 1, None if known is None else known.of(x))

    def _read(
        self,
        window: ChunkWindow,
        blocks: Sequence[Any],
        mask_window: ChunkWindow | None,
        mask_blocks: Sequence[Any],
    ) -> tuple[Array, Array | None]:
        """Return samples and mask of a window.

        They lie in C order, as the whole does: the order of sums follows that of the axes in memory.
        """
        x = np.ascontiguousarray(window.assembled(blocks, self.samples))
        if mask_window is None:
            return x, None
        return x, mask_window.assembled(mask_blocks, np.dtype(np.bool_), "mask")

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.samples, self.stored, self.nan, self.rounding, self.overflow, self.threads)
        return _restored, (pickle.dumps((self.plan, *values)),)


@kept
def _restored(data: bytes) -> BlockFilter:
    """Return the filter that was pickled, once in a process: its plan takes longer than a chunk."""
    return BlockFilter(*pickle.loads(data))


def extent_over(extents: Sequence[Extent]) -> Extent:
    """Return the least and the largest sample of several parts."""
    return min(low for low, _ in extents), max(high for _, high in extents)
