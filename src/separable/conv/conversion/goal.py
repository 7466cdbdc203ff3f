"""What is asked of a conversion: where it makes no sense, refused before any of the data are read."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..algebra.geometry import whole
from ..forms.table import CHEAPER, FORMS, is_dense

__all__ = [
    "COSTS",
    "COST_WORDS",
    "RUNTIMES",
    "SPARED",
    "ConversionGoal",
    "check_budget",
    "check_patterns",
    "count",
    "goal_of",
]

# Why a linear layer stays as it is where one rank is asked for.
SPARED: Final = "linear, and `rank` is a depth multiplier; forms=['low-rank'] converts it as well"

# What a budget can be of, and an older name of the time in ONNX Runtime.
COSTS: Final = ("time", "macs", "params")
_LATENCY: Final = "latency"

# The same costs as people read them.
COST_WORDS: Final = {"time": "time", "macs": "MACs", "params": "parameters"}

# Runtimes that times can be measured in; torch where the network is one of torch.
RUNTIMES: Final = ("engine", "onnxruntime")

# The change of the outputs that is allowed where nothing else is asked for.
_MAX_LOSS: Final = 0.005


@dataclass(frozen=True)
class ConversionGoal:
    """What is asked of a conversion; one of `budget`, `max_loss` and `rank` is not None.

    Attributes
    ----------
    by : {"time", "macs", "params"}
        The cost.
    budget : float or None
        What may be left of it, as a fraction.
    max_loss : float or None
        By how much the outputs may change, or a metric may drop, at most.
    rank : int, "full" or None
        For every layer.
    forms : tuple of str
    runtime : str
        That times are measured in.
    batch : int
        Inputs that times are of.
    """

    by: str
    budget: float | None
    max_loss: float | None
    rank: int | str | None
    forms: tuple[str, ...]
    runtime: str = "engine"
    batch: int = 1

    @property
    def spares_linear(self) -> bool:
        """Whether one rank for all layers is none for linear ones, which have no depth multiplier."""
        return isinstance(self.rank, int) and any(FORMS[form].multiplies for form in self.forms)


def goal_of(
    budget: Any = None,
    by: Any = "time",
    max_loss: Any = None,
    forms: Any = None,
    rank: Any = None,
    runtime: Any = None,
    batch: Any = 1,
    runtimes: Sequence[str] = RUNTIMES,
) -> ConversionGoal:
    """Return what is asked of a conversion, or refuse what none can be asked for.

    Parameters
    ----------
    budget : float, optional
        A fraction, above 0 and at most 1.
    by : {"time", "macs", "params"}, optional
        "latency" is the time in ONNX Runtime.
    max_loss : float, optional
        Above 0. By default 0.005 where neither a budget nor a rank is given.
    forms : sequence of str, optional
        Some of "dw-pw", "pw-dw", "spatial" and "low-rank"; "dense" may be among them. By default all.
    rank : int, "full" or None
    runtime : str, optional
        One of `runtimes`, the first one by default.
    batch : int, optional
    runtimes : sequence of str, optional

    Returns
    -------
    ConversionGoal

    Raises
    ------
    TypeError, ValueError
        If one is anything else; the message names it.
    """
    if budget is not None:
        budget = check_budget(budget)
    if by == _LATENCY:
        by, runtime = "time", runtime or "onnxruntime"
    if by not in COSTS:
        raise ValueError(f"`by={by!r}` is unknown; expected one of {', '.join(map(repr, COSTS))}.")
    if runtime is not None and runtime not in runtimes:
        raise ValueError(
            f"`runtime={runtime!r}` is unknown; expected one of {', '.join(map(repr, runtimes))}."
        )
    known = tuple(FORMS) if forms is None else _forms(forms)
    _check_rank(rank)
    if max_loss is not None:
        _check_max_loss(max_loss)
        if budget is not None:
            raise ValueError(f"`budget={budget!r}` and `max_loss={max_loss!r}` are two goals; pass one.")
    elif budget is None and rank is None:
        max_loss = _MAX_LOSS
    return ConversionGoal(
        by=by,
        budget=None if rank is not None else budget,
        max_loss=None if rank is not None or max_loss is None else float(max_loss),
        rank=rank,
        forms=known,
        runtime=runtime or runtimes[0],
        batch=count(batch, "batch"),
    )


def _forms(forms: Any) -> tuple[str, ...]:
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
    return known


def _check_rank(rank: Any) -> None:
    if isinstance(rank, str):
        if rank != "full":
            raise ValueError(f"`rank={rank!r}` is unknown; expected an int or 'full'.")
    elif rank is not None:
        count(rank, "rank")


def _check_max_loss(max_loss: Any) -> None:
    try:
        value = None if isinstance(max_loss, (str, bytes, bool)) else float(max_loss)
    except (TypeError, ValueError):
        value = None
    if value is None:
        raise TypeError(f"`max_loss={max_loss!r}` is not a number; expected one such as 0.005.")
    if not 0.0 < value < math.inf:
        raise ValueError(f"`max_loss={max_loss!r}` is no loss that can be allowed; expected above 0.")


def check_budget(budget: Any, name: str = "budget") -> float:
    """Return a fraction of a cost, or say what `name` got.

    Raises
    ------
    TypeError, ValueError
    """
    try:
        value = None if isinstance(budget, (str, bytes, bool)) else float(budget)
    except (TypeError, ValueError):
        value = None
    if value is None:
        raise TypeError(f"`{name}={budget!r}` is not a number; expected a fraction such as 0.25.")
    if not 0.0 < value <= 1.0:
        hint = f" {value:g} percent is {value / 100:g}." if 1.0 < value <= 100.0 else ""
        raise ValueError(
            f"`{name}={budget!r}` is not a fraction of the cost; expected above 0 and at most 1, such as "
            f"0.25.{hint}"
        )
    return value


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
