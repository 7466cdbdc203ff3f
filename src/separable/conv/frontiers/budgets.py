"""The budgets of a frontier: checked before any of the data are read."""

from __future__ import annotations

from typing import Any, Final

from ..conversion.goal import check_budget

__all__ = ["BUDGETS", "budgets_of"]

# What people ask for: half a dozen networks, each about 0.7 of the cost of the one before it.
BUDGETS: Final = (0.75, 0.5, 0.35, 0.25, 0.18, 0.125)


def budgets_of(budgets: Any = None) -> tuple[float, ...]:
    """Return budgets, the largest first, or refuse what are none.

    Parameters
    ----------
    budgets : iterable of float, optional
        Fractions, above 0 and at most 1, no two alike.

    Returns
    -------
    tuple of float

    Raises
    ------
    TypeError, ValueError
        If they are anything else; the message says which.
    """
    if budgets is None:
        return BUDGETS
    try:
        given = None if isinstance(budgets, (str, bytes)) else list(budgets)
    except TypeError:
        given = None
    if given is None:
        raise TypeError(
            f"`budgets={budgets!r}` is no sequence of fractions; expected one, such as [0.5, 0.25]."
        )
    if not given:
        raise ValueError("`budgets` is empty; expected fractions of the cost, such as [0.5, 0.25].")
    values = [check_budget(budget, f"budgets[{place}]") for place, budget in enumerate(given)]
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"`budgets` holds {twice[0]:g} twice; expected no two alike.")
    return tuple(sorted(values, reverse=True))
