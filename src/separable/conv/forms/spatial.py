"""One convolution along each axis in turn, with `rank` channels in each group between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..._base.types import FloatArray, RealArray
from ..algebra.descent import Quadratic, descend_reduction
from ..algebra.geometry import whole
from ..algebra.spectra import hidden_losses
from ..algebra.terms import Rank
from .form import GAIN, ConvPart, LayerForm, Solution, balanced, sequence
from .layer import ConvLayer

__all__ = ["SPATIAL"]


class _SpatialForm(LayerForm):
    """Axis after axis is split off; an axis of one tap goes with the first convolution."""

    name = "spatial"

    def full_rank(self, layer: ConvLayer) -> int:
        outputs, inputs = layer.c_out // layer.groups, layer.c_in // layer.groups
        counts = _taps(layer)
        firsts = [inputs * math.prod(counts[:n]) for n in range(1, len(counts))]
        rests = [outputs * math.prod(counts[n:]) for n in range(1, len(counts))]
        return max((min(pair) for pair in zip(firsts, rests, strict=True)), default=0)

    def names(self, count: int) -> tuple[str, ...]:
        return tuple(f"axis{number}" for number in range(count))

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        groups, counts, channels = layer.groups, _taps(layer), self.limited(layer, rank)
        outputs, before = layer.c_out // groups, layer.c_in // groups
        parts: list[ConvPart] = []
        names = self.names(len(counts))
        for number, (name, axes) in enumerate(zip(names, _axes(layer), strict=True)):
            after = outputs
            if number < len(counts) - 1:
                after = min(channels, before * counts[number], outputs * math.prod(counts[number + 1 :]))
            parts.append(ConvPart(name, groups * before, groups * after, groups, axes))
            before = after
        return tuple(parts)

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        groups, outputs = layer.groups, layer.c_out // layer.groups
        parts = self.parts(layer, rank)
        # For each group (I, k1, k2, ..., O), without axes of one tap; then axis after axis is split off.
        left = np.moveaxis(weights.reshape(groups, outputs, *weights.shape[1:]), 1, -1)
        kernels: list[FloatArray] = []
        for part, taps in zip(parts[:-1], _taps(layer), strict=False):
            matrix = left.reshape(groups, part.c_in // groups * taps, -1)
            rest, rows = balanced(matrix.swapaxes(1, 2), part.c_out // groups)
            left = rest.swapaxes(1, 2)
            kernels.append(rows)
        kernels.append(left.reshape(groups, -1, outputs).swapaxes(1, 2))
        return sequence(layer, parts, kernels, bias)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        """Split off the first long axis, then the next of what is left."""
        channels = whole(rank, "rank")
        chain: list[RealArray] = []
        for number, taps in enumerate(_taps(layer)[:-1]):
            length = problem.channels * taps
            hidden = min(channels, length, len(problem.pull) * problem.pull.shape[1] // length)
            rows = start if number == 0 and start is not None else problem.hidden_basis(length)[:hidden]
            rows, problem, _ = descend_reduction(problem, rows, sweeps, GAIN)
            chain.append(rows)
        weights = problem.optimum
        for rows in reversed(chain):
            weights = (rows.T @ weights.reshape(len(rows), -1)).reshape(-1, weights.shape[1])
        return weights, chain[0]

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        taps = _taps(layer)
        if len(taps) > 2:  # what is left behind the first axis is split again
            return super().losses_below(layer, problem, ranks)
        length = problem.channels * taps[0]
        most = min(ranks[-1], length)
        losses = hidden_losses(problem, length, most)
        return np.array([losses[min(rank, most) - 1] for rank in ranks])

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        groups, counts = layer.groups, _taps(layer)
        outputs, inputs = layer.c_out // groups, layer.c_in // groups
        turned = weights.reshape(groups, outputs, inputs, layer.taps).transpose(0, 2, 3, 1)
        stack = turned.reshape(groups, inputs, *counts, outputs)
        return [stack.reshape(groups, inputs * math.prod(counts[:n]), -1) for n in range(1, len(counts))]


def _taps(layer: ConvLayer) -> list[int]:
    """Return the taps of the axes that have more than one."""
    return [taps for taps in layer.kernel if taps > 1]


def _axes(layer: ConvLayer) -> list[tuple[int, ...]]:
    """Return the axes that each convolution works along; those of one tap go with the first."""
    long = [axis for axis, taps in enumerate(layer.kernel) if taps > 1]
    short = [axis for axis, taps in enumerate(layer.kernel) if taps == 1]
    return [tuple(sorted((long[0], *short))), *((axis,) for axis in long[1:])]


SPATIAL: Final[LayerForm] = _SpatialForm()
