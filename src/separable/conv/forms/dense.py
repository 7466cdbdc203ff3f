"""The layer as it is: one convolution, which data may still fit anew."""

from __future__ import annotations

from typing import Final

from ..._base.types import FloatArray, RealArray
from ..algebra.descent import Quadratic
from ..algebra.terms import Rank
from ..cost import Cost
from .form import ConvPart, LayerForm, Solution, sequence
from .layer import ConvLayer

__all__ = ["DENSE"]


class _DenseForm(LayerForm):
    """One convolution with weights ``(C_out, C_in/groups, *k)``."""

    name = "dense"
    ranked = False
    settled = True

    def full_rank(self, layer: ConvLayer) -> int:
        return 1

    def names(self, count: int) -> tuple[str, ...]:
        return ("",)

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        (alone,) = self.names(1)
        return (ConvPart(alone, layer.c_in, layer.c_out, layer.groups, tuple(range(len(layer.kernel)))),)

    def cost(self, layer: ConvLayer, rank: int) -> Cost:
        """Return what the layer costs; a bias counts only where it has one."""
        return Cost(layer.params, layer.macs)

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        return sequence(layer, self.parts(layer, rank), [weights], bias)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        return problem.optimum, None

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        return []


DENSE: Final[LayerForm] = _DenseForm()
