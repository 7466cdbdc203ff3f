"""The model counter: multiply-accumulates, FLOPs, parameters, bytes and times of every layer of a model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..conv.machine import Machine, this_machine
from ._audit_page import page
from ._audit_table import table
from ._running import Watched, call_of, check_model, description, tensors_of, watch
from ._watching import Signature, Weight, own_name

__all__ = ["Audit", "Layer", "audit"]

_HOLDERS = ("parametrizations.", "conv_dw.", "conv_pw.")

Shape: TypeAlias = tuple[int, ...]
Example: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Layer:
    """One layer of a model: the same module doing the same work, in one call or several.

    Attributes
    ----------
    name : str
        Qualified name of the module that made the call; "" is the model itself.
    kind : str
        "conv", "depthwise", "pointwise", "grouped", "transposed", "separable" (the fused operator of this
        package), "linear", "recurrent"; "matmul" and "attention" are products of two activations.
    operator : str
        The torch operator.
    weights : tuple of str
        Qualified names of the tensors of the model that it multiplied or added.
    kernel, stride, dilation : tuple of int
        One entry for each spatial axis; empty where there is none.
    groups : int
    dtype : str
        Of the result.
    inputs : tuple of tuple of int
        Shapes of the activations read, of one call.
    output : tuple of int
        Shape of the result of one call.
    calls : int
        How often it ran. `macs`, `flops`, `bytes` and the times are those of all calls together.
    macs : int
        Multiply-accumulates, for the whole batch.
    flops : int
        ``2 * macs``, and one for each addition of a bias.
    params : int
        Elements of the model's parameters that it is the first to use: no parameter counts twice.
    bytes : int
        Memory traffic if nothing stays in a cache between layers: activations in and out, weights.
    roofline_ms : float or None
        The time below which no implementation gets, by this machine's arithmetic and memory speed.
    measured_ms : float or None
        Median time; None if nothing was measured.
    """

    name: str
    kind: str
    operator: str
    weights: tuple[str, ...]
    kernel: Shape
    stride: Shape
    dilation: Shape
    groups: int
    dtype: str
    inputs: tuple[Shape, ...]
    output: Shape
    calls: int
    macs: int
    flops: int
    params: int
    bytes: int
    roofline_ms: float | None
    measured_ms: float | None


@dataclass(frozen=True)
class Audit:
    """What a model costs, layer by layer. Print it, or write it with `to_html` or `to_json`.

    Attributes
    ----------
    model : str
        Class of the model.
    example : str
        What it was run on.
    layers : tuple of Layer
        In the order of their first call.
    params : int
        All parameters of the model, shared ones once, also of layers that multiply nothing (norms,
        embeddings) or never ran.
    measured_ms : float or None
        Median time of the whole model, without any watching.
    machine : Machine or None
        The speeds behind `roofline_ms`; None if the model does not run on the CPU.
    uncounted : tuple of str
        Operators that may have multiplied, and that no rule covers.
    remark : str
        How it was run.
    """

    model: str
    example: str
    layers: tuple[Layer, ...]
    params: int
    measured_ms: float | None
    machine: Machine | None
    uncounted: tuple[str, ...]
    remark: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers, for the whole batch of the example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Twice the MACs, and one for each addition of a bias."""
        return sum(layer.flops for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Memory traffic of all layers if nothing stays in a cache between them."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def macs_by_kind(self) -> dict[str, int]:
        """The MACs of each kind of layer, the largest first."""
        sums: dict[str, int] = {}
        for layer in self.layers:
            sums[layer.kind] = sums.get(layer.kind, 0) + layer.macs
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def __str__(self) -> str:
        return table(self)

    def __repr__(self) -> str:
        return (
            f"<Audit of {self.model}: {self.macs} MACs, {self.params} parameters, {len(self.layers)} layers>"
        )

    def to_json(self) -> str:
        """Return everything as JSON: the attributes, the sums, and a list of layers.

        Returns
        -------
        str
        """
        sums = {"macs": self.macs, "flops": self.flops, "bytes": self.bytes}
        return json.dumps({**asdict(self), **sums, "macs_by_kind": self.macs_by_kind}, indent=1)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that needs no network: the sums, a bar for each layer, a table that sorts.

        Parameters
        ----------
        path : path-like
            The file appears there when it is complete.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        from separable.files.target import replacing

        with replacing(Path(path)) as beside:
            beside.write_text(page(self), encoding="utf-8")


def audit(model: nn.Module, example: Example, *, measure: bool = False, runs: int = 9) -> Audit:
    """Count what a model costs when it runs on an example: each multiplication, wherever it is called.

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
        With ``.macs``, ``.flops``, ``.params``, ``.bytes`` and ``.layers``.

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
    attention are in the sum, as layers of their own kind. ``flops = 2 * macs + bias additions``.

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
    if runs < 1:
        raise ValueError(f"`runs={runs}` is too few; expected at least 1.")
    call = call_of(model, example)
    watched = watch(model, call, runs if measure else 0)
    devices = {each.device.type for each in (*model.parameters(), *tensors_of(call))}
    machine = this_machine(torch.get_num_threads()) if devices <= {"cpu"} else None
    return Audit(
        model=type(model).__name__,
        example=description(call),
        layers=tuple(_layers(model, watched, machine)),
        params=sum(parameter.numel() for parameter in model.parameters()),
        measured_ms=watched.whole_ms,
        machine=machine,
        uncounted=watched.counted.unknown,
        remark=watched.remark,
    )


def _layers(model: nn.Module, watched: Watched, machine: Machine | None) -> Iterator[Layer]:
    params = _first_uses(model, watched.counted.calls)
    for found, calls in watched.counted.calls.items():
        flops = 2 * found.macs + found.adds
        roofline_ms = machine.roofline_ms(found.macs, found.bytes, found.dtype) if machine else None
        yield Layer(
            name=found.name,
            kind=found.kind,
            operator=found.operator,
            weights=tuple(dict.fromkeys(weight.name for weight in found.weights)),
            kernel=found.kernel,
            stride=found.stride,
            dilation=found.dilation,
            groups=found.groups,
            dtype=found.dtype,
            inputs=found.inputs,
            output=found.output,
            calls=calls,
            macs=calls * found.macs,
            flops=calls * flops,
            params=params[found],
            bytes=calls * found.bytes,
            roofline_ms=None if roofline_ms is None else calls * roofline_ms,
            measured_ms=watched.layers_ms.get(found),
        )


def _first_uses(model: nn.Module, signatures: Iterable[Signature]) -> dict[Signature, int]:
    """Return how many elements of parameters each layer is the first to use."""
    parameters = {own_name(name): parameter for name, parameter in model.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    used: dict[str, set[Weight]] = {}
    found = dict.fromkeys(signatures, 0)
    for signature in found:
        for weight in signature.weights:
            parts = used.setdefault(weight.name, set())
            if weight.parameter and weight not in parts:
                left = sizes[weight.name] - sum(part.elements for part in parts)
                found[signature] += max(0, min(weight.elements, left))
                parts.add(weight)
    for signature in found:
        if signature.computed:  # such as weight_norm's, from the parameters that nothing else used
            for name in _own_parameters(signature.name, sizes):
                if name not in used:
                    found[signature] += sizes[name]
                    used[name] = set()
    return found


def _own_parameters(module: str, names: Iterable[str]) -> Iterator[str]:
    """Return the parameters that a module makes its weights of.

    They are its own, those of `torch.nn.utils.parametrize`, and those of a separable layer's convolutions.
    """
    prefix = f"{module}." if module else ""
    for name in names:
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and ("." not in rest or rest.startswith(_HOLDERS)):
            yield name
