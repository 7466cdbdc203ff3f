"""The loss of a trained model over the milliseconds that it takes, for a handful of budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...conv.conversion.goal import goal_of
from ...conv.conversion.network import Progress
from ...conv.forms.layer import Replacement
from ...conv.forms.table import FORMS
from ...conv.frontiers.budgets import budgets_of
from ...conv.frontiers.records import PointRecord
from ...conv.frontiers.search import Reached, search
from ...conv.scores.metrics import MetricLike
from ...report.conversions import SeparationReport
from ...report.frontiers import Frontier
from ...report.progress import shown
from ..conversion.separate import Assembly, TorchJob
from ..conversion.times import RUNTIMES

__all__ = ["Frontier", "FrontierPoint", "frontier"]


@dataclass(frozen=True, eq=False, repr=False)
class FrontierPoint(PointRecord):
    """One network of a frontier, with its model.

    Attributes
    ----------
    budget : float
        The fraction of the original's cost that was allowed; 1 for the original.
    report : SeparationReport
        All that is known of its conversion.
    dominated : bool
        Whether another point, or the original, takes no longer and loses no more.
    milliseconds, speedup, macs, params, loss, interval, score
        Its figures.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> convs = torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3)
    >>> net = torch.nn.Sequential(convs[0], torch.nn.ReLU(), convs[1]).eval()
    >>> found = sp.nn.frontier(net, torch.randn(32, 3, 12, 12), [0.5], by="macs", progress=False)
    >>> point = found.points[0]
    >>> point.macs <= 0.5 * found.original.macs
    True
    >>> point.model(torch.randn(1, 3, 12, 12)).shape
    torch.Size([1, 16, 8, 8])
    """

    _assembly: Assembly | None = None
    _replacements: Mapping[int, Replacement] | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The converted model, as `separate` gives it; made when it is asked for, and kept from then on."""
        assert self._assembly is not None
        model = self._assembly.model(self._replacements or {})
        self._assembly.restore_modes(model)
        return model


@torch.inference_mode(mode=False)  # wherever it is called: weights are made that shall train
def frontier(
    model: nn.Module,
    calibration: Tensor | npt.NDArray[Any] | Mapping[str, Any] | Iterable[Any],
    budgets: Sequence[float] | None = None,
    by: str = "time",
    *,
    runtime: Literal["engine", "onnxruntime", "torch"] | None = None,
    batch: int = 1,
    forms: Sequence[str] = tuple(FORMS),
    skip: Sequence[str] = (),
    keep_norms: bool = False,
    memory: int = 1 << 29,
    equalise: bool = True,
    metric: MetricLike | None = None,
    labels: Any = None,
    validation: Tensor | npt.NDArray[Any] | Mapping[str, Any] | Iterable[Any] | None = None,
    progress: bool | Progress | None = None,
) -> Frontier[FrontierPoint]:
    """Return how much a trained model loses over the milliseconds that it takes, for a handful of budgets.

    Its layers are measured once; the model is then converted to each budget as `separate` does it, and the
    models are timed as a whole, in turn with the original, and judged on inputs left out of the fit.

    Parameters
    ----------
    model, calibration
        As in `separate`.
    budgets : sequence of float, optional
        What may be left of the original's cost, as fractions; by default 0.75, 0.5, 0.35, 0.25, 0.18 and
        0.125, and the least one that can be met where these cannot. Those that cannot be met, or give
        nothing new, are named in `left_out`.
    by : {"time", "macs", "params"}, optional
        The cost that budgets are of. By time, layers that do not pay are put back. Whatever it is, the models
        are timed.
    runtime, batch, forms, skip, keep_norms, memory, equalise, metric, labels, validation, progress
        As in `separate`. With `metric` its drop is the loss, else the change of the outputs.

    Returns
    -------
    Frontier
        Print it, or write it with `to_html` or `to_json`. ``frontier.best(max_loss=0.01).model`` is the model
        that one takes; to train it further, pass the budget of its point to ``separate(distill=...)``.

    Raises
    ------
    TypeError, ValueError
        As `separate`, and if `budgets` holds none, one twice, or what is no fraction.

    Notes
    -----
    A point keeps the layers that were replaced, in float64, and its model is made on request, beside one copy
    of the original for all points: a frontier takes no more memory than that, and twice the parameters that
    each point has in new layers. The data, and what was computed of them, are not kept.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from separable.nn import frontier
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
    >>> found = frontier(net, torch.randn(64, 8, 12, 12), [0.5, 0.25], by="macs", progress=False)
    >>> [point.budget for point in found.points]
    [0.5, 0.25]
    >>> found.points[0].loss < found.points[1].loss
    True
    >>> found.best(max_loss=found.points[0].loss).model(torch.randn(1, 8, 12, 12)).shape
    torch.Size([1, 32, 8, 8])
    """
    wanted = budgets_of(budgets)
    goals = [goal_of(budget, by, None, forms, None, runtime, batch, RUNTIMES) for budget in wanted]
    job = TorchJob(
        model,
        calibration,
        goals[0],
        skip=skip,
        keep_norms=keep_norms,
        memory=memory,
        equalise=equalise,
        metric=metric,
        labels=labels,
        validation=validation,
    )
    with shown(progress) as show:
        reached, left_out = search(job, goals, show, by_default=budgets is None)
    original, *points = (_point(one, job.assembly) for one in reached)
    return Frontier(original, tuple(points), tuple(left_out), original.report.notes)


def _point(one: Reached, assembly: Assembly) -> FrontierPoint:
    report = SeparationReport.of(one.report)
    return FrontierPoint(one.budget, report, one.dominated, assembly, one.conversion.replacements)
