"""Which form each layer should have, under a budget: exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray

__all__ = ["Choice", "allocate"]

# Sums of errors that differ by less than this fraction are the same but for rounding.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True)
class Choice:
    """One way to write one layer.

    Attributes
    ----------
    cost : float
        In any unit, the same for all.
    error : float
        Errors of layers add up.

    Examples
    --------
    >>> from separable.conv import Choice
    >>> as_it_is, cheaper = Choice(cost=9.0, error=0.0), Choice(cost=2.0, error=0.01)
    >>> as_it_is.cost / cheaper.cost
    4.5
    """

    cost: float
    error: float


def allocate(choices: Sequence[Sequence[Choice]], budget: float) -> tuple[int, ...]:
    """Return the choice for each layer whose errors add up to the least, their costs keeping to the budget.

    It is the multiple-choice knapsack problem [1]_, solved exactly: layer by layer all partial choices are
    kept that no other one beats in both cost and error, and of which the linear relaxation of the rest
    does not prove that they end worse than a choice already known.

    Parameters
    ----------
    choices : sequence of sequence of Choice
        For each layer at least one.
    budget : float
        Most that all costs together may be.

    Returns
    -------
    tuple of int
        For each layer the index of its choice. Of equal errors the lower cost.

    Raises
    ------
    ValueError
        If a layer has no choice, a number is NaN or infinite, or even the cheapest choices cost more than
        the budget.

    References
    ----------
    .. [1] H. Kellerer, U. Pferschy, D. Pisinger, Knapsack Problems, chapter 11, Springer, 2004.

    Examples
    --------
    >>> from separable.conv import Choice, allocate
    >>> first = [Choice(9, 0.0), Choice(2, 0.30)]
    >>> second = [Choice(9, 0.0), Choice(5, 0.01), Choice(2, 0.05)]
    >>> allocate([first, second], budget=14)
    (0, 1)
    >>> allocate([first, second], budget=7)
    (1, 1)
    """
    fronts = [_front(layer, number) for number, layer in enumerate(choices)]
    cheapest = [float(front.costs[0]) for front in fronts]
    least = math.fsum(cheapest)
    slack = _ROUNDING * max(abs(budget), least)
    # Bounds are differences of sums like this one.
    doubt = _ROUNDING * math.fsum(float(front.errors[0]) for front in fronts)
    if not least <= budget + slack:
        raise ValueError(f"`budget={budget}` is less than the cheapest choices cost together, {least}.")
    rest = _relaxed(fronts)
    known = _known(fronts, budget + slack)
    costs, errors = np.zeros(1), np.zeros(1)
    trail: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = []
    for number, front in enumerate(fronts):
        costs = np.add.outer(costs, front.costs).reshape(-1)
        errors = np.add.outer(errors, front.errors).reshape(-1)
        left = budget + slack - costs
        lowest = errors + _bound(rest[number + 1], left, slack if number + 1 < len(fronts) else 0.0)
        alive = np.flatnonzero(lowest <= known + doubt)
        order = alive[np.lexsort((errors[alive], costs[alive]))]
        falling = np.minimum.accumulate(errors[order])
        better = np.concatenate(([True], errors[order][1:] < falling[:-1]))
        kept = order[better]
        trail.append((kept // len(front.costs), kept % len(front.costs)))
        costs, errors = costs[kept], errors[kept]
    place = int(np.argmin(errors))
    chosen = []
    for (parents, picks), front in zip(reversed(trail), reversed(fronts), strict=True):
        chosen.append(int(front.index[picks[place]]))
        place = int(parents[place])
    return tuple(reversed(chosen))


@dataclass(frozen=True)
class _Front:
    """The choices of a layer that no other one beats, by rising cost and falling error."""

    costs: FloatArray
    errors: FloatArray
    index: npt.NDArray[np.intp]


def _front(layer: Sequence[Choice], number: int) -> _Front:
    if not layer:
        raise ValueError(f"`choices[{number}]` is empty; expected at least one choice for each layer.")
    costs = np.array([choice.cost for choice in layer], np.float64)
    errors = np.array([choice.error for choice in layer], np.float64)
    if not (np.isfinite(costs).all() and np.isfinite(errors).all()):
        raise ValueError(f"`choices[{number}]` holds NaN or infinity; expected finite costs and errors.")
    order = np.lexsort((errors, costs))
    falling = np.minimum.accumulate(errors[order])
    kept = order[np.concatenate(([True], errors[order][1:] < falling[:-1]))]
    return _Front(costs[kept], errors[kept], kept)


def _hull(front: _Front) -> list[int]:
    """Return the places of the lower convex hull of a front."""
    hull: list[int] = []
    for place in range(len(front.costs)):
        while len(hull) > 1:
            a, b = hull[-2:]
            rise = (front.errors[b] - front.errors[a]) * (front.costs[place] - front.costs[a])
            if rise < (front.errors[place] - front.errors[a]) * (front.costs[b] - front.costs[a]):
                break
            hull.pop()
        hull.append(place)
    return hull


def _relaxed(fronts: Sequence[_Front]) -> list[tuple[FloatArray, FloatArray]]:
    """Return, for the layers from each one on, the least error of fractions of choices at each cost."""
    steps = np.zeros((0, 2))
    costs, errors = 0.0, 0.0
    bounds = [(np.zeros(1), np.zeros(1))]
    for front in reversed(fronts):
        hull = _hull(front)
        mine = np.stack([np.diff(front.costs[hull]), np.diff(front.errors[hull])], axis=1)
        steps = np.concatenate([steps, mine])
        with np.errstate(over="ignore"):  # a fall in error at next to no cost: infinitely steep
            slopes = steps[:, 1] / steps[:, 0]
        steps = steps[np.argsort(slopes, kind="stable")]  # the steepest fall first
        costs, errors = costs + float(front.costs[0]), errors + float(front.errors[0])
        line = np.cumsum(np.concatenate([[[costs, errors]], steps]), axis=0)
        bounds.append((line[:, 0], line[:, 1]))
    return bounds[::-1]


def _bound(line: tuple[FloatArray, FloatArray], budgets: FloatArray, slack: float) -> FloatArray:
    lowest: FloatArray = np.interp(budgets, *line)
    return np.where(budgets < line[0][0] - slack, np.inf, lowest)


def _known(fronts: Sequence[_Front], budget: float) -> float:
    """Return the error of a good choice: steps along the hulls, the steepest first, as long as they fit."""
    hulls = [_hull(front) for front in fronts]
    steps = []
    for number, (front, hull) in enumerate(zip(fronts, hulls, strict=True)):
        for a, b in itertools.pairwise(hull):
            fall, more = front.errors[a] - front.errors[b], front.costs[b] - front.costs[a]
            with np.errstate(over="ignore"):
                steps.append((-fall / more, number, b))
    places = [0] * len(fronts)
    spent = math.fsum(float(front.costs[0]) for front in fronts)
    for _, number, place in sorted(steps):
        more = float(fronts[number].costs[place] - fronts[number].costs[places[number]])
        if spent + more <= budget:
            places[number], spent = place, spent + more
    for number in sorted(range(len(fronts)), key=lambda n: -float(fronts[n].errors[places[n]])):
        front = fronts[number]
        room = front.costs[places[number]] + budget - spent
        best = int(np.searchsorted(front.costs, room, side="right")) - 1
        if best > places[number]:
            spent += float(front.costs[best] - front.costs[places[number]])
            places[number] = best
    return math.fsum(float(front.errors[place]) for front, place in zip(fronts, places, strict=True))
