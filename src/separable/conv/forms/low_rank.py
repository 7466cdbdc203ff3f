"""A bottleneck: a convolution with all taps to `rank` channels in each group, then a 1x1 to the outputs.

Of a transposed layer it is the adjoint of that: a 1x1 to the hidden channels where the samples are few, then
all taps. Of a layer of one tap, such as a linear one, both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..._base.types import FloatArray, RealArray
from ..algebra.descent import Quadratic, descend_reduction
from ..algebra.geometry import whole
from ..algebra.spectra import direction_losses, hidden_losses
from ..algebra.terms import Rank
from .form import GAIN, ConvPart, LayerForm, Solution, balanced, sequence
from .layer import ConvLayer

__all__ = ["LOW_RANK"]


class _LowRankForm(LayerForm):
    """The truncated SVD of the (C_out, C_in*K) matrix of all weights; on data, reduced-rank regression.

    Of a transposed layer that of the (C_in, C_out*K) matrix; on data, descent of the hidden channels.
    """

    name = "low-rank"
    settled = True

    def full_rank(self, layer: ConvLayer) -> int:
        inputs, outputs = layer.c_in // layer.groups, layer.c_out // layer.groups
        if layer.transposed:
            return min(inputs, outputs * layer.taps)
        return min(inputs * layer.taps, outputs)

    def names(self, count: int) -> tuple[str, ...]:
        return "reduce", "expand"

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        first, last = self.names(2)
        narrow, groups = layer.groups * self.limited(layer, rank), layer.groups
        axes = tuple(range(len(layer.kernel)))
        reduce = ConvPart(first, layer.c_in, narrow, groups, () if layer.transposed else axes)
        return reduce, ConvPart(last, narrow, layer.c_out, groups, axes if layer.transposed else ())

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        (flat,) = self.cuts(layer, weights)
        count, groups = self.limited(layer, rank), layer.groups
        last, first = balanced(flat, count)
        if layer.transposed:  # (O*K, rank) of each group
            last = last.reshape(groups, -1, layer.taps, count).swapaxes(2, 3)
        return sequence(layer, self.parts(layer, rank), (first, last), bias)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        if layer.transposed:
            return self._descended(problem, whole(rank, "rank"), start, sweeps)
        directions = problem.reduction[0][:, : whole(rank, "rank")]
        return (problem.optimum @ directions) @ directions.T, None

    def _descended(self, problem: Quadratic, rank: int, start: RealArray | None, sweeps: int) -> Solution:
        """Return the best weights whose taps all read the same few mixtures of the input channels."""
        rows = problem.hidden_basis(problem.channels)[:rank] if start is None else start
        rows, hidden, _ = descend_reduction(problem, rows, sweeps, GAIN)
        outputs = problem.pull.shape[1]
        return (rows.T @ hidden.optimum.reshape(rank, -1)).reshape(-1, outputs), rows

    def settles(self, layer: ConvLayer) -> bool:
        return not layer.transposed

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        if layer.transposed:
            return np.asarray(
                hidden_losses(problem, problem.channels, ranks[-1])[np.array(ranks) - 1], np.float64
            )
        return direction_losses(problem, ranks)

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        groups, outputs = layer.groups, layer.c_out // layer.groups
        if not layer.transposed:
            return [weights.reshape(groups, outputs, -1)]
        by_input = weights.reshape(groups, outputs, -1, layer.taps).swapaxes(2, 3)
        return [by_input.reshape(groups, outputs * layer.taps, -1)]


LOW_RANK: Final[LayerForm] = _LowRankForm()
