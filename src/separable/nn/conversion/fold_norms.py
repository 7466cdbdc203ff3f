"""Batch norms behind layers, folded into them: in inference both together are one layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers.between import folded, is_foldable, is_watched
from .kinds import is_linear, outputs_first
from .trace import Trace, Traced


@dataclass(frozen=True)
class Fold:
    """A batch norm that was folded into the convolution before it.

    Attributes
    ----------
    conv, norm : str
        Qualified names.
    module : Module
        The batch norm.
    scale, shift : Tensor, shape ``(C_out,)``, float64, on the CPU
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
    folds = []
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
        alone = alone and _norm_of_channels(conv)
        rest = _rest_of(norm) if norm is not None and alone and not is_watched(norm) else None
        if norm is not None and rest is not None:
            folds.append(_fold(conv.name, conv.module, name, norm))
            exchange(model, norm, rest)
    return tuple(folds)


def _norm_of_channels(conv: Traced) -> bool:
    """Return whether a norm of axis 1 is one of the layer's channels, which a linear layer has last."""
    return not is_linear(conv.module) or all(len(shape) == 2 for shape in conv.inputs)


def _rest_of(norm: nn.Module) -> nn.Module | None:
    """Return what a batch norm does besides; None if it cannot be folded."""
    if is_foldable(norm):
        return nn.Identity()
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.training:
        return None
    parts = dict(norm.named_children())
    if not parts or not parts.keys() <= {"drop", "act"}:  # timm's norm and activation in one
        return None
    rest = nn.Sequential(OrderedDict(parts)).eval()
    return rest if _is_norm_and(norm, rest) else None


@torch.no_grad()
def _is_norm_and(norm: Any, rest: nn.Module) -> bool:
    """Return whether a module is a batch norm and then `rest`, by running both on random numbers."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(4, norm.num_features, 5, 5, generator=numbers).to(norm.running_mean)
    scale, shift = folded(torch.ones_like(norm.running_mean), None, norm)
    assert shift is not None
    want, got = norm(x.clone()), rest(x * scale.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1))
    return want.shape == got.shape and torch.allclose(want, got, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def _fold(conv_name: str, conv: Any, name: str, norm: nn.Module) -> Fold:
    precise = _in_float64(norm)
    before = None if conv.bias is None else conv.bias.cpu().double()
    rows = outputs_first(conv.weight.cpu().double(), conv)
    scale, shift = folded(torch.ones(len(rows), dtype=torch.float64), None, precise)
    weight, bias = folded(rows, before, precise)
    assert bias is not None
    assert shift is not None
    weight = outputs_first(weight, conv)
    trains, like = conv.weight.requires_grad, conv.weight
    conv.weight = nn.Parameter(weight.to(like), trains)
    conv.bias = nn.Parameter(bias.to(like), trains)
    return Fold(conv_name, name, norm, scale, shift)


def _in_float64(norm: Any) -> nn.Module:
    """Return the batch norm on the CPU, where every machine has float64."""
    precise = nn.BatchNorm1d(norm.num_features, norm.eps, affine=norm.affine, device="meta").eval()
    tensors = {**norm._parameters, **norm._buffers}
    for name, tensor in tensors.items():
        if tensor is not None and tensor.is_floating_point():
            held = precise._parameters if name in precise._parameters else precise._buffers
            held[name] = tensor.cpu().double()
    return precise


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in another's place, everywhere; return `model`, or `new` if it was all of it."""
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
