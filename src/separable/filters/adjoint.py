"""The adjoint of a filter, boundary modes included.

A filter pads its input, then correlates. The adjoint correlates the zero-padded array with the flipped
kernel, including the positions beyond the ends that it reaches, and adds the values there to the samples from
which the padding was copied. That is exact for every boundary mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._base.foreign import through
from .._base.types import Array
from ..arrays.arguments import Output, output_array
from ..arrays.boundaries import Interval, Line, folded_back
from ..arrays.output import store
from ..methods.method import Setting
from .core import new_array


class Filter(Protocol):
    """The part of a plan that an adjoint uses."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def macs(self) -> int: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    def __call__(self, x: npt.ArrayLike, output: Output = None, threads: int | None = None) -> Array: ...  # noqa: D102


class _Part(NamedTuple):
    """A box of positions beyond the ends, the samples that reach it, and the bounding box of both."""

    box: tuple[Interval, ...]
    read: tuple[Interval, ...]
    staged: tuple[Interval, ...]


class Adjoint:
    """The adjoint of a plan: ``sum(A(x) * y) == sum(x * A.adjoint()(y))`` up to rounding.

    Made by `Plan.adjoint`; immutable, safe to call from many threads at once, and picklable as plans are. Of
    a filter padded with a nonzero constant, it is the adjoint of its linear part. For complex
    arrays the products above conjugate one factor.

    Attributes
    ----------
    shape : tuple of int
        Of the arrays that it takes and returns.
    dtype : dtype
        The dtype it computes in and returns.
    """

    __slots__ = ("_forward", "_lines", "_main", "_parts", "dtype", "shape")

    def __init__(
        self, forward: Filter, lines: Sequence[Line], backward: Callable[[tuple[int, ...]], Filter]
    ) -> None:
        """Prepare; `backward` returns the zero-padded filter with the flipped kernel for a shape."""
        self.shape, self.dtype, self._forward = forward.shape, forward.dtype, forward
        self._lines = tuple(lines)
        self._main: Filter | None = None
        self._parts: list[tuple[_Part, Filter]] = []
        if 0 in self.shape:
            return
        parts = list(_borders(self._lines))
        around = sum(math.prod(_length(i) for i in part.staged) for part in parts)
        if around <= math.prod(self.shape):
            self._main = backward(self.shape)
        else:  # the borders are larger than the array: one filter for all
            parts = [_part(self._lines, [line.touched for line in self._lines])]
        self._parts = [(part, backward(tuple(map(_length, part.staged)))) for part in parts]

    @classmethod
    def of(cls, forward: Filter, setting: Setting, backward: Callable[[tuple[int, ...]], Filter]) -> Adjoint:
        """Return the adjoint of a filter in `setting`; `backward` as for the class."""
        return cls(forward, setting.lines(len(setting.shape)), backward)

    def __reduce__(self) -> tuple[Any, ...]:
        filters = [backward for _, backward in self._parts]
        lines = tuple(map(tuple, self._lines))
        return restore, (self._forward, lines, filters if self._main is None else [self._main, *filters])

    def __call__(self, y: npt.ArrayLike, output: Output = None, threads: int | None = None) -> Array:
        """Apply the adjoint to `y`.

        Parameters
        ----------
        y : array_like
            Of the plan's shape, and of a dtype that is filtered in the plan's. Never written to.
        output : ndarray, dtype or dtype name, optional
            Where to store the result, as in `correlate`; a new array of `dtype` by default.
        threads : int, optional
            Threads to use at most; the plans' own by default.

        Returns
        -------
        ndarray
            The result; `output` itself where that is an array.

        Raises
        ------
        ValueError
            `y` or `output` has another shape; `output` is read-only or shares memory with `y`.
        TypeError
            `y` has a dtype that the plan does not filter.
        """
        if type(y) is not np.ndarray or not (output is None or isinstance(output, (np.ndarray, np.dtype))):
            return through(lambda array, into: self(array, into, threads), y, output, "y")  # type: ignore[no-any-return]
        source = y
        if source.shape != self.shape:
            raise ValueError(
                f"`y` has shape {source.shape}, but the plan is for {self.shape}; plan again for it."
            )
        result = None if output is None else output_array(output, source, self.shape, self.dtype)
        direct = result is not None and result.dtype == self.dtype
        total = result if result is not None and direct else new_array(self.shape, self.dtype)
        if self._main is None:
            total[...] = 0
        else:
            self._main(source, total, threads)
        for part, backward in self._parts:
            staged = new_array(tuple(map(_length, part.staged)), self.dtype)
            staged[...] = 0
            _window(staged, part.staged, part.read)[...] = _window(source, None, part.read)
            values = _window(backward(staged, None, threads), part.staged, part.box)
            self._fold(values, part.box, total)
        if result is None or direct:
            return total
        store(total, result)
        return result

    def _fold(self, values: Array, box: Sequence[Interval], total: Array) -> None:
        """Add values beyond the ends to the samples that pad the array there."""
        places = list(box)
        for axis, line in enumerate(self._lines):
            values, places[axis] = folded_back(values, axis, places[axis], line)
        _window(total, None, places)[...] += values

    def adjoint(self) -> Filter:
        """Return the plan that this is the adjoint of."""
        return self._forward

    def __repr__(self) -> str:
        return f"<Adjoint of {self._forward!r}>"


def restore(
    forward: Filter, lines: Sequence[tuple[int, int, int, str]], filters: Sequence[Filter]
) -> Adjoint:
    """Return the adjoint that was pickled; `filters` are in the order in which it prepares them."""
    ready = iter(filters)
    return Adjoint(forward, [Line(*line) for line in lines], lambda shape: next(ready))


restore.__module__ = "separable.adjoint"  # what pickles name


def _borders(lines: Sequence[Line]) -> Iterator[_Part]:
    """Yield boxes that cover every position beyond the ends once: before and after each axis."""
    for axis, line in enumerate(lines):
        inner = [(0, other.n) for other in lines[:axis]]
        outer = [other.touched for other in lines[axis + 1 :]]
        begin, end = line.touched
        for interval in ((begin, 0), (line.n, end)):
            if _length(interval) > 0:
                yield _part(lines, [*inner, interval, *outer])


def _part(lines: Sequence[Line], box: Sequence[Interval]) -> _Part:
    read = tuple(line.reached_by(places) for line, places in zip(lines, box, strict=True))
    staged = tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(box, read, strict=True))
    return _Part(tuple(box), read, staged)


def _length(interval: Interval) -> int:
    return interval[1] - interval[0]


def _window(array: Array, frame: Sequence[Interval] | None, box: Sequence[Interval]) -> Array:
    """Return the view of `array` at the positions of `box`; `frame` are the positions that it holds."""
    starts = [0] * array.ndim if frame is None else [begin for begin, _ in frame]
    return array[tuple(slice(a - at, b - at) for (a, b), at in zip(box, starts, strict=True))]
