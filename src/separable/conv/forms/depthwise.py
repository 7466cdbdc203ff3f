"""A depthwise and a pointwise convolution, in either order: sums of T terms *mixing x filter* a channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ..._base.types import FloatArray, RealArray
from ..algebra.descent import (
    TAPS_AT_ONCE,
    Quadratic,
    alternate_outputs,
    descend_inputs,
    leading_filters,
    whitened_filters,
    whitened_outputs,
)
from ..algebra.geometry import whole
from ..algebra.spectra import input_losses, output_losses
from ..algebra.terms import (
    Rank,
    Weights,
    balanced_terms,
    compose,
    layer_weights,
    rank_per_channel,
    weight_slices,
)
from .form import GAIN, ConvPart, LayerForm, Solution, sequence
from .layer import ConvLayer

__all__ = ["DEPTHWISE_FIRST", "POINTWISE_FIRST"]


class _PairForm(LayerForm):
    """What both orders share: the terms of `algebra.terms`, of which only the arrangement differs."""

    multiplies = True

    def _kernels(self, layer: ConvLayer, rank: Rank, weights: FloatArray) -> tuple[Weights, Weights]:
        """Return the depthwise and the pointwise kernel of the terms nearest to dense weights."""
        slices = weight_slices(weights, self.name, layer.groups)
        uneven = isinstance(rank, Iterable)
        ranks = rank_per_channel(rank if uneven else self.limited(layer, rank), len(slices))
        terms = balanced_terms(slices, ranks)
        dtype = np.dtype(np.float64)
        return layer_weights(terms, self.name, layer.groups, layer.kernel, dtype, uneven)

    def _composed(
        self, layer: ConvLayer, rank: Rank, depthwise: ConvLayer, pointwise: ConvLayer
    ) -> FloatArray:
        dense = compose(depthwise.weights, pointwise.weights, self.name, rank=rank, groups=layer.groups)
        return np.asarray(dense, np.float64)

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        return [weight_slices(weights, self.name, layer.groups)] if layer.taps > 1 else []

    def chains(self, convs: Sequence[ConvLayer], rank: Rank) -> list[tuple[ConvLayer, ...]]:
        if isinstance(rank, Iterable) or len(convs) < 2:
            return [tuple(convs)]
        first, second = convs
        terms = whole(rank, "rank")
        return [
            (
                replace(first, weights=first.weights[term::terms]),
                replace(
                    second,
                    weights=second.weights[:, term::terms],
                    bias=second.bias if term == 0 else None,
                ),
            )
            for term in range(terms)
        ]


class _DepthwiseFirstForm(_PairForm):
    """T filters for each input channel, then one matrix that mixes the results, as MobileNet has them."""

    name = "dw-pw"
    uneven = True

    def names(self, count: int) -> tuple[str, ...]:
        return "dw", "pw"

    def full_rank(self, layer: ConvLayer) -> int:
        return min(layer.c_out // layer.groups, layer.taps) if layer.taps > 1 else 0

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        depthwise, pointwise = self.names(2)
        axes = tuple(range(len(layer.kernel)))
        if isinstance(rank, Iterable):  # channels are repeated first, once for each term
            terms = sum(rank_per_channel(rank, layer.c_in))
            filters = ConvPart(depthwise, terms, terms, terms, axes)
        else:
            terms = layer.c_in * self.limited(layer, rank)
            filters = ConvPart(depthwise, layer.c_in, terms, layer.c_in, axes)
        return filters, ConvPart(pointwise, terms, layer.c_out, layer.groups, ())

    def systems(self, layer: ConvLayer, rank: Rank) -> int:
        filters = sum(rank_per_channel(rank, layer.c_in // layer.groups))
        return -(-filters * layer.taps // TAPS_AT_ONCE)

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        return sequence(layer, self.parts(layer, rank), self._kernels(layer, rank, weights), bias)

    def composed(self, layer: ConvLayer, rank: Rank, convs: Sequence[ConvLayer]) -> FloatArray:
        depthwise, pointwise = convs
        return self._composed(layer, rank, depthwise, pointwise)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        ranks = rank_per_channel(rank, problem.channels)
        filters = whitened_filters(problem, ranks) if start is None else start
        filters, mixing, _ = descend_inputs(problem, ranks, filters, sweeps, GAIN)
        return _sum_of_terms(filters, mixing, ranks), filters

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        losses: RealArray = input_losses(problem, ranks[-1])[np.array(ranks) - 1]
        return losses


class _PointwiseFirstForm(_PairForm):
    """T sums of the input channels for each output channel, then a filter for each, all T added up."""

    name = "pw-dw"
    apart = True

    def names(self, count: int) -> tuple[str, ...]:
        return "pw", "dw"

    def full_rank(self, layer: ConvLayer) -> int:
        return min(layer.c_in // layer.groups, layer.taps) if layer.taps > 1 else 0

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        terms, outputs = layer.c_out * self.limited(layer, rank), layer.c_out
        axes = tuple(range(len(layer.kernel)))
        pointwise, depthwise = self.names(2)
        mixing = ConvPart(pointwise, layer.c_in, terms, layer.groups, ())
        return mixing, ConvPart(depthwise, terms, outputs, outputs, axes)

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        depthwise, pointwise = self._kernels(layer, rank, weights)
        return sequence(layer, self.parts(layer, rank), (pointwise, depthwise), bias)

    def composed(self, layer: ConvLayer, rank: Rank, convs: Sequence[ConvLayer]) -> FloatArray:
        pointwise, depthwise = convs
        return self._composed(layer, rank, depthwise, pointwise)

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        if start is None:
            start = leading_filters(problem, problem.optimum, whole(rank, "rank"))
        filters, mixing, _ = alternate_outputs(problem, start, sweeps, GAIN)
        return (mixing.swapaxes(1, 2) @ filters).reshape(len(filters), -1).T, filters

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        losses: RealArray = output_losses(problem, ranks[-1])[np.array(ranks) - 1]
        return losses

    def closed(self, layer: ConvLayer, problem: Quadratic, rank: Rank) -> RealArray:
        return whitened_outputs(problem, whole(rank, "rank"))


def _sum_of_terms(filters: RealArray, mixing: RealArray, ranks: Sequence[int]) -> RealArray:
    """Return the weights (I*K, O) of filters (R, K) and mixing (R, O) of input channels."""
    taps, outputs = filters.shape[1], mixing.shape[1]
    weights = np.zeros((len(ranks), taps, outputs), mixing.dtype)
    ends = np.cumsum(ranks)
    for rank in sorted(set(ranks) - {0}):
        members = np.flatnonzero(np.array(ranks) == rank)
        rows = (ends[members] - rank)[:, np.newaxis] + np.arange(rank)
        weights[members] = filters[rows].swapaxes(1, 2) @ mixing[rows]
    return weights.reshape(-1, outputs)


DEPTHWISE_FIRST: Final[LayerForm] = _DepthwiseFirstForm()
POINTWISE_FIRST: Final[LayerForm] = _PointwiseFirstForm()
