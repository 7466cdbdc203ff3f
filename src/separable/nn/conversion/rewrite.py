"""What takes a layer's place, as torch modules: the package's layers where one fits, else a sequence."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from ...conv.forms.depthwise import DEPTHWISE_FIRST, POINTWISE_FIRST
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.forms.spatial import SPATIAL
from ...conv.forms.table import FORMS
from ...conv.forms.transposed import crop_of, turned
from ..layers.modules import (
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    DepthwiseSeparableConv3d,
    DepthwiseSeparableConvTranspose1d,
    DepthwiseSeparableConvTranspose2d,
    DepthwiseSeparableConvTranspose3d,
    SpatiallySeparableConv2d,
    SpatiallySeparableConv3d,
)
from ..layers.pair import ConvPair, padding_pairs
from ..layers.spatial import SpatialConv
from .fold_norms import Fold
from .kinds import CONVS, TRANSPOSED, is_linear, is_transposed

_PAIRS: Final = (DepthwiseSeparableConv1d, DepthwiseSeparableConv2d, DepthwiseSeparableConv3d)
_TRANSPOSED_PAIRS: Final = (
    DepthwiseSeparableConvTranspose1d,
    DepthwiseSeparableConvTranspose2d,
    DepthwiseSeparableConvTranspose3d,
)
_BY_AXIS: Final[dict[int, type[SpatialConv]]] = {2: SpatiallySeparableConv2d, 3: SpatiallySeparableConv3d}

# What models ask their layers, such as Whisper its strides; this package's layers know it as well.
_ASKED: Final = (
    "in_features",
    "out_features",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
    "output_padding",
)

_CHANNELS_LAST: Final = {4: torch.channels_last, 5: torch.channels_last_3d}  # by axes of the weight

# A norm that shrinks a channel by more than this leaves nothing of it.
_SILENT: Final = 1e-30


class SelectChannels(nn.Module):
    """Gives some of its input's channels, each as often as it is listed.

    Parameters
    ----------
    channels : sequence of int
    """

    channels: Tensor

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x[:, channels]``."""
        return x.index_select(1, self.channels)

    def extra_repr(self) -> str:
        """Return how many there are."""
        return str(len(self.channels))


def module_for(replacement: Replacement, conv: Any, fold: Fold | None = None) -> nn.Module:
    """Return the module that takes the place of a convolution or a linear layer.

    Parameters
    ----------
    replacement : Replacement
    conv : nn.Conv1d, 2d or 3d, nn.ConvTranspose1d, 2d or 3d, or nn.Linear
        What it replaces: dtype, device, memory format, mode and ``requires_grad`` are its own.
    fold : Fold, optional
        A batch norm that runs after the module; the replacement does its work as well, which is taken
        out of it again.

    Returns
    -------
    Module
    """
    parts = list(replacement.convs)
    last_weights, last_bias = _tensors(parts[-1])
    if fold is not None:
        last_weights, last_bias = _without(last_weights, last_bias, fold)
    convs: list[Any] = []
    for part in parts:
        last = part is parts[-1]
        weights, bias = (last_weights, last_bias) if last else _tensors(part)
        convs.append(_conv_of(part, weights, bias, conv))
    module: Any = _arranged(replacement, convs, conv).to(conv.weight.device).train(conv.training)
    layout = _CHANNELS_LAST.get(conv.weight.dim())
    if layout and conv.weight.is_contiguous(memory_format=layout) and not conv.weight.is_contiguous():
        module = module.to(memory_format=layout)
    done: nn.Module = module
    return done


def _arranged(replacement: Replacement, convs: list[Any], conv: Any) -> nn.Module:
    """Return one module of some convolutions: the only one, a layer of this package, or a sequence."""
    if len(convs) == 1 and replacement.channels is None:
        only: nn.Module = convs[0]
        return only
    arranged = _ARRANGED.get(replacement.form, _in_sequence)
    return arranged(replacement, convs, conv)


def _as_pair(replacement: Replacement, convs: list[Any], conv: Any) -> nn.Module:
    """Return a depthwise separable layer, or a sequence where the channels are not treated alike."""
    names = [f"conv_{name}" for name in FORMS[replacement.form].names(len(convs))]
    parts: dict[str, Any] = dict(zip(names, convs, strict=True))
    depthwise = parts["conv_dw"]
    ends = (depthwise.in_channels, depthwise.out_channels)
    channels = conv.in_channels if depthwise is convs[0] else conv.out_channels
    if replacement.channels is None and depthwise.groups == min(ends) == channels:
        pairs = _TRANSPOSED_PAIRS if is_transposed(conv) else _PAIRS
        pair: type[ConvPair] = pairs[len(conv.kernel_size) - 1]
        return pair.__new__(pair)._assemble(**parts, order=replacement.form)
    return _in_sequence(replacement, convs, conv, names)


def _axis_by_axis(replacement: Replacement, convs: list[Any], conv: Any) -> nn.Module:
    """Return a spatially separable layer, or a sequence where some convolution runs along two axes."""
    straight = replacement.channels is None and not is_transposed(conv)
    if straight and _along_axes(convs, len(conv.kernel_size)):
        return _by_axis(convs, conv)
    return _in_sequence(replacement, convs, conv)


def _in_sequence(
    replacement: Replacement, convs: list[Any], conv: Any, names: Sequence[str] = ()
) -> nn.Module:
    """Return the convolutions one after the other, behind a selection of the channels if there is one."""
    what = "linear" if is_linear(conv) else "conv"
    named = names or [f"{what}_{number}" for number in range(len(convs))]
    parts: dict[str, Any] = dict(zip(named, convs, strict=True))
    if replacement.channels is not None:
        parts = {"select": SelectChannels(replacement.channels), **parts}
    sequence = nn.Sequential(OrderedDict(parts))
    for name in _ASKED:
        if hasattr(conv, name):
            setattr(sequence, name, getattr(conv, name))
    return sequence


# Forms that a layer of this package is made for; any other is a sequence of convolutions.
_ARRANGED: Final[Mapping[str, Callable[[Replacement, list[Any], Any], nn.Module]]] = {
    DEPTHWISE_FIRST.name: _as_pair,
    POINTWISE_FIRST.name: _as_pair,
    SPATIAL.name: _axis_by_axis,
}


def _along_axes(convs: list[Any], ndim: int) -> bool:
    """Return whether each convolution runs along one axis, the first axis first."""
    if ndim not in _BY_AXIS or len(convs) != ndim or len({conv.groups for conv in convs}) != 1:
        return False
    others = (math.prod(conv.kernel_size) // conv.kernel_size[axis] for axis, conv in enumerate(convs))
    return all(taps == 1 for taps in others)


def _by_axis(convs: list[Any], conv: Any) -> nn.Module:
    layer = _BY_AXIS[len(convs)](
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        convs[-1].bias is not None,
        conv.padding_mode,
        "meta",
        conv.weight.dtype,
        mid_channels=[part.out_channels for part in convs[:-1]],
    )
    for name, part in zip([f"conv_{axis}" for axis in layer._axes()], convs, strict=True):
        setattr(layer, name, part)
    return layer


def _conv_of(part: ConvLayer, weights: Tensor, bias: Tensor | None, like: Any) -> nn.Module:
    if is_linear(like):
        linear = nn.Linear(part.c_in, part.c_out, bias is not None, device="meta", dtype=like.weight.dtype)
        return _filled(linear, weights.flatten(1), bias, like)
    if part.transposed:
        flipped = torch.from_numpy(turned(weights.numpy(), part.groups))
        return _filled(_transposed(part, bias, like), flipped, bias, like)
    plain: Any = CONVS[len(part.kernel) - 1]
    conv = plain(
        part.c_in,
        part.c_out,
        part.kernel,
        part.stride,
        _padding_of(part),
        part.dilation,
        part.groups,
        bias is not None,
        part.padding_mode,
        device="meta",
        dtype=like.weight.dtype,
    )
    if padding_pairs(conv) != part.padding:
        raise ValueError(
            f"{part.name} pads by {part.padding}, which no torch convolution does; expected equal "
            "sides, or those of padding='same'."
        )
    return _filled(conv, weights, bias, like)


def _transposed(part: ConvLayer, bias: Tensor | None, like: Any) -> Any:
    """Return torch's transposed convolution of the same geometry, without its weights."""
    crop, more = crop_of(part)
    before = tuple(samples for samples, _ in crop)
    added = tuple(m + b - a for (b, a), m in zip(crop, more, strict=True))
    plain: Any = TRANSPOSED[len(part.kernel) - 1]
    return plain(
        part.c_in,
        part.c_out,
        part.kernel,
        part.input_dilation,
        before,
        added,
        part.groups,
        bias is not None,
        part.dilation,
        device="meta",
        dtype=like.weight.dtype,
    )


def _filled(conv: Any, weights: Tensor, bias: Tensor | None, like: Any) -> nn.Module:
    trains = like.weight.requires_grad
    conv.weight = nn.Parameter(weights.to(like.weight.dtype), trains)
    if bias is not None:
        conv.bias = nn.Parameter(bias.to(like.weight.dtype), trains)
    done: nn.Module = conv
    return done


def _padding_of(part: ConvLayer) -> str | tuple[int, ...]:
    if any(before != after for before, after in part.padding):
        return "same"
    return tuple(before for before, _ in part.padding)


def _tensors(part: ConvLayer) -> tuple[Tensor, Tensor | None]:
    bias = None if part.bias is None else torch.tensor(part.bias, dtype=torch.float64)
    return torch.tensor(part.weights, dtype=torch.float64), bias


def _without(weights: Tensor, bias: Tensor | None, fold: Fold) -> tuple[Tensor, Tensor]:
    """Return weights and bias of the convolution that the norm makes into the one given."""
    heard = fold.scale.abs() > _SILENT
    inverse = torch.where(heard, 1 / torch.where(heard, fold.scale, 1.0), 0.0)
    total = torch.zeros_like(fold.shift) if bias is None else bias
    return weights * inverse.reshape(-1, *(1,) * (weights.dim() - 1)), (total - fold.shift) * inverse
