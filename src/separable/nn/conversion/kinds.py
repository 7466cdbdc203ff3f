"""The kinds of modules that are converted, and how each of them is a convolution layer.

A linear layer is one of a single tap: what it reads, ``(N, ..., C)``, has its channels moved to the second
axis, and the axes between made one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from ...conv.algebra.geometry import Padding
from ...conv.forms.transposed import padding_of, turned
from ..layers.between import is_plain
from ..layers.pair import array_of, padding_pairs

__all__ = [
    "CONVS",
    "TRANSPOSED",
    "channels_second",
    "geometry_of",
    "is_linear",
    "is_transposed",
    "kind_of",
    "outputs_first",
    "shape_of",
]

Shape: TypeAlias = tuple[int, ...]

CONVS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_KINDS: Final[tuple[type[nn.Module], ...]] = (*CONVS, *TRANSPOSED, nn.Linear)


def kind_of(module: nn.Module) -> type[nn.Module] | None:
    """Return torch's own class that a module computes as; None if it is of no kind that is converted."""
    return next((kind for kind in _KINDS if is_plain(module, kind)), None)


def is_linear(module: nn.Module) -> bool:
    """Return whether a module that is converted is a linear layer."""
    return isinstance(module, nn.Linear)


def is_transposed(module: nn.Module) -> bool:
    """Return whether a module that is converted is a transposed convolution."""
    return isinstance(module, TRANSPOSED)


def outputs_first(weights: Any, module: Any) -> Any:
    """Return a weight of a module with its output channels as the first axis, or one so arranged put back.

    Parameters
    ----------
    weights : Tensor or ndarray
        Of a transposed convolution ``(C_in, C_out/groups, *k)``, and back.
    module : Module

    Returns
    -------
    Tensor or ndarray
        Taps stay in their order.
    """
    if not is_transposed(module):
        return weights
    split = weights.reshape(module.groups, -1, *weights.shape[1:]).swapaxes(1, 2)
    return split.reshape(-1, *split.shape[2:])


def geometry_of(module: Any) -> dict[str, Any]:
    """Return the weights, the bias and the geometry of a module, as a ConvLayer takes them.

    Raises
    ------
    ValueError
        If a transposed convolution cuts off more than its taps reach over.
    """
    bias = None if module.bias is None else array_of(module.bias)
    weights = array_of(module.weight)
    if is_linear(module):
        return {"weights": weights[:, :, np.newaxis], "bias": bias}
    dilation = tuple(module.dilation)
    shared = {"bias": bias, "dilation": dilation, "groups": module.groups}
    if is_transposed(module):
        crop: Padding = tuple((samples, samples) for samples in module.padding)
        return {
            **shared,
            "weights": turned(weights, module.groups),
            "padding": padding_of(module.kernel_size, dilation, crop, module.output_padding),
            "input_dilation": tuple(module.stride),
            "transposed": True,
        }
    return {
        **shared,
        "weights": weights,
        "stride": tuple(module.stride),
        "padding": padding_pairs(module),
        "padding_mode": module.padding_mode,
    }


def shape_of(module: nn.Module, shape: Sequence[int]) -> Shape:
    """Return the shape ``(N, C, *sizes)`` of a tensor that a module reads or gives."""
    if not is_linear(module):
        return tuple(shape)
    return (shape[0], shape[-1], math.prod(shape[1:-1]))


def channels_second(module: nn.Module, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a module reads or gives as ``(N, C, *sizes)``."""
    if not is_linear(module) or not values.ndim:
        return values
    return values.reshape(len(values), -1, values.shape[-1]).swapaxes(1, 2)
