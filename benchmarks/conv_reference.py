"""Convolution layers and their gradients as plain loops over taps: what all contenders are compared with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from benchmarks.works import Array


@dataclass(frozen=True)
class Conv:
    """One convolution layer as neural networks define it: a correlation, zero-padded.

    Attributes
    ----------
    weights
        Shape ``(C_out, C_in / groups, *k)``.
    bias
        Shape ``(C_out,)``.
    groups
        1, or ``C_in`` for a depthwise layer.
    padding
        Zeros on both ends of each axis.
    """

    weights: Array
    bias: Array
    groups: int
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each axis."""
        return self.weights.shape[2:]

    @property
    def depthwise(self) -> bool:
        """Whether every channel is filtered on its own."""
        return self.groups > 1

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result, channels last, for an input of `shape`, channels last."""
        each = zip(shape[1:-1], self.kernel, self.stride, self.dilation, self.padding, strict=True)
        sizes = ((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, d, p in each)
        return (shape[0], *sizes, len(self.weights))

    def windows(self, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        """Yield each tap with the slices of the padded input that it meets; `shape` is the result's."""
        for tap in itertools.product(*map(range, self.kernel)):
            each = zip(tap, self.dilation, self.stride, shape[1:-1], strict=True)
            yield tap, (slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, s, n in each))

    def padded(self, x: Array) -> Array:
        """Return `x`, channels last, in float64 and with its zeros around."""
        return np.pad(x.astype(np.float64), ((0, 0), *((p, p) for p in self.padding), (0, 0)))


class BlockGradients(NamedTuple):
    """Gradients of a depthwise separable block."""

    x: Array
    depthwise: Array
    depthwise_bias: Array
    pointwise: Array
    pointwise_bias: Array


def convolve(x: Array, conv: Conv) -> Array:
    """Return the layer's result in float64, shape ``(N, *sizes, C_out)``, of `x` ``(N, *sizes, C_in)``."""
    padded, weights = conv.padded(x), conv.weights.astype(np.float64)
    result = np.empty(conv.output_shape(x.shape))
    result[...] = conv.bias
    for tap, window in conv.windows(result.shape):
        index: tuple[Any, ...] = (..., *tap)
        taps = weights[index]
        result += padded[window] * taps[:, 0] if conv.depthwise else padded[window] @ taps.T
    return result


def block(x: Array, convs: Sequence[Conv], grad: Array) -> tuple[Array, BlockGradients]:
    """Return result and gradients of a depthwise and a pointwise layer, each followed by a ReLU.

    Parameters
    ----------
    x
        Input, shape ``(N, *sizes, C_in)``.
    convs
        The depthwise layer, then the pointwise one.
    grad
        Gradient with respect to the result, of its shape.
    """
    depthwise, pointwise = convs
    between = np.maximum(convolve(x, depthwise), 0)
    result = np.maximum(convolve(between, pointwise), 0)
    grad = np.where(result > 0, grad, 0.0)
    flat, flat_between = (values.reshape(-1, values.shape[-1]) for values in (grad, between))
    matrix = pointwise.weights.reshape(pointwise.weights.shape[:2]).astype(np.float64)
    inner = np.where(between > 0, (flat @ matrix).reshape(between.shape), 0.0)
    padded = depthwise.padded(x)
    grad_padded, taps = np.zeros_like(padded), np.empty(depthwise.weights.shape)
    for tap, window in depthwise.windows(between.shape):
        index: tuple[Any, ...] = (slice(None), 0, *tap)
        grad_padded[window] += inner * depthwise.weights[index]
        taps[index] = np.einsum("ij,ij->j", *(v.reshape(-1, v.shape[-1]) for v in (padded[window], inner)))
    ends = zip(depthwise.padding, x.shape[1:-1], strict=True)
    inside: tuple[Any, ...] = (slice(None), *(slice(p, p + n) for p, n in ends))
    return result, BlockGradients(
        x=grad_padded[inside],
        depthwise=taps,
        depthwise_bias=inner.reshape(-1, inner.shape[-1]).sum(axis=0),
        pointwise=(flat.T @ flat_between).reshape(pointwise.weights.shape),
        pointwise_bias=flat.sum(axis=0),
    )
