"""What is asked of a conversion: where it makes no sense, refused before any of the data are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from ..algebra.geometry import whole
from ..forms.table import CHEAPER, FORMS, is_dense

__all__ = ["COSTS", "SPARED", "check_goal", "check_patterns", "count", "spares_linear"]

# Why a linear layer stays as it is where one rank is asked for.
SPARED: Final = "linear, and `rank` is a depth multiplier; forms=['low-rank'] converts it as well"

# What a budget can be of.
COSTS: Final = ("macs", "params", "latency")


def check_goal(budget: Any, by: Any, forms: Any, rank: Any) -> None:
    """Refuse what no conversion can be asked for.

    Parameters
    ----------
    budget : float
        A fraction, above 0 and at most 1.
    by : {"macs", "params", "latency"}
    forms : sequence of str
        Some of "dw-pw", "pw-dw", "spatial" and "low-rank"; "dense" may be among them.
    rank : int, "full" or None

    Raises
    ------
    TypeError, ValueError
        If one is anything else; the message names it.
    """
    _check_budget(budget)
    if by not in COSTS:
        raise ValueError(f"`by={by!r}` is unknown; expected one of {', '.join(map(repr, COSTS))}.")
    if isinstance(forms, str) or not isinstance(forms, Collection):
        shown = f"({forms!r},)" if isinstance(forms, str) else "('dw-pw',)"
        raise TypeError(f"`forms={forms!r}` is no sequence of names; expected a sequence, such as {shown}.")
    known = tuple(forms)
    unknown = [form for form in known if form not in FORMS]
    if unknown:
        raise ValueError(f"`forms` holds {unknown[0]!r}; expected some of {', '.join(map(repr, FORMS))}.")
    if all(map(is_dense, known)):
        raise ValueError(
            f"`forms={known!r}` leaves every layer as it is; expected some of "
            f"{', '.join(map(repr, CHEAPER))}."
        )
    if isinstance(rank, str):
        if rank != "full":
            raise ValueError(f"`rank={rank!r}` is unknown; expected an int or 'full'.")
    elif rank is not None:
        count(rank, "rank")


def spares_linear(forms: Collection[str], rank: int | str | None) -> bool:
    """Return whether one rank for all layers is none for linear ones, which have no depth multiplier."""
    return isinstance(rank, int) and any(FORMS[form].multiplies for form in forms)


def _check_budget(budget: Any) -> None:
    try:
        value = None if isinstance(budget, (str, bytes, bool)) else float(budget)
    except (TypeError, ValueError):
        value = None
    if value is None:
        raise TypeError(f"`budget={budget!r}` is not a number; expected a fraction such as 0.25.")
    if not 0.0 < value <= 1.0:
        hint = f" {value:g} percent is {value / 100:g}." if 1.0 < value <= 100.0 else ""
        raise ValueError(
            f"`budget={budget!r}` is not a fraction of the cost; expected above 0 and at most 1, such as "
            f"0.25.{hint}"
        )


def count(value: Any, name: str, least: int = 1) -> int:
    """Return a whole number of at least `least`, or say what `name` got; True and False are none."""
    if isinstance(value, bool):
        raise TypeError(f"`{name}={value!r}` is not a whole number.")
    return whole(value, name, least)


def check_patterns(skip: Any) -> None:
    """Refuse names that do not come as a sequence: the letters of one string would each be taken for a name.

    Raises
    ------
    TypeError
    """
    if isinstance(skip, (str, bytes)) or not isinstance(skip, Collection):
        raise TypeError(f"`skip={skip!r}` is no sequence of names; expected one, such as ['stem.*'].")
    wrong = [pattern for pattern in skip if not isinstance(pattern, str)]
    if wrong:
        raise TypeError(f"`skip` holds {wrong[0]!r}; expected names of layers.")
