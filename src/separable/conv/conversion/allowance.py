"""What the layers of a network may cost together, so that the whole network keeps to a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ..forms.table import CHEAPER
from .curves import Curves
from .records import Option

__all__ = ["Allowance", "UnmetBudgetError"]

# The fraction of the time that a network takes with some choices; None where it is not known.
TimeLeft: TypeAlias = Callable[[Sequence[Option]], float | None]

# How often the network as a whole is measured for a budget; by how much such a fraction is uncertain; and how
# far below the budget it may lie before more is allowed.
_TRIES: Final = 4
_NOISE: Final = 0.01
_UNUSED: Final = 0.03

# Sums of the same costs in another order differ by less.
_ROUNDED: Final = 1e-9


class UnmetBudgetError(ValueError):
    """A budget that the cheapest forms of all layers do not meet.

    Attributes
    ----------
    least : float
        The fraction of the cost that these leave.
    """

    def __init__(self, message: str, least: float) -> None:
        super().__init__(message)
        self.least = least


class Allowance:
    """What the layers may cost together under one budget or several.

    Counts add up. Times do not: layers take another time among others than alone, and what is left beside
    them is the small difference of large numbers (of a ResNet-18 of 1.2 ms it was 0.06 ms in one run and
    0.26 ms in the next; a VGG16 took 0.78 of its time where its layers added up to 0.6). But what a network
    takes depends on no weights, so it is measured before anything is fitted, and what the layers may cost is
    corrected by that.

    Parameters
    ----------
    curves : Curves
    other : float
        The cost of what is no layer, by the same count or clock.
    left_of : callable or None
        Measures what choices leave of the time of the whole; None: costs add up.
    """

    def __init__(self, curves: Curves, other: float, left_of: TimeLeft | None = None) -> None:
        self._curves, self._other, self._left_of = curves, other, left_of
        self._known: dict[float, float] = {}  # by budget
        self._measured: dict[tuple[tuple[str, int], ...], float | None] = {}  # by choices
        self._error = 0.0  # of the last sum that was compared with the whole

    def under(self, budget: float) -> float:
        """Return what the layers may cost.

        Parameters
        ----------
        budget : float
            What may be left of the whole, as a fraction.

        Raises
        ------
        UnmetBudgetError
            If the cheapest forms leave more.
        """
        if budget not in self._known:
            allowed = None if self._left_of is None else self._by_the_whole(budget)
            self._known[budget] = self._by_sums(budget) if allowed is None else allowed
        return self._known[budget]

    def _by_sums(self, budget: float) -> float:
        left = self._sum(self._curves.least)
        if left > budget:
            raise self._unmet(budget, left)
        return self._costs(budget)

    def _by_the_whole(self, budget: float) -> float | None:
        """Return the most that keeps the whole to a budget, of a few tries; None if nobody can measure it."""
        least, dense = self._curves.least, self._curves.dense
        met, unmet = None, dense * (1 + _UNUSED)
        allowed = min(max(self._costs(budget - self._error), least), dense)
        for _ in range(_TRIES):
            allowed, left = self._tried(allowed)
            if left is None:
                return None
            if left <= budget * (1 + _NOISE):
                met = allowed
                if left >= budget * (1 - _UNUSED) or allowed >= dense * (1 - _NOISE):
                    return met
            elif allowed <= least * (1 + _ROUNDED):
                raise self._unmet(budget, left)
            else:
                unmet = allowed
            self._error = left - self._sum(allowed)
            allowed = self._costs(budget - self._error)
            low = least if met is None else met
            if not low < allowed < unmet:  # as it was, or beyond what is known not to keep to it
                allowed = least if met is None and allowed <= low else (low + min(unmet, dense)) / 2
        if met is None:
            _, left = self._tried(least)
            if left is None or left > budget * (1 + _NOISE):
                raise self._unmet(budget, self._sum(least) if left is None else left)
        return least if met is None else met

    def _tried(self, allowed: float) -> tuple[float, float | None]:
        """Return what the layers cost where they may cost so much, and what that leaves of the whole."""
        picks = self._curves.chosen(allowed)
        key = tuple((pick.form, pick.rank) for pick in picks)
        if key not in self._measured:
            assert self._left_of is not None
            self._measured[key] = self._left_of(picks)
        return math.fsum(pick.cost for pick in picks) * (1 + _ROUNDED), self._measured[key]

    def _sum(self, cost: float) -> float:
        """Return the fraction of the whole that the layers' cost leaves."""
        return (cost + self._other) / (self._curves.dense + self._other)

    def _costs(self, left: float) -> float:
        """Return the layers' cost that leaves a fraction of the whole."""
        return left * (self._curves.dense + self._other) - self._other

    def _unmet(self, budget: float, left: float) -> UnmetBudgetError:
        least = math.ceil(1e4 * left) / 1e4
        more = " or allow more forms." if len(self._curves.forms) < len(CHEAPER) else "."
        fix = f"raise the budget{more}" if least < 1 else "as a whole the network gets no faster."
        unmet = f"`budget={budget}` of the {self._curves.by} cannot be met"
        return UnmetBudgetError(f"{unmet}: the cheapest forms leave {least}; {fix}", least)
