"""Where the columns of a tensor lie along time, and which columns of another one each of them reads."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Extent", "NotLocalError", "Reach"]


class NotLocalError(Exception):
    """An operation does not make each column of its results from a few columns; the message says why.

    Attributes
    ----------
    stride : int
        Of its results, in columns of the input, if that is why: the hop is no multiple of it; else 0.
    """

    def __init__(self, reason: str, stride: int = 0) -> None:
        super().__init__(reason)
        self.stride = stride


@dataclass(frozen=True, slots=True)
class Reach:
    """The columns that one column of a result is made from.

    Attributes
    ----------
    span : int
        From the first one to the last.
    step : int
        Columns that this moves on from one result to the next: the stride.
    before : int
        Columns of padding at the low end.
    """

    span: int = 1
    step: int = 1
    before: int = 0

    def columns(self, first: int, end: int) -> tuple[int, int]:
        """Return the first column that results from `first` up to `end` read, and the end of them.

        They may lie in the padding.
        """
        return self.step * first - self.before, self.step * (end - 1) - self.before + self.span


@dataclass(frozen=True, slots=True)
class Extent:
    """A tensor along time, for one place of the window.

    Attributes
    ----------
    axis : int
    length : int
        Columns.
    stride : int
        Columns of the input from one to the next.
    low, high : int
        Columns from `low` up to `high` depend on no padding: they stay as they are when the window slides.
    """

    axis: int
    length: int
    stride: int
    low: int
    high: int

    def fresh(self, hop: int) -> int:
        """Return the columns that are new after a hop of so many columns of the input."""
        return hop // self.stride

    def known(self, hop: int) -> int:
        """Return the end of those columns that were computed before the hop."""
        return self.high - self.fresh(hop)

    def computed(self, hop: int) -> int:
        """Return how many columns a hop computes: the new ones, and those that depend on padding."""
        return self.low + self.length - self.known(hop)

    def after(self, reach: Reach, axis: int, length: int) -> Extent:
        """Return the extent of what is made of this tensor."""
        low = -(-(self.low + reach.before) // reach.step)
        if low > 0:  # those near the low end read one column at least: padding alone is no tensor
            low = max(low, -(-(reach.before + 1 - reach.span) // reach.step) + 1)
        high = (self.high + reach.before - reach.span) // reach.step + 1
        return Extent(axis, length, self.stride * reach.step, max(low, 0), min(high, length))
