"""Ranges of the tensors of a network on some inputs, and the levels that they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...onnx.model.names import ModelError
from ..graph.ir import Graph
from ..network.compiled import CompiledNetwork

__all__ = ["Range", "ranges_of"]

_BINS: Final = 2048
_CANDIDATES: Final = 48  # ranges that are tried, from half of what was met to all of it
_LEVELS: Final = 255


@dataclass
class Range:
    """What a tensor ranges over.

    Attributes
    ----------
    low, high : float
        Of all that was met, and zero.
    counts : ndarray
        How many numbers lie in each of equal parts of that.
    """

    low: float = 0.0
    high: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def meets(self, array: Array) -> None:
        """Widen the range to some numbers."""
        self.low = min(self.low, float(array.min()))
        self.high = max(self.high, float(array.max()))

    def counts_of(self, array: Array) -> None:
        """Count some numbers."""
        if self.high > self.low:
            self.counts += np.histogram(array, _BINS, (self.low, self.high))[0]

    def levels(self, narrowed: bool) -> tuple[np.float32, np.uint8]:
        """Return scale and zero of 255 levels: over all of the range, or over what leaves the least error."""
        low, high = self._narrowed() if narrowed else (self.low, self.high)
        scale = np.float32((high - low) / _LEVELS) if high > low else np.float32(1)
        if not scale > 0:
            scale = np.float32(np.finfo(np.float32).tiny)
        return scale, np.uint8(np.clip(np.round(-low / float(scale)), 0, _LEVELS))

    def _narrowed(self) -> tuple[float, float]:
        """Return the part of the range of which rounding and what is cut off are least, as mean squares."""
        edges = np.linspace(self.low, self.high, _BINS + 1)
        middles = (edges[1:] + edges[:-1]) / 2
        best, found = np.inf, (self.low, self.high)
        for share in np.linspace(0.5, 1.0, _CANDIDATES):
            low, high = share * self.low, share * self.high
            beyond = middles - np.clip(middles, low, high)
            step = (high - low) / _LEVELS
            inside = beyond == 0
            error = float(self.counts @ (beyond**2)) + float(self.counts[inside].sum()) * step**2 / 12
            if error < best:
                best, found = error, (low, high)
        return found


def ranges_of(
    graph: Graph, names: Iterable[str], calls: Sequence[Any], threads: int, fallback: bool = False
) -> Mapping[str, Range]:
    """Return the ranges of some tensors of a network.

    Parameters
    ----------
    graph : Graph
        Simplified.
    names : iterable of str
    calls : sequence
        Inputs, each as a program takes them.
    threads : int
    fallback : bool, optional
        Whether ONNX Runtime runs what the engine does not.

    Returns
    -------
    mapping of str to Range

    Raises
    ------
    ModelError
        If a number is not finite.
    """
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        return {}
    outputs = (*wanted, *(name for name in graph.outputs if name not in wanted))
    watched = graph.with_(outputs=outputs)
    network = CompiledNetwork(watched, watched, threads=threads, fallback=fallback)
    found = {name: Range() for name in wanted}
    for step in ("meets", "counts_of"):  # the parts that are counted follow from all that was met
        for call in calls:
            results = network(call)
            arrays = results if isinstance(results, dict) else {wanted[0]: results}
            for name, held in found.items():
                array = arrays[name]
                if not np.isfinite(array).all():
                    raise ModelError(
                        f"tensor `{name}` holds numbers that are not finite on the calibration inputs."
                    )
                if array.size:
                    getattr(held, step)(array)
    return found
