"""What a convolution benchmark computes: the block of layers, its weights, its arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.conv_reference import Conv, convolve
from benchmarks.results import Target
from benchmarks.works import Array, Variant, aligned

QUICK_CHANNELS = 32  # layers at least twice as wide are this wide when only tried out


@dataclass(frozen=True)
class ConvWork:
    """A depthwise separable block, float32: DW k x k + bias + ReLU, then PW + bias + ReLU.

    Attributes
    ----------
    c_in, c_out
        Channels.
    sizes, quick_sizes
        Spatial sizes of the input.
    kernel, stride, dilation
        The same along every axis; zero padding of ``(kernel - 1) * dilation // 2`` at both ends.
    """

    name: str
    group: str
    c_in: int
    c_out: int
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    kernel: int
    variants: tuple[Variant, ...]
    targets: tuple[Target, ...] = ()
    stride: int = 1
    dilation: int = 1
    batch: int = 1
    threads: tuple[int, ...] = (1, 2)

    def title(self, quick: bool) -> str:
        """Say the work in words, with the size it has in this run."""
        c_in, c_out = self.channels(quick)
        size = " x ".join(map(str, self.quick_sizes if quick else self.sizes))
        kernel = " x ".join([str(self.kernel)] * len(self.sizes)) + (" taps" if len(self.sizes) == 1 else "")
        extras = [f"stride {self.stride}"] * (self.stride > 1)
        extras += [f"dilation {self.dilation}"] * (self.dilation > 1)
        extras += [f"batch {self.batch}"] * (self.batch > 1)
        return ", ".join([f"{c_in} -> {c_out} channels", f"{size} samples", kernel, *extras])

    def channels(self, quick: bool) -> tuple[int, int]:
        """Return input and output channels in this run; odd counts stay odd."""
        c_in, c_out = self.c_in, self.c_out
        if quick:
            c_in, c_out = (QUICK_CHANNELS if c >= 2 * QUICK_CHANNELS else c for c in (c_in, c_out))
        return c_in, c_out


@dataclass
class ConvJob:
    """Convolutions in sequence, each followed by a ReLU, on one input in both orders of axes.

    All contenders share the memory of the input and of the result. The reference is float64 arithmetic.
    """

    convs: tuple[Conv, ...]
    x: Array  # (N, *sizes, C_in)
    x_first: Array  # the same values as (N, C_in, *sizes)
    buffer: Array  # flat, at least as long as the result
    reference: Array  # (N, *sizes, C_out)

    @property
    def out(self) -> Array:
        """The result's memory as (N, *sizes, C_out)."""
        return self.buffer[: self.reference.size].reshape(self.reference.shape)

    @property
    def out_first(self) -> Array:
        """The result's memory as (N, C_out, *sizes)."""
        batch, *sizes, channels = self.reference.shape
        return self.buffer[: self.reference.size].reshape(batch, channels, *sizes)

    @property
    def flops(self) -> int:
        """Two for every multiply-add, borders counted as if they were inside."""
        shape, total = self.x.shape, 0
        for conv in self.convs:
            shape = conv.output_shape(shape)
            total += 2 * math.prod(shape[:-1]) * conv.weights.size
        return total

    @property
    def tolerance(self) -> float:
        """Bound on the difference of a right result to the reference."""
        # A sum of n products errs by at most n eps sum |w x| (Higham 2002, section 3.1) and typically by
        # sqrt(n) eps sum |w x|, itself about sqrt(n) times the result for weights of mean zero.
        terms = sum(conv.weights[0].size + 1 for conv in self.convs)
        scale = max(1.0, float(self.reference.max()))
        eps = float(np.finfo(self.x.dtype).eps)
        return float(terms * eps * scale)

    def lifted(self) -> ConvJob:
        """Return a 1-D job as one in 2-D, of height 1: to some peers that is another, faster path."""

        def lift(values: Array, axis: int) -> Array:
            return np.expand_dims(values, axis)

        convs = tuple(
            Conv(lift(c.weights, 2), c.bias, c.groups, (1, *c.stride), (1, *c.dilation), (0, *c.padding))
            for c in self.convs
        )
        return ConvJob(convs, lift(self.x, 1), lift(self.x_first, 2), self.buffer, lift(self.reference, 1))


def make_block(work: ConvWork, quick: bool) -> ConvJob:
    """Return the depthwise separable block of `work`, with random weights and input."""
    c_in, _ = work.channels(quick)
    sizes = work.quick_sizes if quick else work.sizes
    convs = block_convs(work, quick)
    x = aligned((work.batch, *sizes, c_in), "float32")
    np.random.default_rng(2024).standard_normal(dtype=np.float32, out=x)
    x_first = aligned((work.batch, c_in, *sizes), "float32")
    x_first[...] = np.moveaxis(x, -1, 1)
    reference = _reference(convs, x)
    return ConvJob(convs, x, x_first, aligned((reference.size,), "float32"), reference)


def block_convs(work: ConvWork, quick: bool = False) -> tuple[Conv, Conv]:
    """Return the depthwise and the pointwise layer of `work`, with random weights."""
    c_in, c_out = work.channels(quick)
    ones, zeros = (1,) * len(work.sizes), (0,) * len(work.sizes)
    pointwise = Conv(*_weights((c_out, c_in, *ones)), 1, ones, ones, zeros)
    return _spatial(work, (c_in, 1), c_in), pointwise


def make_dense(work: ConvWork, block: ConvJob) -> ConvJob:
    """Return the dense convolution (+ bias + ReLU) that `block` stands in for, in the same memory."""
    channels = (block.reference.shape[-1], block.x.shape[-1])
    convs = (_spatial(work, channels, 1),)
    return dataclasses.replace(block, convs=convs, reference=_reference(convs, block.x))


def _spatial(work: ConvWork, channels: tuple[int, int], groups: int) -> Conv:
    kernel, ones = (work.kernel,) * len(work.sizes), (1,) * len(work.sizes)
    padding = tuple((k - 1) * work.dilation // 2 for k in kernel)
    stride, dilation = (tuple(n * one for one in ones) for n in (work.stride, work.dilation))
    return Conv(*_weights((*channels, *kernel)), groups, stride, dilation, padding)


def _weights(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return weights that keep the signal's variance through a ReLU (He et al. 2015), and biases."""
    random = np.random.default_rng(shape)
    weights = random.standard_normal(shape, dtype=np.float32) * math.sqrt(2 / math.prod(shape[1:]))
    bias = random.uniform(-0.5, 0.5, shape[0])
    return weights.astype(np.float32), bias.astype(np.float32)


def _reference(convs: Sequence[Conv], x: Array) -> Array:
    for conv in convs:
        x = np.maximum(convolve(x, conv), 0)
    result = aligned(x.shape, "float32")
    result[...] = x
    return result
