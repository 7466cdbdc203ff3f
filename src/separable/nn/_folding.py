"""Batch norms behind convolutions, folded into them: in inference both together are one convolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._between import folded, is_foldable, is_watched
from ._tracing import Trace


@dataclass(frozen=True)
class Fold:
    """A batch norm that was folded into the convolution before it.

    Attributes
    ----------
    conv, norm : str
        Qualified names.
    module : Module
        The batch norm.
    scale, shift : Tensor, shape ``(C_out,)``, float64
        What it does to each channel: ``scale * y + shift``.
    """

    conv: str
    norm: str
    module: nn.Module
    scale: Tensor
    shift: Tensor


def fold_norms(model: nn.Module, trace: Trace) -> tuple[Fold, ...]:
    """Fold every batch norm that alone reads a convolution's output, and put an identity in its place.

    Parameters
    ----------
    model : Module
        In inference mode; changed in place.
    trace : Trace
        Of a run of it.

    Returns
    -------
    tuple of Fold
    """
    found = []
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    feeders: dict[str, list[str]] = {}
    for conv in trace.convs:
        for reader in conv.readers:
            feeders.setdefault(reader, []).append(conv.name)
    for conv in trace.convs:
        if len(conv.readers) != 1:
            continue
        (name,) = conv.readers
        norm = norms.get(name)
        alone = feeders[name] == [conv.name] and trace.calls.get(name) == len(conv.inputs)
        if norm is not None and alone and is_foldable(norm) and not is_watched(norm):
            found.append(_fold(conv.name, conv.module, name, norm))
            exchange(model, norm, nn.Identity())
    return tuple(found)


@torch.no_grad()
def _fold(conv_name: str, conv: Any, name: str, norm: nn.Module) -> Fold:
    ones = torch.ones(conv.out_channels, dtype=torch.float64, device=conv.weight.device)
    precise = _in_float64(norm)
    scale, shift = folded(ones, None, precise)
    assert shift is not None
    weight, bias = folded(conv.weight.double(), None if conv.bias is None else conv.bias.double(), precise)
    assert bias is not None
    trains = conv.weight.requires_grad
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), trains)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), trains)
    return Fold(conv_name, name, norm, scale, shift)


def _in_float64(norm: Any) -> nn.Module:
    precise = nn.BatchNorm1d(norm.num_features, norm.eps, affine=norm.affine, device="meta").eval()
    tensors = {**norm._parameters, **norm._buffers}
    for name, tensor in tensors.items():
        if tensor is not None and tensor.is_floating_point():
            held = precise._parameters if name in precise._parameters else precise._buffers
            held[name] = tensor.double()
    return precise


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in another's place, everywhere in `model`; return `model`, or `new` if it was all of it."""
    if model is old:
        return new
    for parent, name in places_of(model, old):
        parent._modules[name] = new
    return model


def places_of(model: nn.Module, module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield each parent of a module, and the module's name there."""
    for parent in model.modules():
        for name, child in list(parent._modules.items()):
            if child is module:
                yield parent, name
