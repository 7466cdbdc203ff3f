"""From a network in float32 and calibration inputs to one in fewer bits, and the error of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._base.types import Array
from ...onnx.model.names import ModelError
from ..graph.ir import Graph
from ..network.compiled import CompiledNetwork
from ..network.records import PrecisionRecord
from ..program.lower import matrix_unit
from .bfloats import in_bfloats
from .eight_bits import apart, candidates, in_eight_bits, tensors
from .ranges import ranges_of

__all__ = ["calls_of", "converted"]


def calls_of(calibration: Any) -> Sequence[Any]:
    """Return calibration inputs as a list of calls: one array or dict is one call.

    Raises
    ------
    ValueError
        If there are none.
    """
    calls = list(calibration) if isinstance(calibration, (list, tuple)) else [calibration]
    if not calls:
        raise ValueError("`calibration=[]` holds no inputs; pass some that are like those to come.")
    return calls


def converted(
    graph: Graph, calls: Sequence[Any], threads: int, precision: str = "int8", fallback: bool = False
) -> tuple[Graph, PrecisionRecord]:
    """Return a network in fewer bits, and what it lost on some inputs: those that its ranges come from.

    Parameters
    ----------
    graph : Graph
        Simplified.
    calls : sequence
        Inputs, each as a program takes them.
    threads : int
    precision : {"int8", "bf16"}, optional
    fallback : bool, optional
        Whether ONNX Runtime runs what the engine does not.

    Returns
    -------
    graph : Graph
    record : PrecisionRecord

    Notes
    -----
    Ranges of eight bits are tried in two ways, all that was met and what leaves the least error of single
    numbers; the one with the lower error of the outputs is taken.
    """
    if precision == "bf16":
        rounded, count, names = in_bfloats(graph)
        wanted, given = (_results(one, calls, threads, fallback) for one in (graph, rounded))
        _check_finite(wanted)
        error, largest = _errors(wanted, given)
        return rounded, PrecisionRecord("bf16", count, names, len(calls), error, largest, "", matrix_unit())
    graph = apart(graph)
    chosen, others = candidates(graph)
    left = tuple(node.outputs[0] for node in others)
    wanted = _results(graph, calls, threads, fallback)
    ranges = ranges_of(graph, tensors(graph, chosen), calls, threads, fallback)
    found: list[tuple[float, Graph, PrecisionRecord]] = []
    for narrowed in (False, True):
        attempt = in_eight_bits(graph, chosen, ranges, narrowed=narrowed)
        error, largest = _errors(wanted, _results(attempt, calls, threads, fallback))
        ways = "least error" if narrowed else "all"
        record = PrecisionRecord("int8", len(chosen), left, len(calls), error, largest, ways)
        found.append((max(error.values(), default=0.0), attempt, record))
    _, best, record = min(found, key=lambda entry: entry[0])
    return best, record


def _results(graph: Graph, calls: Sequence[Any], threads: int, fallback: bool) -> list[Mapping[str, Array]]:
    network = CompiledNetwork(graph, graph, threads=threads, fallback=fallback)
    given = [network(call) for call in calls]
    return [one if isinstance(one, dict) else {network.outputs[0]: one} for one in given]


def _check_finite(results: Sequence[Mapping[str, Array]]) -> None:
    """Refuse results of which no error can be told."""
    for name in results[0]:
        if not all(np.isfinite(one[name]).all() for one in results):
            raise ModelError(
                f"output `{name}` holds numbers that are not finite on the calibration inputs: its error in "
                "fewer bits cannot be told. Pass inputs like those to come."
            )


def _errors(
    wanted: Sequence[Mapping[str, Array]], given: Sequence[Mapping[str, Array]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return for each output the relative root mean square of the differences, and the largest of them."""
    error, largest = {}, {}
    for name in wanted[0]:
        if not all(np.isfinite(one[name]).all() for one in given):  # beyond float32: nothing is left
            error[name] = largest[name] = np.inf
            continue
        pairs = [
            (one[name].astype(np.float64), other[name].astype(np.float64))
            for one, other in zip(wanted, given, strict=True)
        ]
        square = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
        whole = sum(float((a**2).sum()) for a, _ in pairs)
        error[name] = float(np.sqrt(square / whole)) if whole else float(np.sqrt(square))
        most = max((float(np.abs(a).max(initial=0)) for a, _ in pairs), default=0.0)
        apart = max((float(np.abs(a - b).max(initial=0)) for a, b in pairs), default=0.0)
        largest[name] = apart / most if most else apart
    return error, largest
