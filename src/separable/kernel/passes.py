"""The passes of sums of terms: those that terms, or several kernels, have in common run once.

The passes run from the last axis to the first. Along the last axis every distinct array of taps runs once.
Along the axes before it, inputs of the same later passes are added first. Equal taps of terms thus express
staged kernels, the Tucker form, and banks that share their smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from .._base.types import FloatArray
from .._core import shared_passes

# Maximum axes that the core filters in one sweep over memory; along more, every term runs on its own.
SWEPT_AXES: Final = 3


class Edge(NamedTuple):
    """One pass: `taps` over a node of the level before, or over the image."""

    source: int
    taps: FloatArray


class Level(NamedTuple):
    """All passes along one axis: a node is the sum of its edges; the last level's nodes are the results."""

    axis: int
    nodes: tuple[tuple[Edge, ...], ...]


class Program(NamedTuple):
    """The passes of one or several kernels, last axis first; axes of one tap take none."""

    levels: tuple[Level, ...]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All passes."""
        return tuple(edge for level in self.levels for node in level.nodes for edge in node)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample of the image."""
        return sum(edge.taps.size for edge in self.edges)


def shared(kernels: Sequence[Sequence[Sequence[FloatArray]]]) -> Program:
    """Return the shared passes of kernels that filter one image.

    Parameters
    ----------
    kernels : sequence of kernels
        Each a sequence of terms, each term one array of taps per axis, of equal lengths in all terms.

    Returns
    -------
    Program
        Its last level has one node per kernel.
    """
    first = kernels[0][0]
    long_axes = [axis for axis, taps in enumerate(first) if taps.size > 1] or [0]
    order = long_axes[::-1]
    scaled = [[with_scale(term, long_axes, long_axes[0]) for term in kernel] for kernel in kernels]
    terms, distinct = indexed([[[term[axis] for axis in order] for term in kernel] for kernel in scaled])
    program = shared_passes(terms, len(long_axes))
    levels = [
        Level(axis, tuple(tuple(Edge(source, taps[n]) for source, n in node) for node in nodes))
        for axis, taps, nodes in zip(order, distinct, program, strict=True)
    ]
    return Program(tuple(levels))


def with_scale(term: Sequence[FloatArray], wide: Sequence[int], into: int) -> list[FloatArray]:
    """Return a term with the single taps of the axes not in `wide` multiplied into those of axis `into`."""
    if len(wide) == len(term):
        return list(term)
    scale = np.prod([term[axis][0] for axis in range(len(term)) if axis not in wide])
    return [taps * scale if axis == into and scale != 1 else taps for axis, taps in enumerate(term)]


def indexed(
    kernels: Sequence[Sequence[Sequence[FloatArray]]],
) -> tuple[list[tuple[int, ...]], list[list[FloatArray]]]:
    """Return terms as the numbers of their distinct taps in each pass.

    Parameters
    ----------
    kernels : sequence of kernels
        Terms as in `shared`, taps in the order in which the passes run.

    Returns
    -------
    terms : list of tuples of int
        For each term the number of its kernel, then those of its taps in each pass.
    distinct : list of lists of ndarray
        For each pass, the distinct taps by number.

    Notes
    -----
    Terms with a single pass are added into one. With more than three passes all taps count as distinct.
    """
    if len(kernels[0][0]) == 1:
        kernels = [[[np.sum([term[0] for term in kernel], axis=0)]] for kernel in kernels]
    numbers: list[dict[bytes, int]] = [{} for _ in kernels[0][0]]
    distinct: list[list[FloatArray]] = [[] for _ in kernels[0][0]]
    terms: list[tuple[int, ...]] = []
    for output, term in ((n, term) for n, kernel in enumerate(kernels) for term in kernel):
        place = []
        for taps, numbers_by_taps, arrays in zip(term, numbers, distinct, strict=True):
            key = taps.tobytes() if len(term) <= SWEPT_AXES else str(len(terms)).encode()
            number = numbers_by_taps.setdefault(key, len(numbers_by_taps))
            if number == len(arrays):
                arrays.append(taps)
            place.append(number)
        terms.append((output, *place))
    return terms, distinct
