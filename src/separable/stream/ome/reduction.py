"""Levels of a picture from its rows, which come in order, each of them once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ..._base.types import Array
from .geometry import OmeLevel, Reduction

_BLOCK: Final = 1 << 19  # samples that are taken up at a time, and two rows at the least
_HALF: Final = np.uint64(32)  # bits of the two parts in which words of 64 bits are summed
_LONGEST: Final = 62  # bits of a sum of samples, or of their parts
_EXACT: Final = 52  # bits of a sum whose quotient in float64, rounded to a whole number, is the true one


class LevelRows(NamedTuple):
    """Rows of a level, with its number and the index of the first."""

    number: int
    first: int
    rows: Array


class LevelSamples:
    """Every so many samples along each axis, the first among them.

    Parameters
    ----------
    levels : sequence of OmeLevel
        The whole picture first.
    dtype : dtype
    """

    def __init__(self, levels: Sequence[OmeLevel], dtype: np.dtype[Any]) -> None:
        self._levels, self._place = levels, 0

    @staticmethod
    def known(level: OmeLevel, rows: int, length: int) -> int:
        """Return how many rows of a level are known of so many of `length` of the whole picture."""
        return -(-rows // level.factors[0])

    def begin(self, row: int) -> None:
        """Take rows up from that one on, at which all levels begin a row."""
        self._place = row

    def take(self, rows: Array) -> Iterator[LevelRows]:
        """Yield the rows of all smaller levels that begin in these."""
        begin, end = self._place, self._place + len(rows)
        self._place = end
        for number, level in enumerate(self._levels[1:], 1):
            first = -(-begin // level.factors[0])
            steps = (slice(first * level.factors[0] - begin, None), *(slice(None) for _ in level.shape[1:]))
            part = rows[steps][tuple(slice(None, None, n) for n in level.factors)]
            if len(part):
                yield LevelRows(number, first, part)


class LevelMeans:
    """The means of the samples that those of each level stand for, rounded once.

    Integers are summed up exactly and halves round to even; floats are summed in float64, in an order that
    does not depend on how the rows come.

    Parameters
    ----------
    levels : sequence of OmeLevel
        The whole picture first.
    dtype : dtype
    """

    def __init__(self, levels: Sequence[OmeLevel], dtype: np.dtype[Any]) -> None:
        self._levels, self._dtype = levels, dtype
        self._sums = _Sums.of(dtype, levels[-1].factors)
        self._carried: list[tuple[Array, ...] | None] = [None] * len(levels)  # a row that waits for a second
        self._places = [0] * len(levels)  # rows of each level that were made

    @staticmethod
    def known(level: OmeLevel, rows: int, length: int) -> int:
        """Return how many rows of a level are known of so many of `length` of the whole picture."""
        return level.shape[0] if rows >= length else rows // level.factors[0]

    def begin(self, row: int) -> None:
        """Take rows up from that one on, at which all levels begin a row."""
        self._carried = [None] * len(self._levels)
        self._places = [row // level.factors[0] for level in self._levels]

    def take(self, rows: Array) -> Iterator[LevelRows]:
        """Yield the rows of all smaller levels that are known with these."""
        step = block_rows(self._levels[0].shape)
        for begin in range(0, len(rows), step):
            yield from self._taken(rows[begin : begin + step])

    def _taken(self, rows: Array) -> Iterator[LevelRows]:
        parts = self._sums.parts(rows)
        self._places[0] += len(rows)
        for number in range(1, len(self._levels)):
            level, before = self._levels[number], self._levels[number - 1]
            halved = [n > m for n, m in zip(level.factors, before.factors, strict=True)]
            bits = math.prod(level.factors).bit_length() - 1
            if halved[0]:
                parts = self._paired(number, parts, bits)
            for axis in range(1, len(halved)):
                if halved[axis]:
                    parts = tuple(_halved(part, axis, self._sums.dtype(bits)) for part in parts)
            count = len(parts[0])
            if not count:
                return
            first = self._places[number]
            self._places[number] += count
            samples = self._counts(level, first, count)
            yield LevelRows(number, first, self._sums.mean(parts, samples).astype(self._dtype, copy=False))

    def _paired(self, number: int, parts: tuple[Array, ...], bits: int) -> tuple[Array, ...]:
        """Return the sums of pairs of rows; the last one stands alone where there is no second."""
        carried = self._carried[number]
        ended = self._places[number - 1] == self._levels[number - 1].shape[0]
        count, start = len(parts[0]) + (carried is not None), int(carried is not None)
        pairs = (len(parts[0]) - start) // 2
        alone = start + 2 * pairs
        made = []
        for place, part in enumerate(parts):
            sums = np.empty((count // 2 + (ended and count % 2), *part.shape[1:]), self._sums.dtype(bits))
            if carried is not None:
                np.add(carried[place], part[:1], out=sums[:1], dtype=sums.dtype)
            firsts, seconds = part[start:alone:2], part[start + 1 : alone : 2]
            np.add(firsts, seconds, out=sums[start : start + pairs], dtype=sums.dtype)
            if ended and count % 2:
                sums[-1] = part[-1]
            made.append(sums)
        waits = count % 2 == 1 and not ended
        self._carried[number] = tuple(part[-1:].copy() for part in parts) if waits else None
        return tuple(made)

    def _counts(self, level: OmeLevel, first: int, count: int) -> Array | int:
        """Return how many samples each sum is of: an array where a level ends within a sample of its own."""
        full = math.prod(level.factors)
        whole = self._levels[0].shape
        ends = [n % factor for n, factor in zip(whole, level.factors, strict=True)]
        last = first + count == level.shape[0]
        if not any(ends[1:]) and not (ends[0] and last):
            return full
        counts = np.ones((1,) * len(whole), np.int64)
        for axis, (length, factor, end) in enumerate(zip(level.shape, level.factors, ends, strict=True)):
            along = np.full(count if axis == 0 else length, factor, np.int64)
            if end and (axis or last):
                along[-1] = end
            counts = counts * along.reshape([-1 if n == axis else 1 for n in range(len(whole))])
        return counts


BY_NAME: Final[dict[str, type[LevelMeans] | type[LevelSamples]]] = {
    "mean": LevelMeans,
    "sample": LevelSamples,
}


def _halved(part: Array, axis: int, dtype: np.dtype[Any]) -> Array:
    """Return the sums of neighbours along an axis; the last one stands alone where their number is odd."""

    def along(*places: int | None) -> tuple[slice, ...]:
        return (*(slice(None) for _ in range(axis)), slice(*places))

    even, odd = part[along(0, None, 2)], part[along(1, None, 2)]
    sums, count = np.empty(even.shape, dtype), odd.shape[axis]
    np.add(even[along(count)], odd, out=sums[along(count)], dtype=dtype)
    sums[along(count, None)] = even[along(count, None)]
    return sums


def block_rows(shape: Sequence[int]) -> int:
    """Return how many rows of a picture are summed up at a time."""
    rows = max(2, _BLOCK // max(math.prod(shape[1:]), 1))
    return 1 << (rows.bit_length() - 1)  # pairs, and pairs of these, lie in one block


def reduction_bytes(levels: Sequence[OmeLevel], dtype: np.dtype[Any], reduction: Reduction) -> int:
    """Return the memory that is taken to make the smaller levels."""
    if len(levels) < 2:
        return 0
    across = math.prod(levels[0].shape[1:])
    if reduction == "sample":
        return 0
    sums = _Sums.of(dtype, levels[-1].factors)
    rows = min(block_rows(levels[0].shape), levels[0].shape[0])
    # A block as parts of words, or scaled; its sums along the first axis and along the second; a row of each
    # level that waits; sums, counts and quotients of what comes out.
    entering = rows * across * sums.entering
    return entering + (2 * rows + 3) * across * sums.item


def sum_bytes(dtype: np.dtype[Any], factors: Sequence[int]) -> int:
    """Return the bytes of a sample that waits for a second one.

    Raises
    ------
    ValueError
        Sums over so many samples along each axis are not exact.
    """
    return _Sums.of(dtype, factors).item


class _Sums(NamedTuple):
    """How samples of a dtype are summed up.

    Attributes
    ----------
    kind : {"i", "f", "c"}
    bits : int
        Of a sample.
    signed : bool
    split : bool
        In two parts, of 32 bits each, since their sums do not fit into a word.
    scale : float
        Floats are multiplied by it first, so that no sum overflows; a power of two.
    """

    kind: str
    bits: int
    signed: bool
    split: bool
    scale: float
    exact: bool  # quotients in float64, rounded, are the true ones

    @classmethod
    def of(cls, dtype: np.dtype[Any], factors: Sequence[int]) -> _Sums:
        """Return how sums over so many samples along each axis are made."""
        more = math.prod(factors).bit_length() - 1
        if dtype.kind in "fc":
            wide = dtype in (np.float64, np.complex128)
            return cls(dtype.kind, 64, True, False, 2.0**-more if wide else 1.0, False)
        bits = 1 if dtype == np.bool_ else dtype.itemsize * 8
        split = bits == 64
        if min(bits, 32) + more > _LONGEST:
            raise ValueError(
                f"`levels`: sums of 2**{more} samples of {dtype} are not exact; pass fewer levels."
            )
        exact = not split and bits + more <= _EXACT
        return cls("i", 32 if split else bits, dtype.kind == "i", split, 1.0, exact)

    def dtype(self, bits: int) -> np.dtype[Any]:
        """Return the dtype of sums of 2**bits samples."""
        if self.kind != "i":
            return np.dtype(np.float64 if self.kind == "f" else np.complex128)
        if self.bits + bits <= 32 and not self.split:
            return np.dtype(np.int32 if self.signed else np.uint32)
        return np.dtype(np.int64 if self.signed or self.split else np.uint64)

    @property
    def item(self) -> int:
        """Bytes of a sum at the most, of all its parts."""
        return 16 if self.split or self.kind == "c" else 8

    @property
    def entering(self) -> int:
        """Bytes of a sample before it is summed up."""
        return self.item if self.split or self.scale != 1 else 1

    def parts(self, rows: Array) -> tuple[Array, ...]:
        """Return the samples as they are summed up."""
        if self.scale != 1:
            return (rows * rows.dtype.type(self.scale),)
        if rows.dtype == np.bool_:
            return (rows.view(np.uint8),)
        if not self.split:
            return (rows,)
        high = (rows >> _HALF.astype(rows.dtype)).astype(np.int64)
        return high, (rows & rows.dtype.type(0xFFFFFFFF)).astype(np.int64)

    def mean(self, parts: tuple[Array, ...], counts: Array | int) -> Array:
        """Return sums by their counts, rounded once."""
        if self.kind != "i":
            with np.errstate(over="ignore", invalid="ignore"):
                return np.asarray(parts[0] / (np.asarray(counts, np.float64) * self.scale))
        if self.exact:
            return np.rint(np.asarray(parts[0] / np.asarray(counts, np.float64)))
        if not self.split:
            whole, rest = _divided(parts[0], counts)
            return whole + _rounds_up(whole, rest, counts)
        # high * 2**32 + low, by the count: what is left of the upper part goes on to the lower.
        upper, left = _divided(parts[0], counts)
        whole, rest = _divided((left << 32) + parts[1], counts)
        lower = whole + _rounds_up(whole, rest, counts)
        kind = np.int64 if self.signed else np.uint64
        return (upper.astype(kind) << kind(32)) + lower.astype(kind)


def _divided(sums: Array, counts: Array | int) -> tuple[Array, Array]:
    divisor = np.asarray(counts, sums.dtype)
    return np.divmod(sums, divisor)


def _rounds_up(whole: Array, rest: Array, counts: Array | int) -> Array:
    """Return 1 where a quotient is nearer to the next whole number, or as near and odd."""
    twice, divisor = rest * rest.dtype.type(2), np.asarray(counts, rest.dtype)
    odd = (whole & whole.dtype.type(1)).astype(bool)
    up: Array = (twice > divisor) | ((twice == divisor) & odd)
    return up.astype(whole.dtype)
