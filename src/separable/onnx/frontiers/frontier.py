"""The loss of an ONNX model over the milliseconds that it takes, for a handful of budgets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx.onnx_ml_pb2 import ModelProto

from ...conv.conversion.goal import goal_of
from ...conv.conversion.network import Progress
from ...conv.frontiers.budgets import budgets_of
from ...conv.frontiers.records import PointRecord
from ...conv.frontiers.search import Reached, search
from ...conv.scores.metrics import MetricLike
from ...report.frontiers import Frontier
from ...report.progress import shown
from ..conversion.calibration import BATCH, CalibrationLike
from ..conversion.separate import OnnxJob, Separation
from ..conversion.times import Runtime
from ..model.names import naming

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
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> rng = np.random.default_rng(0)
    >>> weights = numpy_helper.from_array(rng.standard_normal((32, 16, 3, 3)).astype(np.float32), "w")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 12, 12])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 12, 12])
    >>> node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    >>> graph = helper.make_graph([node], "net", [x], [y], [weights])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    >>> images = rng.standard_normal((32, 16, 12, 12)).astype(np.float32)
    >>> import separable as sp
    >>> options = {"by": "macs", "never_slower": False, "progress": False}
    >>> found = sp.onnx.frontier(model, images, [0.5], **options)
    >>> point = found.points[0]
    >>> point.macs <= 0.5 * found.original.macs, point.model.graph.name
    (True, 'net')
    """

    _separation: Separation | None = None

    @property
    def model(self) -> ModelProto:
        """The converted model, all its data inside."""
        assert self._separation is not None
        return self._separation.model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `model`; the file appears under its name once it is whole.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        FileError
            If it cannot be written.
        """
        assert self._separation is not None
        self._separation.save(path)


def frontier(
    path_or_model: str | os.PathLike[str] | ModelProto,
    calibration: CalibrationLike,
    budgets: Sequence[float] | None = None,
    by: str = "time",
    *,
    runtime: Runtime | None = None,
    batch: int = 1,
    forms: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    batch_size: int = BATCH,
    threads: int | None = None,
    memory: int = 1 << 29,
    never_slower: bool = True,
    equalise: bool = True,
    metric: MetricLike | None = None,
    labels: Any = None,
    validation: CalibrationLike | None = None,
    progress: bool | Progress | None = None,
) -> Frontier[FrontierPoint]:
    """Return how much an ONNX model loses over the milliseconds that it takes, for a handful of budgets.

    Its layers are measured once; the model is then converted to each budget as `separate` does it, and the
    models are timed as a whole, in turn with the original, and judged on inputs left out of the fit.

    Parameters
    ----------
    path_or_model, calibration
        As in `separate`.
    budgets : sequence of float, optional
        What may be left of the original's cost, as fractions; by default 0.75, 0.5, 0.35, 0.25, 0.18 and
        0.125, and the least one that can be met where these cannot. Those that cannot be met, or give
        nothing new, are named in `left_out`.
    by : {"time", "macs", "params"}, optional
        The cost that budgets are of. Whatever it is, the models are timed.
    never_slower : bool, optional
        Put layers back that do not pay, and leave out what is slower than the original.
    runtime, batch, forms, skip, batch_size, threads, memory, equalise, metric, labels, validation, progress
        As in `separate`. With `metric` its drop is the loss, else the change of the outputs.

    Returns
    -------
    Frontier
        Print it, or write it with `to_html` or `to_json`. ``frontier.best(max_loss=0.01).save(path)`` writes
        the model that one takes.

    Raises
    ------
    FileError, TypeError, ValueError
        As `separate`, and if `budgets` holds none, one twice, or what is no fraction.

    Notes
    -----
    A point keeps the weights of its new layers; all others are shared with the original, which is held once.
    The data, and what was computed of them, are not kept.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> rng = np.random.default_rng(0)
    >>> weights = numpy_helper.from_array(rng.standard_normal((32, 16, 3, 3)).astype(np.float32), "w")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 12, 12])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 32, 12, 12])
    >>> node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    >>> graph = helper.make_graph([node], "net", [x], [y], [weights])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    >>> images = rng.standard_normal((32, 16, 12, 12)).astype(np.float32)
    >>> from separable.onnx import frontier
    >>> found = frontier(model, images, [0.5, 0.25], by="macs", never_slower=False, progress=False)
    >>> [point.budget for point in found.points]
    [0.5, 0.25]
    >>> print(found)
    net: loss over time in the engine, 1 input
    ...
    """
    wanted = budgets_of(budgets)
    goals = [goal_of(budget, by, None, forms, None, runtime, batch) for budget in wanted]
    job = OnnxJob(
        path_or_model,
        calibration,
        goals[0],
        skip=skip,
        batch_size=batch_size,
        threads=threads,
        memory=memory,
        never_slower=never_slower,
        equalise=equalise,
        metric=metric,
        labels=labels,
        validation=validation,
    )
    with naming(path_or_model), shown(progress) as show:
        reached, left_out = search(job, goals, show, by_default=budgets is None)
    original, *points = (_point(one, job) for one in reached)
    return Frontier(original, tuple(points), tuple(left_out), original.report.notes)


def _point(one: Reached, job: OnnxJob) -> FrontierPoint:
    before, after = one.report.milliseconds_before, one.report.milliseconds_after
    times = None if before is None or after is None else (before, after)
    done = job.separation(one.conversion, one.report, times)
    return FrontierPoint(one.budget, done.report, one.dominated, done)
