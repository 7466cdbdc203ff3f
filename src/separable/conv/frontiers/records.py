"""What a frontier holds: the original, a network for each budget, and the budgets that were left out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ..conversion.records import ConversionReport, json_text
from ..scores.records import Score

__all__ = ["FrontierRecord", "LeftOut", "PointRecord", "dominated"]

# The loss that is allowed where nothing else is asked for; `separate` takes the same.
_MAX_LOSS: Final = 0.005


@dataclass(frozen=True)
class LeftOut:
    """A budget that has no point, and why."""

    budget: float
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class PointRecord:
    """One network of a frontier.

    Attributes
    ----------
    budget : float
        The fraction of the original's cost that was allowed; 1 for the original.
    report : ConversionReport
        All that is known of its conversion.
    dominated : bool
        Whether another one, or the original, takes no longer and loses no more.
    """

    budget: float
    report: ConversionReport
    dominated: bool = False

    @property
    def milliseconds(self) -> float | None:
        """Measured time of the whole network; None where it was not measured."""
        return self.report.milliseconds_after

    @property
    def speedup(self) -> float | None:
        """How many times as fast as the original it is, of runs in turn."""
        before, after = self.report.milliseconds_before, self.report.milliseconds_after
        return before / after if before and after else None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one input."""
        return self.report.macs_after

    @property
    def params(self) -> int:
        """Parameters."""
        return self.report.params_after

    @property
    def score(self) -> Score | None:
        """What the user's metric says before and after."""
        return self.report.score

    @property
    def loss(self) -> float:
        """The drop of the user's metric, or else the change of the outputs; NaN where not measured."""
        return _loss_of(self.report)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where `loss` on other inputs like these lies, at 95 %; None where that cannot be told."""
        return self.report.interval if self.score is None else self.score.drop_interval

    def as_dict(self) -> dict[str, Any]:
        """Return its figures, and a row for each layer, as plain values."""
        told = json.loads(self.report.to_json())
        layers = [{key: row[key] for key in row if key != "options"} for row in told["layers"]]
        return {
            "budget": self.budget,
            "milliseconds": self.milliseconds,
            "speedup": self.speedup,
            "macs": self.macs,
            "params": self.params,
            "loss": self.loss,
            "interval": self.interval,
            "output_change": self.report.output_change,
            "score": told["score"],
            "dominated": self.dominated,
            "layers": layers,
        }

    def __repr__(self) -> str:
        loss = "not measured" if math.isnan(self.loss) else f"{self.loss:.2e}"
        return f"<{type(self).__name__} budget={self.budget:g}: loss {loss}, {self.macs} MACs>"


Point = TypeVar("Point", bound=PointRecord)


@dataclass(frozen=True, eq=False)
class FrontierRecord(Generic[Point]):
    """A network at several costs.

    Attributes
    ----------
    original : point
        The network as it was given.
    points : tuple of points
        Those that were reached, the largest budget first.
    left_out : tuple of LeftOut
        Budgets that were not, and why.
    notes : tuple of str
    """

    original: Point
    points: tuple[Point, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.original.report.model

    @property
    def by(self) -> str:
        """The cost that the budgets are of: "time", "macs" or "params"."""
        return self.original.report.by

    @property
    def runtime(self) -> str:
        """Where times were measured."""
        return self.original.report.runtime

    @property
    def batch(self) -> int:
        """Inputs that times are of."""
        return self.original.report.batch

    @property
    def metric(self) -> str:
        """The name of the metric whose drop is the loss; empty where that is the change of the outputs."""
        return "" if self.original.score is None else self.original.score.metric

    def best(self, max_loss: float | None = None, *, max_milliseconds: float | None = None) -> Point:
        """Return the cheapest point that loses no more, or the one that loses least and takes no longer.

        Parameters
        ----------
        max_loss : float, optional
            The loss that is allowed. By default 0.005 where no time is given.
        max_milliseconds : float, optional
            The time that is allowed. With both, the cheapest that keeps to both.

        Returns
        -------
        point
            The original, where no other one will do.

        Raises
        ------
        ValueError
            If times are asked for and were not measured, or nothing is as fast, not even the original.
        """
        allowed = _MAX_LOSS if max_loss is None else _checked(max_loss, "max_loss")
        everything = [self.original, *self.points]
        if max_milliseconds is not None:
            everything = self._as_fast(everything, _checked(max_milliseconds, "max_milliseconds"))
            if max_loss is None:
                return min(everything, key=lambda point: math.inf if math.isnan(point.loss) else point.loss)
        good = [point for point in everything if point is self.original or point.loss <= allowed]
        if not good:
            raise ValueError(
                f"`max_loss={allowed:g}` and `max_milliseconds={max_milliseconds!r}` cannot be met together; "
                "allow more of one."
            )
        costs = _costs_of([point.report for point in good])
        return good[costs.index(min(costs))]

    def _as_fast(self, points: Sequence[Point], milliseconds: float) -> list[Point]:
        """Return the points that take no longer, of which there must be one."""
        times = [(point.milliseconds, point) for point in points]
        measured = [(taken, point) for taken, point in times if taken is not None]
        fast = [point for taken, point in measured if taken <= milliseconds]
        if not fast:
            least = (
                f"the fastest takes {min(taken for taken, _ in measured):.3g}"
                if measured
                else "no time was measured"
            )
            raise ValueError(f"`max_milliseconds={milliseconds:g}` cannot be met: {least}.")
        return fast

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, but what layers could have been."""
        return {
            "model": self.model,
            "by": self.by,
            "runtime": self.runtime,
            "batch": self.batch,
            "loss_of": self.metric or "outputs",
            "held_out": self.original.report.held_out,
            "original": self.original.as_dict(),
            "points": [point.as_dict() for point in self.points],
            "left_out": [vars(left) for left in self.left_out],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return the same as JSON text; numbers that were not measured are ``null``."""
        return json_text(self.as_dict(), indent=2)


def dominated(reports: Sequence[ConversionReport]) -> list[bool]:
    """Return of each network whether another one costs no more and loses no more, and less of one.

    The cost is the time where that was measured of all, else what the budgets are of. One whose loss was not
    measured dominates none, and is not dominated.

    Parameters
    ----------
    reports : sequence of ConversionReport

    Returns
    -------
    list of bool
    """
    pairs = list(zip(_costs_of(reports), map(_loss_of, reports), strict=True))
    return [
        any(cost <= own and loss <= lost and (cost, loss) != (own, lost) for cost, loss in pairs)
        for own, lost in pairs
    ]


def _costs_of(reports: Sequence[ConversionReport]) -> list[float]:
    times = [report.milliseconds_after for report in reports]
    measured = [time for time in times if time is not None]
    if len(measured) == len(times):
        return measured
    counts = [report.params_after if report.by == "params" else report.macs_after for report in reports]
    return [float(number) for number in counts]


def _loss_of(report: ConversionReport) -> float:
    return report.output_change if report.score is None else report.score.drop


def _checked(value: Any, name: str) -> float:
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise TypeError(f"`{name}={value!r}` is not a number; expected one such as 0.005.")
    if not float(value) >= 0:
        raise ValueError(f"`{name}={value!r}` allows nothing; expected a number of at least 0.")
    return float(value)
