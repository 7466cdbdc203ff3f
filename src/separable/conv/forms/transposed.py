"""Transposed convolutions as frameworks write them, and as convolutions of an input with zeros in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ..algebra.geometry import Padding
from .layer import ConvLayer

__all__ = ["crop_of", "padding_of", "turned"]


def turned(weights: npt.ArrayLike, groups: int) -> FloatArray:
    """Return the kernel of the adjoint: inputs and outputs of each group exchanged, taps in reverse.

    Parameters
    ----------
    weights : array_like, shape ``(C_in, C_out/groups, *k)`` or ``(C_out, C_in/groups, *k)``
        Of a transposed convolution, as torch and ONNX hold it, or as a :class:`ConvLayer` holds it.
    groups : int

    Returns
    -------
    ndarray, float64
        The other of the two.
    """
    given = np.asarray(weights, np.float64)
    split = given.reshape(groups, -1, *given.shape[1:]).swapaxes(1, 2)
    back = np.flip(split, tuple(range(3, split.ndim)))
    return np.ascontiguousarray(back).reshape(-1, *split.shape[2:])


def padding_of(kernel: Sequence[int], dilation: Sequence[int], crop: Padding, more: Sequence[int]) -> Padding:
    """Return the padding of the convolution that a transposed one amounts to.

    Parameters
    ----------
    kernel, dilation : sequence of int
    crop : sequence of (before, after)
        Samples cut off the result: what frameworks call the padding of a transposed convolution.
    more : sequence of int
        Samples added after it: ``output_padding``.

    Returns
    -------
    Padding

    Raises
    ------
    ValueError
        If more is cut off than the taps reach over.
    """
    pairs = []
    for taps, step, (before, after), added in zip(kernel, dilation, crop, more, strict=True):
        span = step * (taps - 1)
        if before > span or after - added > span:
            raise ValueError(
                f"it cuts off ({before}, {after}) samples, more than its taps reach over ({span})"
            )
        pairs.append((span - before, span - after + added))
    return tuple(pairs)


def crop_of(layer: ConvLayer) -> tuple[Padding, tuple[int, ...]]:
    """Return what a transposed layer cuts off its result, and what it adds after it: no more than it has to.

    Parameters
    ----------
    layer : ConvLayer
        A transposed one.

    Returns
    -------
    crop : Padding
    more : tuple of int
        As for :func:`padding_of`, whose inverse this is.
    """
    spans = [step * (taps - 1) for taps, step in zip(layer.kernel, layer.dilation, strict=True)]
    more = tuple(max(after - span, 0) for span, (_, after) in zip(spans, layer.padding, strict=True))
    crop = tuple(
        (span - before, span - after + added)
        for span, (before, after), added in zip(spans, layer.padding, more, strict=True)
    )
    return crop, more
