"""A filter of one array: in memory part by part, with the bits of the whole, or lazily by Dask."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from .. import dask as lazily
from .._base.extras import extra
from .._base.foreign import is_large
from .._base.types import Array
from ..arrays.arguments import thread_count
from ..arrays.boundaries import Interval, Line
from ..filters.core import extent_of
from ..filters.plan import Plan
from ..stream.parted import plan_in_parts, request_of
from .recipe import LayerRecipe

if TYPE_CHECKING:
    import dask.array as da

# Samples of a part, after each of which a user may have cancelled: less than a second on one core.
_PART: Final = 1 << 26
_HALOS: Final = 4  # lengths of the kernel in a part, at least: less would read most samples twice
_CHUNK: Final = "32MiB"  # of an array that is given to Dask: slices of it are shown while they are computed

Extent = tuple[float, float]


def is_lazy(data: Any, result: np.dtype[Any]) -> bool:
    """Return whether a layer's array is filtered by Dask.

    It is not in memory, or it or its result take more than a quarter of what is free.
    """
    return type(data) is not np.ndarray or is_large(data.size * max(data.itemsize, result.itemsize))


class FilterJob:
    """A recipe for arrays of one shape and dtype.

    Parameters
    ----------
    recipe : LayerRecipe
    shape : tuple of int
    samples : dtype
    """

    def __init__(self, recipe: LayerRecipe, shape: tuple[int, ...], samples: np.dtype[Any]) -> None:
        self._stored = recipe.stored(samples)
        self._axes = tuple(axis.index for axis in recipe.axes)
        self._mode = recipe.mode
        self._samples = samples
        self._kernels = recipe.kernels()
        asked = (recipe.mode, 0.0, 0, self._axes, None, "auto")
        _, request = request_of(shape, samples, self._stored, asked, None, "propagate", "nearest")
        self.plans: tuple[Plan, ...] = tuple(
            plan_in_parts(kernel, request, None)[0] for kernel in self._kernels
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the result."""
        return self.plans[0].dtype if self._stored is None else self._stored

    @property
    def lines(self) -> list[Line]:
        """What is read along each axis; of a gradient the longest."""
        along = zip(*(plan.lines for plan in self.plans), strict=True)
        return [max(lines, key=lambda line: line.taps) for lines in along]

    def part(self, x: Any, places: Sequence[Interval], extents: Sequence[Extent | None] = ()) -> Array:
        """Return the results at an interval of places along each axis.

        Parameters
        ----------
        x : array
            Of any library; no more of it is read than these results depend on.
        places : sequence of (int, int)
        extents : sequence of (float, float) or None, optional
            The least and the largest sample, for each plan that asks for them (`extents`).
        """
        known = itertools.chain(extents, itertools.repeat(None))
        parts = (self._part(plan, x, places, extent) for plan, extent in zip(self.plans, known, strict=False))
        return functools.reduce(_hypotenuse, parts) if len(self.plans) > 1 else next(parts)

    def _part(self, plan: Plan, x: Any, places: Sequence[Interval], extent: Extent | None) -> Array:
        reads = [line.read_for(place) for line, place in zip(plan.lines, places, strict=True)]
        samples = _read(x, reads)
        part = plan.part(samples.shape, tuple(begin for begin, _ in reads), extent)
        written = zip(places, reads, strict=True)
        own = tuple(slice(begin - first, end - first) for (begin, end), (first, _) in written)
        result: Array = part(samples, self._stored)[own]
        return result

    def extents(self, x: Array) -> list[Extent | None]:
        """Return the least and the largest sample, for each plan that asks for them."""
        stored = self._stored
        return [
            extent_of(x, thread_count(None))
            if stored is not None and plan.clips((self._samples, stored, "nearest"), False)
            else None
            for plan in self.plans
        ]

    def steps(self, x: Array, result: Array) -> Iterator[float]:
        """Filter an array in memory, and yield after each part which share of all is done."""
        windows = list(itertools.product(*self._cuts(x.shape)))
        extents = self.extents(x)
        for done, places in enumerate(windows, 1):
            result[tuple(slice(*place) for place in places)] = self.part(x, places, extents)
            yield done / len(windows)

    def _cuts(self, shape: tuple[int, ...]) -> list[list[Interval]]:
        """Return where each axis is cut: the first ones into pieces, until a part is small enough."""
        cuts, size = [], math.prod(shape)
        for line, n in zip(self.lines, shape, strict=True):
            least = _HALOS * line.taps if line.taps > 1 else 1
            pieces = min(-(-size // _PART), max(n // least, 1)) or 1
            ends = [n * piece // pieces for piece in range(pieces + 1)]
            cuts.append(list(itertools.pairwise(ends)))
            size = -(-size // pieces)
        return cuts

    def lazily(self, data: Any) -> da.Array:
        """Return the results as an array of Dask, of which nothing is computed yet."""
        x = _chunked(data)
        how: dict[str, Any] = {"axes": self._axes, "mode": self._mode, "output": self._stored}
        parts = [lazily.correlate(x, kernel, **how) for kernel in self._kernels]
        result: Any = parts[0]
        for part in parts[1:]:
            result = np.hypot(result, part)
        return cast("da.Array", result)

    def __str__(self) -> str:
        several = len(self.plans) > 1
        return (f"{len(self.plans)} kernels, one for each axis; the first:\n" if several else "") + str(
            self.plans[0]
        )


def _hypotenuse(first: Array, second: Array) -> Array:
    result: Array = np.hypot(first, second, out=first)
    return result


def _chunked(data: Any) -> da.Array:
    """Return an array of another library as one of Dask, in its own chunks if it has some."""
    with extra("napari"):
        import dask
        import dask.array as da
    if isinstance(data, da.Array):
        return data
    with dask.config.set({"array.chunk-size": _CHUNK}):
        x: da.Array = da.from_array(data, chunks=getattr(data, "chunks", None) or "auto")
        return x


def _read(x: Any, reads: Sequence[Interval]) -> Array:
    """Return the samples at these positions, which go around the array where they leave it."""
    inside = [begin >= 0 and end <= n for (begin, end), n in zip(reads, x.shape, strict=False)]
    cut = tuple(slice(*read) if whole else slice(None) for read, whole in zip(reads, inside, strict=True))
    samples = np.asarray(x[cut])
    for axis, ((begin, end), whole) in enumerate(zip(reads, inside, strict=True)):
        if not whole:
            samples = samples.take(np.arange(begin, end) % x.shape[axis], axis)
    return np.ascontiguousarray(samples)


def levels_of(recipe: LayerRecipe, levels: Sequence[Any]) -> list[da.Array]:
    """Return the levels of a layer with several scales, filtered by the same widths, lazily."""
    jobs = (
        FilterJob(recipe.on_level(levels[0].shape, level.shape), level.shape, np.dtype(level.dtype))
        for level in levels
    )
    return [job.lazily(level) for job, level in zip(jobs, levels, strict=True)]
