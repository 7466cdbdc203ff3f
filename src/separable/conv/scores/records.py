"""What was measured of a conversion's loss: of all outputs, of each of them, and by a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Loss", "OutputLoss", "Score"]


@dataclass(frozen=True)
class OutputLoss:
    """By how much one output changes.

    Attributes
    ----------
    name : str
    unit : {"variance", "elements"}
        What `change` is a fraction of. Floating-point numbers: the mean squared change, over the variance.
        Whole numbers and truth values: the elements that change.
    change : float
        NaN where it was not measured.
    reason : str
        Why it was not; empty where it was.
    """

    name: str
    unit: Literal["variance", "elements"]
    change: float
    reason: str = ""


@dataclass(frozen=True)
class Loss:
    """By how much the outputs change, and how sure that is.

    Attributes
    ----------
    change : float
        NaN where nothing was measured.
    interval : tuple of (float, float) or None
        Where the change of other inputs like these lies, at 95 %; None where that cannot be told.
    inputs : int
        That it was measured on.
    outputs : tuple of OutputLoss
    """

    change: float
    interval: tuple[float, float] | None = None
    inputs: int = 0
    outputs: tuple[OutputLoss, ...] = ()


@dataclass(frozen=True)
class Score:
    """What a metric says of the original and of the converted network, on the same inputs.

    Attributes
    ----------
    metric : str
        Its name.
    before, after : float
    larger_is_better : bool
    targets : {"labels", "outputs"}
        What the outputs were compared with: labels, or the original's own outputs.
    inputs : int
    held_out : bool
        Whether none of the inputs was fitted to.
    drop_interval : tuple of (float, float) or None
        Where the drop on other inputs like these lies, at 95 %; None where that cannot be told.

    Examples
    --------
    >>> from separable.conv import Score
    >>> score = Score("accuracy", before=0.991, after=0.986)
    >>> round(score.drop, 3)
    0.005
    >>> Score("error rate", before=0.04, after=0.03, larger_is_better=False).drop < 0  # it got better
    True
    """

    metric: str
    before: float
    after: float
    larger_is_better: bool = True
    targets: Literal["labels", "outputs"] = "labels"
    inputs: int = 0
    held_out: bool = True
    drop_interval: tuple[float, float] | None = None

    @property
    def drop(self) -> float:
        """By how much the metric got worse: above 0 whichever direction is better; NaN if not measured."""
        drop = self.before - self.after if self.larger_is_better else self.after - self.before
        return drop if math.isfinite(drop) else math.nan
