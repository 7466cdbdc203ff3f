"""What every form of a layer offers: the one protocol that conversions, audits and exports use."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np

from ..._base.types import FloatArray, RealArray
from ..algebra.descent import Quadratic
from ..algebra.geometry import weights_and_macs, whole
from ..algebra.terms import Rank
from ..cost import Cost
from .layer import ConvLayer, Replacement

__all__ = ["GAIN", "ConvPart", "LayerForm", "Solution", "balanced", "sequence"]

# Descent ends when a sweep gains less than this fraction of the error.
GAIN: Final = 1e-3

# The weights of an outline: neither 0 nor so small that their products are.
_OUTLINE: Final = 2.0**-6

# The SVD of a matrix of low rank is that of a sketch with so many more columns, where the matrix has so many
# times as many rows and columns, and the sketch leaves out no more than this fraction of it: rounding.
_OVERSAMPLED: Final = 8
_WORTH_A_SKETCH: Final = 3
_ROUNDED: Final = 1e-6

# Weights (I*K, O) of one group in a form, and what to start from next time; None: nothing to start from.
Solution: TypeAlias = tuple[RealArray, RealArray | None]


@dataclass(frozen=True)
class ConvPart:
    """One of the convolutions that a form consists of, without its weights.

    Attributes
    ----------
    name : str
        What is added to the layer's name; empty where it takes the layer's place alone.
    c_in, c_out, groups : int
    axes : tuple of int
        Spatial axes along which it has the layer's taps, stride, dilation and padding. Along the others it
        has one tap.
    """

    name: str
    c_in: int
    c_out: int
    groups: int
    axes: tuple[int, ...]

    def shape(self, layer: ConvLayer) -> tuple[int, ...]:
        """Return the shape of its weights."""
        kernel = (taps if axis in self.axes else 1 for axis, taps in enumerate(layer.kernel))
        return (self.c_out, self.c_in // self.groups, *kernel)

    def out_sizes(self, layer: ConvLayer, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the samples along each axis that it makes of `sizes`."""
        return tuple(layer.out_sizes[axis] if axis in self.axes else n for axis, n in enumerate(sizes))

    def transposed(self, layer: ConvLayer) -> bool:
        """Return whether it is a transposed convolution: the others of a transposed layer have one tap."""
        return layer.transposed and bool(self.axes)


class LayerForm(Protocol):
    """One way to write a convolution layer as a sequence of convolutions, of a rank that can be chosen.

    A new form is a class in a file of its own and an entry in ``table.FORMS``.

    Attributes
    ----------
    name : str
    ranked : bool
        Whether there is a rank to choose; else it is 1.
    multiplies : bool
        Whether the rank is a depth multiplier, which few ranks are enough for: terms of each channel's slice
        of the weights. Else it is the number of channels between two convolutions.
    uneven : bool
        Whether each input channel may have a rank of its own, in a layer of one group.
    settled : bool
        Whether no descent finds less error on the data than the closed form has.
    apart : bool
        Whether the outputs of a group are fitted apart.
    """

    name: str
    ranked: bool = True
    multiplies: bool = False
    uneven: bool = False
    settled: bool = False
    apart: bool = False

    def full_rank(self, layer: ConvLayer) -> int:
        """Return the least rank at which the form is exact for all weights; 0 if the layer cannot have it."""

    def names(self, count: int) -> tuple[str, ...]:
        """Return what so many convolutions of it are called, in running order; "" for one that is alone."""

    def parts(self, layer: ConvLayer, rank: Rank) -> tuple[ConvPart, ...]:
        """Return the convolutions that a layer becomes, in running order.

        Parameters
        ----------
        layer : ConvLayer
        rank : int or sequence of int
            More than the full rank counts as that.

        Returns
        -------
        tuple of ConvPart
        """

    def systems(self, layer: ConvLayer, rank: Rank) -> int:
        """Return how many systems of equations, as large as all terms, a sweep of descent solves."""
        return 1

    def convs(
        self, layer: ConvLayer, rank: Rank, weights: FloatArray, bias: FloatArray | None
    ) -> tuple[ConvLayer, ...]:
        """Write dense weights as the convolutions of the form.

        Exact where the weights have the rank, else the nearest in the Frobenius norm (for "spatial" in more
        than two dimensions near to it).

        Parameters
        ----------
        layer : ConvLayer
            The geometry.
        rank : int or sequence of int
        weights : ndarray, shape ``(C_out, C_in/groups, *k)``
        bias : ndarray, shape ``(C_out,)``, or None

        Returns
        -------
        tuple of ConvLayer
            Only the last has a bias, so that samples of padding are the same before and after each of them.
        """

    def solve(
        self, layer: ConvLayer, problem: Quadratic, rank: Rank, start: RealArray | None, sweeps: int
    ) -> Solution:
        """Return the weights of one group that fit its data best, below the full rank.

        Parameters
        ----------
        layer : ConvLayer
        problem : Quadratic
            The error of the group as a function of its weights.
        rank : int or sequence of int
        start : ndarray, optional
            What an earlier solution ended with.
        sweeps : int
            Of descent, at most.

        Returns
        -------
        Solution
        """

    def cuts(self, layer: ConvLayer, weights: FloatArray) -> list[FloatArray]:
        """Return the matrices ``(n, rows, columns)`` whose rank is that of the form, a stack for each cut."""

    # -- what follows from these -----------------------------------------------------------------------------

    def applies(self, layer: ConvLayer) -> bool:
        """Return whether a layer can have the form."""
        return self.full_rank(layer) > 0

    def cost(self, layer: ConvLayer, rank: int) -> Cost:
        """Return the MACs, for one input sample and all calls, and the parameters of a layer in the form.

        A bias of the last convolution is one of them.
        """
        params, macs, sizes = layer.c_out, 0, layer.sizes
        for part in self.parts(layer, rank):
            read, sizes = sizes, part.out_sizes(layer, sizes)
            counted = read if part.transposed(layer) else sizes
            kernel = part.shape(layer)[2:]
            weights, own = weights_and_macs(part.c_in, part.c_out, kernel, part.groups, counted)
            params, macs = params + weights, macs + own
        return Cost(params, macs * layer.calls)

    def outline(self, layer: ConvLayer, rank: int) -> Replacement:
        """Return a layer in the form, of equal weights: it takes as long as if it were fitted."""
        parts = self.parts(layer, rank)
        weights = (np.full(part.shape(layer), _OUTLINE) for part in parts)
        held = self.limited(layer, rank) if self.ranked else 0
        return Replacement(self.name, held, sequence(layer, parts, weights, layer.bias), math.nan)

    def composed(self, layer: ConvLayer, rank: Rank, convs: Sequence[ConvLayer]) -> FloatArray:
        """Return the dense weights that the convolutions amount to: the inverse of :meth:`convs`."""
        first, *others = (conv.weights for conv in convs)
        total = first.reshape(layer.groups, -1, *first.shape[1:])
        for weights in others:
            grouped = weights.reshape(layer.groups, -1, *weights.shape[1:])
            # Each has one tap along the axes of the others, so that kernels multiply by broadcasting.
            total = np.einsum("goh...,ghi...->goi...", grouped, total)
        return total.reshape(layer.weights.shape)

    def closed(self, layer: ConvLayer, problem: Quadratic, rank: Rank) -> RealArray:
        """Return weights of one group that are near to the best, without any descent."""
        return self.solve(layer, problem, rank, None, 0)[0]

    def losses(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        """Return about the squared errors of closed forms of one group, of some ranks at a time.

        Parameters
        ----------
        layer : ConvLayer
        problem : Quadratic
        ranks : sequence of int
            Ascending. From the full one on, the error is that of the optimum.

        Returns
        -------
        ndarray, shape ``(len(ranks),)``
        """
        full = self.full_rank(layer)
        below = [rank for rank in ranks if rank < full]
        losses = np.full(len(ranks), problem.least)
        if below:
            losses[: len(below)] = self.losses_below(layer, problem, below)
        return losses

    def settles(self, layer: ConvLayer) -> bool:
        """Return whether the form is `settled` for a layer, too."""
        return self.settled

    def losses_below(self, layer: ConvLayer, problem: Quadratic, ranks: Sequence[int]) -> RealArray:
        """Return the same of ranks below the full one."""
        return np.array([problem.loss(self.closed(layer, problem, rank)) for rank in ranks])

    def chains(self, convs: Sequence[ConvLayer], rank: Rank) -> list[tuple[ConvLayer, ...]]:
        """Return the convolutions as chains whose results add up: one for each term where they have terms."""
        return [tuple(convs)]

    def limited(self, layer: ConvLayer, rank: Rank) -> int:
        """Return one rank for all channels, at most the full one."""
        return min(whole(rank, "rank"), self.full_rank(layer))


def sequence(
    layer: ConvLayer, parts: Sequence[ConvPart], weights: Iterable[FloatArray], bias: FloatArray | None
) -> tuple[ConvLayer, ...]:
    """Return the convolutions of some parts, the bias with the last of them.

    Parameters
    ----------
    layer : ConvLayer
        The geometry.
    parts : sequence of ConvPart
    weights : iterable of ndarray
        Of each part, in any shape.
    bias : ndarray, shape ``(C_out,)``, or None

    Returns
    -------
    tuple of ConvLayer
    """
    convs: list[ConvLayer] = []
    sizes = layer.sizes
    for part, values in zip(parts, weights, strict=True):
        chosen = [axis in part.axes for axis in range(len(layer.kernel))]
        conv = ConvLayer(
            name=f"{layer.name}/{part.name}" if part.name else layer.name,
            weights=values.reshape(part.shape(layer)),
            bias=bias if len(convs) == len(parts) - 1 else None,
            stride=tuple(n if own else 1 for n, own in zip(layer.stride, chosen, strict=True)),
            padding=tuple(n if own else (0, 0) for n, own in zip(layer.padding, chosen, strict=True)),
            dilation=tuple(n if own else 1 for n, own in zip(layer.dilation, chosen, strict=True)),
            input_dilation=tuple(
                n if own else 1 for n, own in zip(layer.input_dilation, chosen, strict=True)
            ),
            transposed=part.transposed(layer),
            groups=part.groups,
            padding_mode=layer.padding_mode,
            sizes=sizes,
            calls=layer.calls,
        )
        convs.append(conv)
        sizes = conv.out_sizes
    return tuple(convs)


def balanced(matrices: FloatArray, rank: int) -> tuple[FloatArray, FloatArray]:
    """Split matrices (..., m, n) into (..., m, rank) and (..., rank, n) of equal norms."""
    left, values, right = _svd_of_low_rank(matrices, rank) or np.linalg.svd(matrices, full_matrices=False)
    roots = np.sqrt(values[..., :rank])
    return left[..., :rank] * roots[..., np.newaxis, :], right[..., :rank, :] * roots[..., np.newaxis]


def _svd_of_low_rank(matrices: FloatArray, rank: int) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return the SVD of large matrices of at most that rank, as fits are, without the zeros; None of others.

    A few more random combinations of the columns than the rank span all of them [1]_.

    References
    ----------
    .. [1] N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness", SIAM Review 53, 2011.
    """
    columns = rank + _OVERSAMPLED
    if min(matrices.shape[-2:]) < _WORTH_A_SKETCH * columns:
        return None
    mixed = matrices @ np.random.default_rng(0).standard_normal((matrices.shape[-1], columns))
    basis = np.linalg.qr(mixed)[0]
    inside = basis.swapaxes(-1, -2) @ matrices
    left_out = np.linalg.norm(matrices - basis @ inside, axis=(-2, -1))
    if (left_out > _ROUNDED * np.linalg.norm(matrices, axis=(-2, -1))).any():
        return None
    left, values, right = np.linalg.svd(inside, full_matrices=False)
    return basis @ left, values, right
