"""How separable a model's convolutions are, and which of them cannot be converted."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...conv.audits.records import Layer, Refused
from ...conv.audits.separability import Separability, separability
from ...conv.forms.layer import ConvLayer
from ...report.text.audits import title
from ..conversion.kinds import CONVS, TRANSPOSED, geometry_of, kind_of
from ..layers.pair import array_of
from ..model.watch import own_name

_DENSE: Final = ("conv", "grouped", "pointwise")
_TRANSPOSED: Final = "transposed"


def judged(model: nn.Module, layers: Sequence[Layer]) -> tuple[Separability, ...]:
    """Return how separable each convolution is whose weights are numbers.

    A module that runs on inputs of several sizes is judged once, for all of its calls.
    """
    judgements: list[Separability | None] = []
    groups: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers:
        if layer.kind in (*_DENSE, _TRANSPOSED):
            same = (layer.name, layer.weights, layer.kernel, layer.stride, layer.dilation, layer.groups)
            groups.setdefault(same, []).append(layer)
    modules = {own_name(name): module for name, module in model.named_modules()}
    tensors = {own_name(name): tensor for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    for calls in groups.values():
        smallest = min(calls, key=lambda layer: math.prod(layer.output))
        one: ConvLayer | None
        if smallest.kind == _TRANSPOSED:
            one = _transposed_layer(smallest, modules.get(smallest.name))
        else:
            weights = _weights(calls[0], modules, tensors)
            one = None if weights is None else _conv_layer(smallest, weights)
        if one is not None:
            macs = sum(layer.macs for layer in calls)
            judgements.append(separability(replace(one, calls=max(1, round(macs / max(one.macs, 1))))))
    return tuple(judgement for judgement in judgements if judgement is not None)


def unconvertible(model: nn.Module, layers: Sequence[Layer]) -> tuple[Refused, ...]:
    """Return the convolutions that `separate` leaves as they are, whatever their weights, and why."""
    modules = {own_name(name): module for name, module in model.named_modules()}
    refused = {}
    for layer in layers:
        reason = None
        called = layer.kind in (*_DENSE, _TRANSPOSED)
        if called and not isinstance(modules.get(layer.name), (*CONVS, *TRANSPOSED)):
            reason = "called as a function: only modules are converted"
        if reason is not None:
            refused[title(layer)] = Refused(title(layer), layer.operator, reason)
    return tuple(refused.values())


def _weights(
    layer: Layer, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]
) -> npt.NDArray[np.float64] | None:
    """Return what a layer multiplied by; None where that is computed on the way, or no finite numbers."""
    module = modules.get(layer.name)
    if module is not None and parametrize.is_parametrized(module):
        module = copy.deepcopy(module).eval()  # reading the weights of some changes them, in training mode
    held = [getattr(module, "weight", None), *(tensors.get(name) for name in layer.weights)]
    channels = layer.output[-len(layer.kernel) - 1]
    for tensor in held:
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.is_complex():
            continue
        if tensor.dim() > 2 and tensor.shape[2:] == layer.kernel and len(tensor) == channels:
            weights = np.asarray(array_of(tensor), np.float64)
            return weights if weights.size and np.isfinite(weights).all() else None
    return None


def _transposed_layer(layer: Layer, module: nn.Module | None) -> ConvLayer | None:
    """Return a transposed convolution as values; None where no module of torch's own computes it."""
    if module is None:
        return None
    if parametrize.is_parametrized(module):
        module = copy.deepcopy(module).eval()
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    if kind_of(module) not in TRANSPOSED:
        return None
    try:
        values = geometry_of(module)
        return ConvLayer(title(layer), sizes=layer.inputs[0][-len(layer.kernel) :], **values)
    except (TypeError, ValueError):  # weights that are no finite numbers, or a crop beyond the taps
        return None


def _conv_layer(layer: Layer, weights: npt.NDArray[np.float64]) -> ConvLayer:
    """Return a layer as values; its padding follows from the sizes of its input and output."""
    ndim = len(layer.kernel)
    read, made = layer.inputs[0][-ndim:], layer.output[-ndim:]
    spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel, strict=True)]
    added = [
        max((m - 1) * s + span + 1 - r, 0)
        for m, s, span, r in zip(made, layer.stride, spans, read, strict=True)
    ]
    return ConvLayer(
        name=title(layer),
        weights=weights,
        stride=layer.stride,
        padding=tuple((samples // 2, samples - samples // 2) for samples in added),
        dilation=layer.dilation,
        groups=layer.groups,
        sizes=read,
    )
