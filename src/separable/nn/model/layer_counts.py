"""What each layer of a watched run costs: its calls added up, and the parameters that it uses first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from ...conv.audits.records import Layer
from .run import Watched
from .watch import Signature, Weight, own_name

__all__ = ["counted_layers"]

# What the parameters of a module's parts begin with where they are those of one layer.
_HOLDERS = ("parametrizations.", "conv_dw.", "conv_pw.")


def counted_layers(model: nn.Module, watched: Watched) -> Iterator[Layer]:
    """Yield what each layer of a watched run costs, in the order of their first calls."""
    params = _first_uses(model, watched.counted.calls)
    for signature, calls in watched.counted.calls.items():
        flops = 2 * signature.macs + signature.adds
        yield Layer(
            name=signature.name,
            kind=signature.kind,
            operator=signature.operator,
            weights=tuple(dict.fromkeys(weight.name for weight in signature.weights)),
            kernel=signature.kernel,
            stride=signature.stride,
            dilation=signature.dilation,
            groups=signature.groups,
            dtype=signature.dtype,
            inputs=signature.inputs,
            output=signature.output,
            calls=calls,
            macs=calls * signature.macs,
            flops=calls * flops,
            params=params[signature],
            bytes=calls * signature.bytes,
            roofline_ms=None,
            measured_ms=watched.layers_ms.get(signature),
        )


def _first_uses(model: nn.Module, signatures: Iterable[Signature]) -> dict[Signature, int]:
    """Return how many elements of parameters each layer is the first to use."""
    parameters = {own_name(name): parameter for name, parameter in model.named_parameters()}
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    used: dict[str, set[Weight]] = {}
    firsts = dict.fromkeys(signatures, 0)
    for signature in firsts:
        for weight in signature.weights:
            parts = used.setdefault(weight.name, set())
            if weight.parameter and weight not in parts:
                left = sizes[weight.name] - sum(part.elements for part in parts)
                firsts[signature] += max(0, min(weight.elements, left))
                parts.add(weight)
    for signature in firsts:
        if signature.computed:  # such as weight_norm's, from the parameters that nothing else used
            for name in _own_parameters(signature.name, sizes):
                if name not in used:
                    firsts[signature] += sizes[name]
                    used[name] = set()
    return firsts


def _own_parameters(module: str, names: Iterable[str]) -> Iterator[str]:
    """Return the parameters that a module makes its weights of.

    They are its own, those of `torch.nn.utils.parametrize`, and those of a separable layer's convolutions.
    """
    prefix = f"{module}." if module else ""
    for name in names:
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and ("." not in rest or rest.startswith(_HOLDERS)):
            yield name
