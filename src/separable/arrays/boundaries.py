"""Boundary modes: the sample at a position beyond the ends, padding, and its adjoint, folding back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from .._base.types import Array

Interval: TypeAlias = tuple[int, int]
ModeName: TypeAlias = Literal[
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"
]

# The modes in the order of their codes in the core, and all names: grid-* are SciPy's synonyms.
CANONICAL: Final = ("reflect", "constant", "nearest", "mirror", "wrap")
MODES: Final = {name: name for name in CANONICAL} | {
    "grid-mirror": "reflect",
    "grid-constant": "constant",
    "grid-wrap": "wrap",
}

# How torch and ONNX name what a convolution layer is padded with.
PADDING_MODES: Final = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}

# Modes that symmetric kernels preserve: the padded result is the filtered padding, and a second filter may
# follow in the same mode.
CONTINUING: Final = ("reflect", "mirror", "wrap")

OUTSIDE: Final = -1  # index of the padding constant in results of `sources`


class Line(NamedTuple):
    """One axis of an array: its length, the taps and shift of the kernel along it, and its boundary mode.

    ``out[i] = sum_k w[k] x[i + k - shift]``; an axis with 1 tap and shift 0 is not filtered.
    """

    n: int
    taps: int
    shift: int
    mode: str

    @property
    def touched(self) -> Interval:
        """The interval that the adjoint writes to before folding back; the line itself in mode constant."""
        return (0, self.n) if self.mode == "constant" else (-self.shift, self.n + self.taps - 1 - self.shift)

    def read_for(self, places: Interval) -> Interval:
        """Return the interval of samples by which results at `places` have all bits of those of the line.

        It ends where the line ends, at most, but in mode wrap, whose positions count on around it. Where it
        ends with the line, it holds as many samples as the boundary mode may take from there.
        """
        begin, end = places
        before, after = self.shift, self.taps - 1 - self.shift
        if (begin, end) == (0, self.n):
            return places
        begin, end = begin - before, end + after
        if self.mode == "wrap" and self.taps > 1:
            return begin, end
        if begin <= 0:
            end = max(end, before + 1)
        if end >= self.n:
            begin = min(begin, self.n - after - 1)
        if begin <= 0:
            end = max(end, before + 1)
        return max(begin, 0), min(end, self.n)

    def reached_by(self, places: Interval) -> Interval:
        """Return the interval of results, within the line, that read samples in `places`."""
        begin, end = places
        return max(begin - (self.taps - 1 - self.shift), 0), min(end + self.shift, self.n)


def is_padded(mode: str | Sequence[str]) -> bool:
    """Return whether a mode, or one of several, continues the array by a constant."""
    return any(MODES.get(name) == "constant" for name in ((mode,) if isinstance(mode, str) else mode))


def sources(positions: Array, n: int, mode: str) -> Array:
    """Return the index of the sample at each position of a line of n samples, padded by `mode`.

    Parameters
    ----------
    positions : ndarray of int
    n : int
        At least 1.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}

    Returns
    -------
    ndarray of int
        In ``0..n-1``, or `OUTSIDE`.
    """
    if mode == "constant":
        return np.where((positions >= 0) & (positions < n), positions, OUTSIDE)
    if mode == "nearest":
        return np.clip(positions, 0, n - 1)
    if mode == "wrap":
        return positions % n
    period = 2 * n if mode == "reflect" else max(2 * n - 2, 1)
    inside = positions % period
    folded: Array = np.minimum(inside, period - inside - (mode == "reflect"))
    return folded


def continued(x: Array, axis: int, before: int, after: int, mode: str, cval: complex = 0.0) -> Array:
    """Return `x` padded along one axis by `before` and `after` samples.

    Parameters
    ----------
    x : ndarray
        At least one sample along `axis`.
    axis, before, after : int
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}
    cval : complex, optional
        The padding value of mode constant.
    """
    if before + after == 0:
        return x
    if mode == "constant":
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, after)
        return np.pad(x, widths, constant_values=cval)
    n = x.shape[axis]
    padded: Array = x.take(sources(np.arange(-before, n + after), n, mode), axis)
    return padded


def folded_back(values: Array, axis: int, places: Interval, line: Line) -> tuple[Array, Interval]:
    """Add the values beyond the ends of a line to the samples that pad it there: the adjoint of padding.

    Parameters
    ----------
    values : ndarray
        At `places` of the line, along `axis`.
    axis : int
    places : (int, int)
        The half-open interval of positions that `values` covers.
    line : Line

    Returns
    -------
    ndarray
        The sums.
    (int, int)
        Their half-open interval, within the line.
    """
    first, last = places
    if first >= 0 and last <= line.n:
        return values, places
    indices = sources(np.arange(first, last), line.n, line.mode)
    low, high = int(indices.min()), int(indices.max()) + 1
    folded = np.zeros((*values.shape[:axis], high - low, *values.shape[axis + 1 :]), values.dtype)
    into, out = np.moveaxis(folded, axis, 0), np.moveaxis(values, axis, 0)
    begin, end = max(first, 0), min(last, line.n)
    if begin < end:
        into[begin - low : end - low] += out[begin - first : end - first]
    for place in itertools.chain(range(first, min(0, last)), range(max(line.n, first), last)):
        into[indices[place - first] - low] += out[place - first]
    return folded, (low, high)


class Piece(NamedTuple):
    """An interval of a staged line, and the samples it is copied from; None: the padding constant."""

    target: slice
    source: slice | Array | None


def pieces(first: int, length: int, line: Line) -> list[Piece]:
    """Return the pieces of a staged line that begins at position `first`: halo, samples, halo.

    Positions beyond the reach of the last result are filled as well, so that all samples are finite.
    """
    cuts = sorted({0, min(max(-first, 0), length), min(max(line.n - first, 0), length), length})
    parts = []
    for begin, end in itertools.pairwise(cuts):
        target = slice(begin, end)
        if 0 <= first + begin < line.n:
            parts.append(Piece(target, slice(first + begin, first + end)))
        elif line.mode == "constant":
            parts.append(Piece(target, None))
        else:
            parts.append(Piece(target, sources(np.arange(first + begin, first + end), line.n, line.mode)))
    return parts
