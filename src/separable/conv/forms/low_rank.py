"""A bottleneck: a convolution with all taps to `rank` channels in each group, then a 1x1 to the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..._base.types import FloatArray
from ..algebra.descent import Quadratic
from ..algebra.geometry import whole
from ..algebra.spectra import direction_losses
from ..algebra.terms import Rank
from .form import ConvPart, LayerForm, Solution, balanced, sequence
from .layer import ConvLayer

__all__ = ["LOW_RANK"]


class _LowRankForm(LayerForm):
    """The truncated SVD of the (C_out, C_in*K) matrix of all weights; on data, reduced-rank regression."""

    name = "low-rank"
    settled = True

    def full_rank(self, layer: ConvLayer) -> int:
        return min(layer.c_in // layer.groups * layer.taps, layer.c_out // layer.groups)

    def names(self, count: int) -> tuple[str, ...]:
        return "reduce", "expand"

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        first, last = self.names(2)
        narrow, groups = layer.groups * self.limited(layer, rank), layer.groups
        reduce = ConvPart(first, layer.c_in, narrow, groups, tuple(range(len(layer.kernel))))
        return reduce, ConvPart(last, narrow, layer.c_out, groups, ())

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        (flat,) = self.cuts(layer, weights)
        last, first = balanced(flat, self.limited(layer, rank))
        return sequence(layer, self.parts(layer, rank), (first, last), bias)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: FloatArray | None, sweeps: int
    ) -> Solution:
        directions = problem.reduction[0][:, : whole(rank, "rank")]
        return (problem.optimum @ directions) @ directions.T, None

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> FloatArray:
        return direction_losses(problem, ranks)

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        return [weights.reshape(layer.groups, layer.c_out // layer.groups, -1)]


LOW_RANK: Final[LayerForm] = _LowRankForm()
