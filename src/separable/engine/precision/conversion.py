"""From a network in float32 and calibration inputs to one in eight bits, and the error of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph
from ..network.compiled import CompiledNetwork
from ..network.records import PrecisionRecord
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


def converted(graph: Graph, calls: Sequence[Any], threads: int) -> tuple[Graph, PrecisionRecord]:
    """Return a network in eight bits, and what it lost on the inputs that its ranges come from.

    Parameters
    ----------
    graph : Graph
        Simplified.
    calls : sequence
        Inputs, each as a program takes them.
    threads : int

    Returns
    -------
    graph : Graph
    record : PrecisionRecord

    Notes
    -----
    Ranges are tried in two ways, all that was met and what leaves the least error of single numbers; the one
    with the lower error of the outputs is taken.
    """
    graph = apart(graph)
    chosen, others = candidates(graph)
    left = tuple(node.outputs[0] for node in others)
    wanted = _results(graph, calls, threads)
    ranges = ranges_of(graph, tensors(graph, chosen), calls, threads)
    found: list[tuple[float, Graph, PrecisionRecord]] = []
    for narrowed in (False, True):
        attempt = in_eight_bits(graph, chosen, ranges, narrowed=narrowed)
        error, largest = _errors(wanted, _results(attempt, calls, threads))
        ways = "least error" if narrowed else "all"
        record = PrecisionRecord("int8", len(chosen), left, len(calls), error, largest, ways)
        found.append((max(error.values(), default=0.0), attempt, record))
    _, best, record = min(found, key=lambda entry: entry[0])
    return best, record


def _results(graph: Graph, calls: Sequence[Any], threads: int) -> list[Mapping[str, Array]]:
    network = CompiledNetwork(graph, graph, threads=threads)
    given = [network(call) for call in calls]
    return [one if isinstance(one, dict) else {network.outputs[0]: one} for one in given]


def _errors(
    wanted: Sequence[Mapping[str, Array]], given: Sequence[Mapping[str, Array]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return for each output the relative root mean square of the differences, and the largest of them."""
    error, largest = {}, {}
    for name in wanted[0]:
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
