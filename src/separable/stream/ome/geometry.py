"""Levels of a pyramid: how many there are, along which axes each is halved, and where its samples lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from ..._base.numbers import as_whole
from ..._base.words.messages import shown

Reduction: TypeAlias = Literal["mean", "sample"]
REDUCTIONS: Final = ("mean", "sample")

_APART: Final = 2 - 1e-6  # times the finest spacing, from which on an axis is left alone


class Pyramid(NamedTuple):
    """How many levels there are to be, and how each is made.

    Attributes
    ----------
    levels : int or None
        With the whole picture; None: until the smallest fits into a chunk.
    reduction : {"mean", "sample"}
        The mean of the samples that one of a level stands for, or the first of them.
    isotropic : bool
        An axis whose samples lie twice as far apart as those of the finest is not halved.
    """

    levels: int | None = 1
    reduction: Reduction = "mean"
    isotropic: bool = False

    def check(self) -> None:
        """Refuse what no picture can have.

        Raises
        ------
        ValueError
        """
        count = None if self.levels is None else as_whole(self.levels)
        if self.levels is not None and (count is None or count < 1):
            raise ValueError(
                f"`levels={shown(self.levels)}` is no number of levels; expected 1, the whole picture alone, "
                "or more."
            )
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"`reduction={shown(self.reduction)}` is unknown; expected 'mean' or 'sample'.")


class OmeLevel(NamedTuple):
    """A level of a pyramid.

    Attributes
    ----------
    shape : tuple of int
    factors : tuple of int
        How many samples of the whole picture lie along each axis of one of its own.
    """

    shape: tuple[int, ...]
    factors: tuple[int, ...]


def levels_of(
    shape: Sequence[int],
    spatial: Sequence[int],
    spacing: Sequence[float | None],
    chunks: Sequence[int],
    pyramid: Pyramid,
) -> tuple[OmeLevel, ...]:
    """Return the levels of a picture, the whole one first.

    A level has a sample for each begun pair of the one before along each axis of space that is longer than 1.

    Parameters
    ----------
    shape : sequence of int
        Of the whole picture.
    spatial : sequence of int
        The axes that are space; no others are halved.
    spacing : sequence of (float or None)
        Between neighbouring samples, in one unit.
    chunks : sequence of int
    pyramid : Pyramid

    Raises
    ------
    ValueError
        There are not so many levels; a spacing is not known and `isotropic` asks for it.
    """
    unknown = [axis for axis in spatial if spacing[axis] is None]
    if pyramid.isotropic and unknown:
        raise ValueError(
            "`isotropic` goes by the distance of neighbouring samples, and the source states none for axis "
            f"{unknown[0]}; leave it out."
        )
    made = [OmeLevel(tuple(shape), (1,) * len(shape))]
    while pyramid.levels is None or len(made) < pyramid.levels:
        last = made[-1]
        if pyramid.levels is None and all(last.shape[axis] <= chunks[axis] for axis in spatial):
            break
        halved = _halved(last, spatial, spacing, pyramid.isotropic)
        if not halved:
            if pyramid.levels is None:
                break
            raise ValueError(
                f"`levels={pyramid.levels}` is more than there are: {len(made)}, the last of shape "
                f"{last.shape}."
            )
        factors = tuple(n * 2 if axis in halved else n for axis, n in enumerate(last.factors))
        made.append(OmeLevel(tuple(-(-n // f) for n, f in zip(shape, factors, strict=True)), factors))
    return tuple(made)


def _halved(
    level: OmeLevel, spatial: Sequence[int], spacing: Sequence[float | None], isotropic: bool
) -> list[int]:
    """Return the axes that are halved for the level that follows."""
    able = [axis for axis in spatial if level.shape[axis] > 1]
    if not isotropic:
        return able
    steps = {axis: (spacing[axis] or 1.0) * level.factors[axis] for axis in able}
    finest = min(steps.values(), default=math.inf)
    return [axis for axis in able if steps[axis] < _APART * finest]


def placed(
    level: OmeLevel, scale: Sequence[float], translation: Sequence[float], reduction: Reduction
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and translation of a level: where the centre of its first sample lies.

    The mean of n samples lies in their middle, (n - 1) / 2 samples behind the first.
    """
    lasts = zip(level.factors, scale, translation, strict=True)
    begins = tuple(start + (n - 1) / 2 * step if reduction == "mean" else start for n, step, start in lasts)
    return tuple(n * step for n, step in zip(level.factors, scale, strict=True)), begins
