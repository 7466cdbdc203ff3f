"""The model counter: multiply-accumulates, FLOPs, parameters, bytes and times of every layer of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ...conv.audits.machine import this_machine
from ...conv.audits.records import Layer, with_rooflines
from ...conv.conversion.goal import count
from ...report.audits import Audit
from ..model.layer_counts import counted_layers
from ..model.run import call_of, check_model, description, tensors_of, watch
from .separability import judged, unconvertible

__all__ = ["Audit", "Layer", "audit"]

Example: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]


def audit(model: nn.Module, example: Example, *, measure: bool = False, runs: int = 9) -> Audit:
    """Count what a model costs when it runs on an example, and say how separable its convolutions are.

    The model runs as it does in inference (``module.training`` is False meanwhile, and gradients are off). It
    is left as it was: modes, running statistics, attributes and hooks. Without `measure` only shapes are
    computed, on fake tensors: that takes seconds and no memory, however large the model.

    Parameters
    ----------
    model : Module
    example : Tensor, tuple, mapping, or shape
        A tensor is the model's input, a tuple its positional arguments, a mapping its keyword arguments. A
        tuple of ints, such as ``(1, 3, 224, 224)``, is the shape of an input of zeros, on the device and in
        the dtype of the model's first floating-point parameter.
    measure : bool, optional
        Run the model on real tensors, and time it: as a whole, and each layer.
    runs : int, optional
        How many runs the median times are taken of.

    Returns
    -------
    Audit
        With ``.macs``, ``.flops``, ``.params``, ``.bytes``, ``.layers``, ``.separability`` and ``.frontier``.

    Raises
    ------
    TypeError
        If `model` is not a Module, or `example` nothing that it can be run on.
    ValueError
        If the model does not run on `example` (its own error is the cause), or was never initialised.

    Notes
    -----
    ``macs`` are those of convolutions, linear and recurrent layers and products of matrices, as published
    tables count them: padding counts, and additions, norms and activations do not. The two products of
    attention are in the sum, as layers of their own kind. ``flops = 2 * macs + bias additions``. Every
    multiplication counts, wherever it is called: by a module, a function, or compiled code.

    ``separability`` is that of the weights as they stand, batch norms not folded in. A model on the ``meta``
    device has no weights, and none.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import audit
    >>> a = audit(torch.nn.Conv2d(64, 128, 3, padding=1, bias=False), (1, 64, 56, 56))
    >>> a.macs, a.flops, a.params
    (231211008, 462422016, 73728)
    >>> a.macs // 56**2
    73728
    """
    check_model(model)
    runs = count(runs, "runs")
    call = call_of(model, example)
    watched = watch(model, call, runs if measure else 0)
    devices = {tensor.device.type for tensor in (*model.parameters(), *tensors_of(call))}
    machine = this_machine(torch.get_num_threads()) if devices <= {"cpu"} else None
    layers, machine = with_rooflines(tuple(counted_layers(model, watched)), machine, watched.whole_ms)
    return Audit(
        model=type(model).__name__,
        example=description(call),
        layers=layers,
        params=sum(parameter.numel() for parameter in model.parameters()),
        measured_ms=watched.whole_ms,
        machine=machine,
        uncounted=watched.counted.unknown,
        remark=watched.remark,
        separability=judged(model, layers),
        refused=unconvertible(model, layers),
    )
