"""Layers of one tap that read more channels than a covariance has room for: fitted to what they give instead.

What such a layer reads is told by its own outputs: the new weights are mixtures of the old ones. So a fit
needs the covariance of the outputs, not of tens of thousands of inputs, and is exact at full rank.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from .layer import ConvLayer, Replacement

__all__ = ["of_inputs", "of_outputs", "outputs_of"]

# Input channels of a group from which on a layer is fitted to its outputs: their covariance takes 128 MiB,
# and a fit has several of that size.
_WIDEST: Final = 4096


def of_outputs(layer: ConvLayer) -> ConvLayer | None:
    """Return the layer that mixes what a wide layer of one tap gives, and changes nothing yet.

    Parameters
    ----------
    layer : ConvLayer

    Returns
    -------
    ConvLayer or None
        None for a layer that is not wide, or has more taps.
    """
    inputs, outputs = layer.c_in // layer.groups, layer.c_out // layer.groups
    if layer.taps > 1 or layer.transposed or inputs <= max(_WIDEST, outputs):
        return None
    mixing = np.tile(np.eye(outputs), (layer.groups, 1)).reshape(layer.c_out, outputs, *layer.kernel)
    return replace(
        layer,
        weights=mixing,
        stride=(1,) * len(layer.kernel),
        padding=((0, 0),) * len(layer.kernel),
        dilation=(1,) * len(layer.kernel),
        sizes=layer.out_sizes,
    )


def outputs_of(layer: ConvLayer, x: FloatArray) -> FloatArray:
    """Return what a layer gives but for its bias: what :func:`of_outputs` reads."""
    return replace(layer, bias=None)(x)


def of_inputs(replacement: Replacement, layer: ConvLayer) -> Replacement:
    """Return what takes a wide layer's place, given what takes that of the layer of its outputs."""
    first, *others = replacement.convs
    mixing = first.weights.reshape(layer.groups, -1, layer.c_out // layer.groups)
    weights = mixing @ layer.weights.reshape(layer.groups, layer.c_out // layer.groups, -1)
    widened = replace(
        layer,
        name=first.name,
        weights=weights.reshape(first.c_out, -1, *layer.kernel),
        bias=first.bias,
        activation=None,
        summed=False,
        read_by="",
    )
    return replace(replacement, convs=(widened, *others))
