"""The forms of a network that are compared: as it is, by its weights alone, and fitted to data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import ModelProto

import separable as sp
from benchmarks.timing import Effort, Stopwatch, interleave
from separable.conv.forms.layer import ConvLayer, Replacement
from separable.conv.forms.table import FORMS, is_dense
from separable.conv.scores.interval import student
from separable.onnx.conversion.calibration import OnnxCalibration
from separable.onnx.conversion.network import OnnxNetwork
from separable.onnx.costs.rules import count
from separable.onnx.model.files import read_model, whole_model
from separable.onnx.model.graph import GraphIndex
from separable.onnx.model.runtime import runnable
from studies.real.subject import Array, Subject, session
from studies.study import Numbers, Progress

DENSE, OURS, WEIGHTS, DECOUPLED = "dense", "fitted to data", "by weights alone", "Network Decoupling"
ENGINE, RUNTIME = "engine", "ONNX Runtime"
TERMS: Final = 4  # Network Decoupling is tried with up to so many
Ways = Mapping[str, tuple[str, Any]]  # of layers by name: form and rank


@dataclass(frozen=True)
class Form:
    """A network in one form; `ways` says what its layers became."""

    kind: str
    label: str
    model: ModelProto
    ways: Ways


def compared(subject: Subject, effort: Effort, progress: Progress) -> Numbers:
    """Convert a network in all ways; return what each is worth and what it takes.

    Parameters
    ----------
    subject : Subject
    effort : Effort
        Of the times.
    progress : callable

    Returns
    -------
    dict
        JSON. `processor_seconds` are those of the whole conversion, all budgets together.
    """
    start = time.process_time(), time.monotonic()
    frontier = sp.onnx.frontier(
        subject.model,
        subject.calibration,
        subject.budgets,
        by="time",
        threads=1,
        progress=lambda done, total, step: progress(f"{subject.name}: {step}"),
    )
    spent = time.process_time() - start[0], time.monotonic() - start[1]
    ours = [
        Form(
            OURS,
            f"{point.budget:g} of the time",
            point.model,
            {row.name: (row.form, row.rank) for row in point.report.layers if not is_dense(row.form)},
        )
        for point in frontier.points
    ]
    progress(f"{subject.name}: by weights alone")
    forms = [Form(DENSE, "", subject.model, {}), *ours, *_by_weights(subject, ours)]
    progress(f"{subject.name}: times")
    seconds = _seconds(subject, forms, effort)
    scores = []
    for form in forms:
        progress(f"{subject.name}: {form.kind} {form.label}, scored")
        scores.append(subject.scored(form.model))
    return {
        "source": subject.source,
        "score": subject.score,
        "calibration": len(subject.calibration),
        "held_out": len(subject.held_out),
        "processor_seconds": spent[0],
        "seconds": spent[1],
        "left_out": [{"budget": left.budget, "reason": left.reason} for left in frontier.left_out],
        "rows": [
            {
                "kind": form.kind,
                "label": form.label,
                "macs": _macs(form.model, subject),
                "layers": len(form.ways),
                "seconds": seconds[place],
                **_points(own, scores[0]),
            }
            for place, (form, own) in enumerate(zip(forms, scores, strict=True))
        ],
    }


class _Layers:
    """The layers of a network that can be converted, without any data."""

    def __init__(self, subject: Subject) -> None:
        stored = runnable(read_model(subject.model), 1)
        one = OnnxCalibration(subject.calibration[:1], GraphIndex(stored).given())
        self._network = OnnxNetwork(stored, one, 1)

    @property
    def layers(self) -> Sequence[ConvLayer]:
        return self._network.layers

    def replaced(self, ways: Ways) -> dict[int, Replacement]:
        """Return the layers in these forms, as near to their weights as can be."""
        return {
            index: sp.conv.fit(layer, None, *ways[layer.name])
            for index, layer in enumerate(self.layers)
            if layer.name in ways
        }

    def model(self, replaced: Mapping[int, Replacement]) -> ModelProto:
        return whole_model(self._network.converted(replaced))

    def macs(self, ways: Ways) -> int:
        """Return the multiplications of all layers with some in these forms, which nobody has fitted."""
        return sum(
            FORMS[ways[layer.name][0]].cost(layer, ways[layer.name][1]).macs
            if layer.name in ways
            else layer.macs
            for layer in self.layers
        )


def _by_weights(subject: Subject, ours: Sequence[Form]) -> list[Form]:
    """Return what weights alone give: our forms and ranks, and one rank for all (Guo et al., BMVC 2018)."""
    network = _Layers(subject)
    forms, least = [], []
    for form in ours:
        least.append(network.macs(form.ways))
        forms.append(Form(WEIGHTS, form.label, network.model(network.replaced(form.ways)), form.ways))
    terms: dict[int, Ways] = {
        rank: {n.name: ("dw-pw", rank) for n in network.layers if _is_dense_window(n)}
        for rank in range(1, TERMS + 1)
    }
    costs = {rank: network.macs(ways) for rank, ways in terms.items()}
    for rank in dict.fromkeys(_nearest(macs, costs) for macs in least):
        if terms[rank]:
            replaced = network.replaced(terms[rank])
            forms.append(Form(DECOUPLED, f"T = {rank}", network.model(replaced), terms[rank]))
    return forms


def _is_dense_window(layer: ConvLayer) -> bool:
    return layer.groups == 1 and layer.taps > 1 and layer.c_in > 3 and len(layer.kernel) == 2


def _nearest(macs: int, costs: Mapping[int, int]) -> int:
    """Return the rank whose multiplications are nearest to so many."""
    return min(costs, key=lambda rank: abs(math.log(costs[rank] / macs)))


def _macs(model: ModelProto, subject: Subject) -> int:
    feeds = {subject.input: subject.held_out[:1]}
    return sum(layer.macs for layer in count(runnable(read_model(model), 1), feeds, 1).layers)


def _seconds(subject: Subject, forms: Sequence[Form], effort: Effort) -> list[dict[str, float]]:
    """Return the least time of each form in each runtime, of runs in turn, one input and one thread."""
    x = subject.held_out[:1]
    calls: dict[tuple[int, str], Callable[[], object]] = {}
    for place, form in enumerate(forms):
        program, run = sp.engine.load(form.model, threads=1), session(form.model)
        calls[place, ENGINE] = lambda program=program: program(x)  # type: ignore[misc]
        calls[place, RUNTIME] = lambda run=run: run({subject.input: x})  # type: ignore[misc]
    watches = {key: Stopwatch(lambda: None, call) for key, call in calls.items()}
    for watch in watches.values():
        watch.first()
    interleave(list(watches.values()), effort)
    return [
        {runtime: min(watches[place, runtime].samples) for runtime in (ENGINE, RUNTIME)}
        for place in range(len(forms))
    ]


def _points(scores: Array, dense: Array) -> Numbers:
    """Return a score in percent and the points lost, each with its 95 % interval."""
    lost = dense - scores
    return {
        "score": 100 * float(scores.mean()),
        "score_half": 100 * _half(scores),
        "lost": 100 * float(lost.mean()),
        "lost_half": 100 * _half(lost),
    }


def _half(values: Array) -> float:
    """Return half the width of the interval of a mean: Student's, or 3 / n where all inputs agree."""
    return float(student(values)) if np.ptp(values) else 3 / len(values)
