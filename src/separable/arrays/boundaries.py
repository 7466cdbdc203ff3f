"""The one rule beyond the ends of an array: which sample stands there, arrays continued, and folded back."""

from __future__ import annotations

import itertools
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from .._base.types import Array

Interval: TypeAlias = tuple[int, int]
ModeName: TypeAlias = Literal[
    "reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"
]

# The modes by the codes they have in the core, and all names of them: grid-* are SciPy's synonyms.
CANONICAL: Final = ("reflect", "constant", "nearest", "mirror", "wrap")
MODES: Final = {name: name for name in CANONICAL} | {
    "grid-mirror": "reflect",
    "grid-constant": "constant",
    "grid-wrap": "wrap",
}
CODES: Final = {name: code for code, name in enumerate(CANONICAL)}

# How torch and ONNX name what a convolution layer is padded with.
PADDING_MODES: Final = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"}

# Modes that continue an array by a mirror image or a copy of it, which a symmetric kernel filters into the
# same of the result: a second filter finds beyond the ends what it should.
CONTINUING: Final = ("reflect", "mirror", "wrap")

OUTSIDE: Final = -1  # in a table of sources: no sample, but the constant


class Line(NamedTuple):
    """One axis of an array: its length, how a kernel reaches along it, and how it is continued.

    ``out[i] = sum_k w[k] x[i + k - shift]``; an axis with 1 tap and shift 0 is not filtered.
    """

    n: int
    taps: int
    shift: int
    mode: str

    @property
    def touched(self) -> Interval:
        """The places that receive anything from the line's adjoint; no more than the line by a constant."""
        return (0, self.n) if self.mode == "constant" else (-self.shift, self.n + self.taps - 1 - self.shift)

    def reached_by(self, places: Interval) -> Interval:
        """Return the results that read some places, within the line."""
        begin, end = places
        return max(begin - (self.taps - 1 - self.shift), 0), min(end + self.shift, self.n)


def sources(positions: Array, n: int, mode: str) -> Array:
    """Return which of n samples stands at each position of the line that they continue to.

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
    """Return `x` with so many samples more before and after one axis.

    Parameters
    ----------
    x : ndarray
        At least one sample along `axis`.
    axis, before, after : int
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}
    cval : complex, optional
        What stands there in mode constant.
    """
    if before + after == 0:
        return x
    if mode == "constant":
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, after)
        return np.pad(x, widths, constant_values=cval)
    n = x.shape[axis]
    taken: Array = x.take(sources(np.arange(-before, n + after), n, mode), axis)
    return taken


def folded_back(values: Array, axis: int, places: Interval, line: Line) -> tuple[Array, Interval]:
    """Add what lies beyond the ends of a line to the samples that stand for it there.

    Parameters
    ----------
    values : ndarray
        At `places` of the line, along `axis`.
    axis : int
    places : (int, int)
        The first, and the one behind the last.
    line : Line

    Returns
    -------
    ndarray
        The sums.
    (int, int)
        Their places within the line.
    """
    first, last = places
    if first >= 0 and last <= line.n:
        return values, places
    came = sources(np.arange(first, last), line.n, line.mode)
    low, high = int(came.min()), int(came.max()) + 1
    folded = np.zeros((*values.shape[:axis], high - low, *values.shape[axis + 1 :]), values.dtype)
    into, out = np.moveaxis(folded, axis, 0), np.moveaxis(values, axis, 0)
    begin, end = max(first, 0), min(last, line.n)
    if begin < end:
        into[begin - low : end - low] += out[begin - first : end - first]
    for place in itertools.chain(range(first, min(0, last)), range(max(line.n, first), last)):
        into[came[place - first] - low] += out[place - first]
    return folded, (low, high)


class Piece(NamedTuple):
    """Places of a staged line, and the samples they come from; None: the constant."""

    target: slice
    source: slice | Array | None


def pieces(first: int, length: int, line: Line) -> list[Piece]:
    """Return the pieces of a staged line that begins at position `first`: halo, samples, halo.

    What lies beyond the reach of the last result is read by none; it is filled, so that all is finite.
    """
    cuts = sorted({0, min(max(-first, 0), length), min(max(line.n - first, 0), length), length})
    found = []
    for begin, end in itertools.pairwise(cuts):
        target = slice(begin, end)
        if 0 <= first + begin < line.n:
            found.append(Piece(target, slice(first + begin, first + end)))
        elif line.mode == "constant":
            found.append(Piece(target, None))
        else:
            found.append(Piece(target, sources(np.arange(first + begin, first + end), line.n, line.mode)))
    return found
