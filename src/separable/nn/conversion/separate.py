"""The conversion of a trained model to separable form: without labels, without training."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...conv.audits.records import Layer
from ...conv.conversion.goal import SPARED, ConversionGoal, check_patterns, count, goal_of
from ...conv.conversion.network import Progress, is_slower
from ...conv.conversion.records import Conversion, ConversionReport, ConvertedLayer
from ...conv.conversion.run import ConversionRun
from ...conv.forms.layer import Replacement
from ...conv.forms.table import FORMS, UNCHANGED
from ...conv.scores.judge import judge_of
from ...conv.scores.metrics import MetricLike
from ...conv.scores.records import Loss, Score
from ...report.conversions import SeparationReport
from ...report.progress import shown
from ...report.text.conversions import in_short
from ..model.layer_counts import counted_layers
from ..model.model_copy import prepared
from ..model.run import Call, description, watch
from ..model.watch import own_name
from .calibration import TorchCalibration, one_sample
from .checkpoint import Checkpoint
from .distill import Course, distilled
from .fold_norms import Fold, exchange, fold_norms
from .network import TorchNetwork
from .rewrite import module_for
from .times import RUNTIMES, WholeTimes, layer_times, slow_layers
from .trace import Trace, trace

__all__ = ["Assembly", "Separation", "TorchJob", "separate"]

_CONVOLUTIONS: Final = {"conv", "depthwise", "grouped", "pointwise", "separable", "transposed"}


@dataclass(frozen=True, eq=False)
class Separation:
    """A converted model, and what its conversion did.

    Attributes
    ----------
    model : Module
        On the device, in the dtype and in the mode of the original.
    report : SeparationReport
        MACs and parameters before and after, and a row for each convolution: its form and rank, its error, or
        why it is as it was. ``print(report)`` is a table, ``report.to_html(path)`` a page.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> convs = torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3)
    >>> net = torch.nn.Sequential(convs[0], torch.nn.ReLU(), convs[1]).eval()
    >>> result = sp.nn.separate(net, torch.randn(32, 3, 12, 12), budget=0.5, by="macs")
    >>> result.model(torch.randn(1, 3, 12, 12)).shape
    torch.Size([1, 16, 8, 8])
    >>> [layer.name for layer in result.report.layers]
    ['0', '2']
    """

    model: nn.Module
    report: SeparationReport

    def __repr__(self) -> str:
        return in_short(type(self.model).__name__, self.report)


@torch.inference_mode(mode=False)  # wherever it is called: weights are made that shall train
def separate(
    model: nn.Module,
    calibration: Tensor | npt.NDArray[Any] | Mapping[str, Any] | Iterable[Any],
    budget: float | None = None,
    by: str = "time",
    *,
    max_loss: float | None = None,
    runtime: Literal["engine", "onnxruntime", "torch"] | None = None,
    batch: int = 1,
    forms: Sequence[str] = tuple(FORMS),
    rank: int | Literal["full"] | None = None,
    skip: Sequence[str] = (),
    keep_norms: bool = False,
    distill: int = 0,
    distill_seconds: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: int = 1 << 29,
    equalise: bool = True,
    metric: MetricLike | None = None,
    labels: Any = None,
    validation: Tensor | npt.NDArray[Any] | Mapping[str, Any] | Iterable[Any] | None = None,
    progress: bool | Progress | None = None,
) -> Separation:
    """Return a copy of a trained model whose layers are cheaper, with the loss stated.

    Every convolution, transposed convolution and linear layer is fitted, in float64, to give what it gave in
    the original for what it now reads in the converted model; the form and rank of each are chosen together,
    so that the whole keeps to the budget with the least error. No labels are needed, and nothing is trained
    unless `distill` is given.

    Parameters
    ----------
    model : Module
        In float32 or float64, on one device. It is copied and left as it is. It is looked at as it runs in
        inference.
    calibration : Tensor, ndarray, mapping, or iterable of batches
        Inputs such as the model will see; a few hundred are enough, more are better. One tensor holds inputs
        along its first axis, a mapping those of each keyword argument. A list or a DataLoader gives batches:
        a tensor, a mapping of keyword arguments, or a tuple, of which the model is given as many entries as
        its forward takes, so that labels behind the inputs are left out. Read several times. Moved to the
        device and dtype of the model.
    budget : float, optional
        What may be left of the original's cost, as a fraction: above 0, at most 1. Of the time it is that of
        the whole network; of MACs and parameters, of all its convolutions and of the linear layers that can
        be converted.
    by : {"time", "macs", "params"}, optional
        The cost: milliseconds measured here, multiply-accumulates, or parameters. By time, layers that do
        not pay are put back, and the result is no slower than the original. "latency" is the time in ONNX
        Runtime.
    max_loss : float, optional
        Instead of a budget: the least cost that is found at which the outputs change by no more, or with
        `metric`, at which the metric drops by no more. By default 0.005 where there is no budget and no rank.
    runtime : {"engine", "onnxruntime", "torch"}, optional
        Where the network is to run, and times are measured. Default: the engine, see `compile`.
    batch : int, optional
        Inputs that times are of.
    forms : sequence of str, optional
        Which forms may be used, of "dw-pw", "pw-dw", "spatial" and "low-rank"; any layer may stay "dense".
    rank : int or "full", optional
        Instead of a budget: this rank for every layer, in the first of `forms` that it has, whether that is
        cheaper or not; linear layers stay as they are where that may be a depth multiplier. "full" is exact:
        the converted model gives what the original gives.
    skip : sequence of str, optional
        Names of layers to leave as they are; ``*`` stands for anything, as in ``"stem.*"``.
    keep_norms : bool, optional
        Leave batch norms in the model. By default those behind convolutions are folded into them, and an
        identity is in their place. Keep them if the model is to be trained further with a loop of your own.
    distill : int, optional
        After the conversion, train for this many passes over the calibration data to give the original's
        outputs, of the model and of every converted layer. Norms keep their statistics. Ctrl-C ends it early
        and keeps the best so far.
    distill_seconds : float, optional
        End the training after this many seconds, if that is earlier.
    checkpoint : path-like, optional
        A file that the training is saved to after each pass. Where it is there already, the same call goes on
        where that one stopped, and ends with the same result as if it had not. It stays there at the end.
    memory : int, optional
        Bytes of inputs and activations that may be kept to save running the model again.
    equalise : bool, optional
        Scale the channels between two convolutions so that eight bits hold them well, where a later
        quantisation may profit; the result is the same but for rounding.
    metric : callable, Metric, "accuracy" or "cer", optional
        What the outputs are worth to you: a function of them and of `labels` that returns a number, the
        larger the better; else a `separable.conv.Metric`. It is taken before and after, and nothing is fitted
        to it. An only output is given as an array, several as a mapping by key or place.
    labels : array_like or sequence, optional
        One for each input of `validation`, or else of `calibration`, of which those left out of the fit are
        scored. By default what tuples of a list or DataLoader hold behind the inputs; if there is nothing,
        the outputs are compared with the original's.
    validation : Tensor, ndarray, mapping, or iterable of batches, optional
        Inputs, as `calibration`, that serve for nothing but `metric`.
    progress : bool or callable, optional
        Show a bar on stderr, with the time that remains where that is known. Where that is no terminal, a
        line for each stage: by default once the run has taken two seconds, with True from the first on;
        with False nothing. A callable is told the steps done, those in all, and the present one instead.

    Returns
    -------
    Separation
        With ``.model`` and ``.report``.

    Raises
    ------
    TypeError
        If `model` or `calibration` is not of a kind described, or `calibration` can be read only once.
    ValueError
        If the model does not run on the data, has no layer that can be converted, is in half precision, or
        spread over devices; if `budget` cannot be met; if `checkpoint` is of another model, of other data
        or of other arguments.
    FileNotFoundError
        If the folder of `checkpoint` is not there.

    Notes
    -----
    A converted convolution becomes a ``DepthwiseSeparableConv``, a ``SpatiallySeparableConv``, an ``nn.Conv``
    with new weights, or an ``nn.Sequential`` of convolutions, under the name it had; a transposed one a
    ``DepthwiseSeparableConvTranspose``, an ``nn.ConvTranspose`` or a sequence; a linear layer two of them.
    Weight norms are replaced by the weights that they make. What is not converted is listed in the report
    with the reason: functional convolutions, layers of a class with its own forward or with hooks, those that
    share their weights, those that others look into, and those that did not run.

    The fit knows the activation that alone reads a layer, as a module or as a function: ReLU, leaky and
    PReLU, ReLU6 and other clips, ELU, SiLU, hard-swish, GELU (both), sigmoid, hard sigmoid and tanh. Each row
    of the report says which, or what reads the layer instead.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from separable.nn import separate
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
    >>> result = separate(net, torch.randn(64, 8, 12, 12), budget=0.5, by="macs")
    >>> result.report.macs_after <= 0.5 * result.report.macs_before
    True
    >>> result.model(torch.randn(1, 8, 12, 12)).shape
    torch.Size([1, 32, 8, 8])
    """
    goal = goal_of(budget, by, max_loss, forms, rank, runtime, batch, RUNTIMES)
    _check_distillation(distill, distill_seconds, checkpoint)
    job = TorchJob(
        model,
        calibration,
        goal,
        skip=skip,
        keep_norms=keep_norms,
        memory=memory,
        equalise=equalise,
        metric=metric,
        labels=labels,
        validation=validation,
    )
    settings = {"budget": budget, "by": by, "max_loss": max_loss, "forms": forms, "rank": rank, "skip": skip}
    settings |= {"keep_norms": keep_norms, "distill": distill, "equalise": equalise}
    stored = None if checkpoint is None else Checkpoint(checkpoint, job.work, job.data, settings)
    with shown(progress) as show:
        done = None if stored is None else stored.conversion
        if done is None:
            with job.conversions([goal], show) as run:
                done = run.reach(goal)
                run.end()
        times = job.whole_milliseconds([done]) if job.never_slower and done.replacements else None
        if times is not None and is_slower(*times):
            done, times = done.put_back("put back: the whole is slower"), None
        if distill and done.replacements:
            save = None if stored is None else partial(stored.save, done)
            course = Course(distill, distill_seconds, None if stored is None else stored.training, save)
            result, report = job.distilled(done, course, show)
        else:
            result, report = job.assembly.model(done.replacements), job.report(done)
    if times is not None:
        before, after = times
        report = replace(report, milliseconds_before=before, milliseconds_after=after, runtime=job.runtime)
    job.assembly.restore_modes(result)
    return Separation(result, SeparationReport.of(report))


@dataclass(frozen=True, eq=False)
class Assembly:
    """What converted models are made of.

    Attributes
    ----------
    base : Module
        The original, as it runs in inference.
    names : tuple of str
        Of the layers that can be replaced.
    kept : mapping of str to Fold
        The batch norms behind them that stay, by the layer.
    modes : mapping of str to bool
        By module of the original, whether it is being trained.
    """

    base: nn.Module
    names: tuple[str, ...]
    kept: Mapping[str, Fold]
    modes: Mapping[str, bool]

    def model(self, replacements: Mapping[int, Replacement]) -> nn.Module:
        """Return a model with new layers in place of old ones, in inference mode."""
        model = copy.deepcopy(self.base)
        modules = {own_name(name): module for name, module in model.named_modules()}
        for index, replacement in replacements.items():
            name = self.names[index]
            new = module_for(replacement, modules[name], self.kept.get(name))
            model = exchange(model, modules[name], new)
        return model

    def restore_modes(self, model: nn.Module) -> None:
        """Put each module into the mode that it had, and new ones into that of the layer they replace."""
        for name, module in model.named_modules():
            known = own_name(name)
            while known not in self.modes:
                known = known.rpartition(".")[0]
            module.training = self.modes[known]


class TorchJob:
    """A model with its calibration data, checked, traced and ready to be converted.

    Parameters
    ----------
    model, calibration
        As in `separate`.
    goal : ConversionGoal
        The first of the goals that it is converted to; all have its cost and its runtime.
    skip, keep_norms, memory, equalise, metric, labels, validation
        As in `separate`.

    Attributes
    ----------
    work : Module
        The copy that is converted.
    data : TorchCalibration
    assembly : Assembly
    """

    def __init__(
        self,
        model: nn.Module,
        calibration: Any,
        goal: ConversionGoal,
        *,
        skip: Sequence[str],
        keep_norms: bool,
        memory: int,
        equalise: bool,
        metric: MetricLike | None,
        labels: Any,
        validation: Any,
    ) -> None:
        check_patterns(skip)
        count(memory, "memory", 0)
        judge_of(metric, labels, validation)
        self._goal, self._equalise, self._name = goal, equalise, type(model).__name__
        self.work = work = prepared(model)
        self.data = TorchCalibration(work, calibration, memory)
        scored = None if validation is None else TorchCalibration(work, validation, memory, "validation")
        if labels is None and metric is not None:
            labels = (scored or self.data).labels
        self._judge = judge_of(metric, labels)
        sample = _sample(work, self.data.first)
        self._folded = copy.deepcopy(work)
        folds = fold_norms(self._folded, trace(self._folded, sample))
        seen = trace(self._folded, sample).without(skip)
        if goal.spares_linear:
            seen = seen.without_linear(SPARED)
        self._others = _others(work, sample, seen)
        if not seen.convs:
            reasons = "".join(f"\n  {row.name}: {row.reason}" for row in self._others.rows)
            raise ValueError(f"`model` has no layer that can be converted.{reasons}")
        threads = torch.get_num_threads()
        self._network = TorchNetwork(
            self._folded, seen, self.data, memory, scored, layer_times(goal, threads)
        )
        self._clock = WholeTimes(self._network, goal, sample, threads)
        self.assembly = Assembly(
            work if keep_norms else self._folded,
            tuple(conv.name for conv in seen.convs),
            {fold.conv: fold for fold in folds} if keep_norms else {},
            {own_name(name): module.training for name, module in model.named_modules()},
        )

    @property
    def never_slower(self) -> bool:
        """Whether the goal is time: then what does not pay is put back."""
        return self._clock.is_asked

    @property
    def runtime(self) -> str:
        """Where times are measured, as people write it."""
        return self._clock.runtime

    def conversions(self, goals: Sequence[ConversionGoal], progress: Progress) -> ConversionRun:
        """Return what converts it to goals of one cost."""
        judge, network, clock = self._judge, self._network, self._clock
        return ConversionRun(
            network,
            goals,
            other_macs=self._others.conv_macs,
            other_params=self._others.conv_params,
            other_ms=clock.beside_layers() if clock.is_asked and goals[0].rank is None else 0.0,
            equalise=self._equalise,
            threads=torch.get_num_threads(),
            loss_of=None if judge is None else lambda replaced: network.score(judge, replaced).drop,
            put_back=partial(slow_layers, network) if clock.is_asked else None,
            whole_ms=self._whole_milliseconds,
            progress=progress,
        )

    def whole_milliseconds(self, conversions: Sequence[Conversion]) -> list[float] | None:
        """Return times of the original and of each conversion, run in turn; None where that fails."""
        return self._whole_milliseconds([done.replacements for done in conversions])

    def _whole_milliseconds(self, replaced: Sequence[Mapping[int, Replacement]]) -> list[float] | None:
        return self._clock.of([self.assembly.base, *map(self.assembly.model, replaced)])

    def report(self, done: Conversion) -> ConversionReport:
        """Return all that is to be said of a conversion: its loss measured, all layers named."""
        score = self._network.score(self._judge, done.replacements) if self._judge else None
        return self._told(done, self._network.loss(done.replacements), score)

    def distilled(
        self, done: Conversion, course: Course, show: Progress
    ) -> tuple[nn.Module, ConversionReport]:
        """Return the model of a conversion, trained to give what the original gives, and its report."""
        result, network = self.assembly.model(done.replacements), self._network
        names = [self.assembly.names[index] for index in done.replacements]
        kept = self.assembly.kept
        points = {kept[name].norm if name in kept else name: name for name in names}
        layers = [result.get_submodule(name) for name in names]
        distilled(result, self._folded, points, layers, list(self.data), course, show)
        score = network.score_of(self._judge, result) if self._judge else None
        return result, self._told(done, network.loss_of(result), score)

    def _told(self, done: Conversion, loss: Loss, score: Score | None) -> ConversionReport:
        report = done.report.with_loss(loss, self._network.measured, score)
        return replace(
            report,
            layers=self._others.in_order(report.layers),
            other_macs=self._others.macs,
            other_params=self._others.params,
            model=self._name,
            notes=(*report.notes, *([self._clock.failure] if self._clock.failure else [])),
            batch=self._goal.batch,
        )


def _check_distillation(distill: Any, seconds: float | None, checkpoint: object) -> None:
    if isinstance(distill, bool) or not isinstance(distill, int) or distill < 0:
        raise ValueError(f"`distill={distill!r}` is no number of passes over the data; expected 0, 1, 2, ...")
    if not distill and (seconds is not None or checkpoint is not None):
        name = "checkpoint" if seconds is None else "distill_seconds"
        raise ValueError(f"`{name}` is of a distillation, and `distill` is 0; pass distill=20, say.")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"`distill_seconds={seconds!r}` is no time; expected seconds > 0.")


def _sample(model: nn.Module, call: Call) -> Call:
    """Return the first sample of a batch, or the batch where the model does not run on less.

    Raises
    ------
    ValueError
        If it does not run on the batch either.
    """
    for sample in (one_sample(call), call):
        try:
            trace(model, sample)
            return sample
        # Whatever a model raises: on the whole batch that is for its owner to read.
        except Exception as error:
            failure = error
    raise ValueError(
        f"`model` ({type(model).__name__}) does not run on `calibration` ({description(call)}): "
        f"{type(failure).__name__}: {failure}\nPass what model(...) takes."
    ) from failure


class _Others(NamedTuple):
    """What is not converted: rows, the cost of all else and of convolutions; and the order of all layers."""

    rows: tuple[ConvertedLayer, ...]
    macs: int
    params: int
    conv_macs: int
    conv_params: int
    order: tuple[str, ...]

    def in_order(self, converted: Sequence[ConvertedLayer]) -> tuple[ConvertedLayer, ...]:
        """Return all rows as the layers run; what did not run comes last."""
        places = {name: n for n, name in reversed(list(enumerate(self.order)))}
        return tuple(sorted((*converted, *self.rows), key=lambda row: places.get(row.name, len(self.order))))


def _others(model: nn.Module, sample: Call, seen: Trace) -> _Others:
    converted = {conv.name for conv in seen.convs}
    rows: dict[str, ConvertedLayer] = {}
    macs = params = 0
    linear: set[str] = set()
    order = []
    for layer in counted_layers(model, watch(model, sample, 0, fakes=False)):
        order.append(layer.name or "(model)")
        if layer.kind not in _CONVOLUTIONS and layer.name not in {*converted, *seen.refused}:
            macs, params = macs + layer.macs // seen.samples, params + layer.params
        elif layer.name not in converted:
            reason = _reason(layer, seen.refused)
            macs_here = layer.macs // seen.samples
            rows[layer.name] = _row(layer.name, macs_here, layer.params, reason, rows.get(layer.name))
            linear |= {layer.name} if layer.kind not in _CONVOLUTIONS else set()
    modules = dict(model.named_modules())
    for name, reason in seen.refused.items():
        if not any(row == name or row.startswith(f"{name}.") for row in rows):
            count = sum(p.numel() for p in modules[name].parameters()) if name in modules else 0
            rows[name] = _row(name, 0, count, reason, None)
            linear |= {name} if isinstance(modules.get(name), nn.Linear) else set()
    # A budget is of what can be cheaper, and of all convolutions.
    convs = [row for name, row in rows.items() if name not in linear]
    costs = (sum(row.macs_before for row in convs), sum(row.params_before for row in convs))
    return _Others(tuple(rows.values()), macs, params, *costs, tuple(order))


def _row(name: str, macs: int, params: int, reason: str, more: ConvertedLayer | None) -> ConvertedLayer:
    macs += more.macs_before if more else 0
    params += more.params_before if more else 0
    return ConvertedLayer(name or "(model)", UNCHANGED, 0, macs, macs, params, params, math.nan, reason)


def _reason(layer: Layer, refused: Mapping[str, str]) -> str:
    name = layer.name
    while name and name not in refused:
        name = name.rpartition(".")[0]
    if name in refused:
        return refused[name]
    return "a convolution called as a function, with weights that no convolution module holds"
