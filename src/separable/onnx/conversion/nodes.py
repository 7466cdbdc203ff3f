"""Nodes that can be converted, and how each of them is a convolution layer.

A product of matrices is a layer of one tap: what it reads has its channels moved to the second axis, and the
axes between made one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from ..._base.types import Array
from ...conv.algebra.geometry import Padding, reach, resolve_padding
from ...conv.forms.activation import Activation
from ...conv.forms.layer import ConvLayer
from ...conv.forms.transposed import padding_of
from ..model.names import ModelError

__all__ = ["AUTO_PADS", "CONVOLUTIONS", "ConvNode", "Crop", "Factor", "Shape"]

Shape: TypeAlias = tuple[int, ...]

AUTO_PADS: Final = ("SAME_UPPER", "SAME_LOWER")

# Operators that a budget counts wholly, whether they can be converted or not.
CONVOLUTIONS: Final = frozenset(
    {"Conv", "ConvTranspose", "QLinearConv", "ConvInteger", "DeformConv", "FusedConv"}
)


@dataclass(frozen=True)
class Factor:
    """How a product of matrices reads what it is given.

    Attributes
    ----------
    constant_first : bool
        Whether the constant is its first factor, so that channels are the last axis but one.
    turned : bool
        Whether a Gemm transposes what it reads: ``transA``.
    """

    constant_first: bool = False
    turned: bool = False

    @property
    def axis(self) -> int:
        """The axis of the channels of what is read and given, from the end; 0: the first of two."""
        return -2 if self.constant_first else -1


@dataclass(frozen=True)
class Crop:
    """What a transposed convolution does at its ends.

    Attributes
    ----------
    more : tuple of int
        ``output_padding``.
    output_shape : tuple of int or None
        The sizes that it asks for, which decide what is cut off.
    """

    more: Shape
    output_shape: Shape | None = None


@dataclass(frozen=True, eq=False)
class ConvNode:
    """A Conv, ConvTranspose, Gemm or MatMul node that can be converted.

    Attributes
    ----------
    name : str
        That of the node, or of what it gives where it has none; no two are alike.
    operator : str
    node : int
        Its place in the graph.
    folded : tuple of int
        The places of the nodes behind it that are folded into it: a BatchNormalization, constant factors and
        addends of its channels.
    reads, gives : str
        The tensors before it, and after what is folded.
    weights : ndarray, shape ``(C_out, C_in/groups, *k)``, float64
        As a :class:`ConvLayer` holds them.
    bias : ndarray, shape ``(C_out,)``, float64, or None
    dtype : str
        Of the node's arithmetic.
    sources : tuple of str
        The tensors that hold its weights, its bias and what is folded: the same ones may be the same layer.
    stride, dilation : tuple of int
        Those of its operator.
    pads : tuple of (before, after), or None
        What the operator adds, or of a transposed convolution cuts off; None where the size of the input
        decides.
    auto_pad : str
    groups : int
    crop : Crop or None
        Of a transposed convolution.
    factor : Factor or None
        Of a product of matrices.
    activation : Activation or None
        What alone reads the result, or the sum with `beside`.
    read_by : str
        What reads it instead, where no activation is known.
    beside : str or None
        Where what alone reads the result is a sum with another tensor: that tensor.
    """

    name: str
    operator: str
    node: int
    folded: tuple[int, ...]
    reads: str
    gives: str
    weights: Array
    bias: Array | None
    dtype: str
    sources: tuple[str, ...]
    stride: Shape = (1,)
    dilation: Shape = (1,)
    pads: Padding | None = ((0, 0),)
    auto_pad: str = "NOTSET"
    groups: int = 1
    crop: Crop | None = None
    factor: Factor | None = None
    activation: Activation | None = None
    read_by: str = ""
    beside: str | None = None

    @property
    def channels(self) -> Shape:
        """The shape of one number for each channel of what it gives."""
        count, kernel = len(self.weights), self.weights.ndim - 2
        if self.factor is None:
            return (count, *(1,) * kernel)
        return (count, 1) if self.factor.constant_first else (count,)

    @property
    def places(self) -> frozenset[int]:
        """The places of all nodes that it stands for."""
        return frozenset((self.node, *self.folded))

    def padding(self, sizes: Shape) -> Padding:
        """Return the samples of padding (before, after) each axis, of an input of these sizes.

        Of a transposed convolution it is that of the convolution which it amounts to.

        Raises
        ------
        ValueError
            If it cuts off more than its taps reach over.
        """
        if self.crop is not None:
            kernel = self.weights.shape[2:]
            return padding_of(kernel, self.dilation, self._cut(self.crop, sizes), self.crop.more)
        if self.pads is not None:
            return self.pads
        same = resolve_padding("same", self.weights.shape[2:], self.stride, self.dilation, sizes)
        if self.auto_pad == "SAME_LOWER":
            return tuple((after, before) for before, after in same)
        return same

    def _cut(self, crop: Crop, sizes: Shape) -> Padding:
        """Return what a transposed convolution cuts off its result."""
        if self.pads is not None:
            return self.pads
        spans = reach(self.weights.shape[2:], self.dilation)
        wanted = crop.output_shape or tuple(n * s for n, s in zip(sizes, self.stride, strict=True))
        cuts = []
        for n, step, added, span, out in zip(sizes, self.stride, crop.more, spans, wanted, strict=True):
            total = max(step * (n - 1) + added + span - out, 0)
            halves = (total // 2, total - total // 2)
            cuts.append(halves if self.auto_pad == "SAME_UPPER" else halves[::-1])
        return tuple(cuts)

    def shape_of(self, shape: Sequence[int]) -> Shape:
        """Return the shape ``(N, C, *sizes)`` of what it reads or gives."""
        if self.factor is None:
            return tuple(shape)
        if self.factor.turned:
            return (shape[1], shape[0], 1)
        if len(shape) == 1:
            return (1, shape[0], 1)
        channels = shape[self.factor.axis]
        if len(shape) == 2:
            return (1, channels, shape[1]) if self.factor.constant_first else (shape[0], channels, 1)
        return (shape[0], channels, math.prod(shape[1:]) // max(channels, 1))

    def channels_second(self, values: Array, of_input: bool) -> Array:
        """Return what it reads (`of_input`) or gives, as ``(N, C, *sizes)``."""
        if self.factor is None:
            return values
        if self.factor.turned and of_input:
            return values.T[:, :, np.newaxis]
        if values.ndim == 1:
            return values[np.newaxis, :, np.newaxis]
        if values.ndim == 2:
            return values[np.newaxis] if self.factor.constant_first else values[:, :, np.newaxis]
        last = np.moveaxis(values, self.factor.axis, 1)
        return last.reshape(*last.shape[:2], -1)

    def example(self, batch: int, layer: ConvLayer) -> Array:
        """Return random numbers that it can read, of the sizes of a layer."""
        x = np.random.default_rng(0).standard_normal((batch, layer.c_in, *layer.sizes)).astype(self.dtype)
        if self.factor is None or (self.factor.constant_first and self.operator == "MatMul"):
            return x
        rows = np.ascontiguousarray(x.swapaxes(1, 2))
        if self.operator == "MatMul":
            return rows
        flat = rows.reshape(-1, layer.c_in)
        return np.ascontiguousarray(flat.T) if self.factor.turned else flat

    def layer(self, sizes: Shape, calls: int) -> ConvLayer:
        """Return it as the conversion knows it, for inputs of these sizes.

        Raises
        ------
        ModelError
            If it cannot run on them.
        """
        transposed = self.crop is not None
        steps: dict[str, Shape] = {"input_dilation" if transposed else "stride": self.stride}
        try:
            return ConvLayer(
                name=self.name,
                weights=self.weights,
                bias=self.bias,
                padding=self.padding(sizes),
                dilation=self.dilation,
                groups=self.groups,
                sizes=sizes,
                calls=calls,
                activation=self.activation,
                summed=self.beside is not None,
                read_by=self.read_by,
                transposed=transposed,
                **steps,  # type: ignore[arg-type]
            )
        except (TypeError, ValueError) as error:
            kernel = "x".join(map(str, self.weights.shape[2:]))
            what = f"{self.operator} `{self.name}`, kernel {kernel}, dilation {self.dilation}"
            raise ModelError(
                f"{what}, padding {self.pads}, does not fit an input of size {sizes}. Give larger inputs, or "
                "export the model again."
            ) from error
