"""Which operators multiply and accumulate, and how often: one rule for each.

A rule reads the arguments and the result of one call and says what was multiplied. Only shapes are
looked at, so fake and meta tensors serve as well as real ones. Operators made of others (``einsum``,
``conv2d(padding="same")``, ``nn.LSTMCell``) need no rule: the watcher takes them apart first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...conv.algebra.terms import depthwise_first

Shape: TypeAlias = tuple[int, ...]
Arguments: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[Arguments, Tensor], "Product"]

# Parts of names that say that an operator multiplies: one that has no rule is reported as not counted.
_TELLTALE = re.compile(
    r"(^|_)(attention|bmm|cdist|conv([123]d|olution)?|dot|euclidean|linear|matmul|mm|mv|rnn|trilinear)(_|$)"
)
# Operators of these libraries are looked at by name; of an operator from elsewhere nothing is known.
_KNOWN_LIBRARIES = ("aten", "prim", "prims")


@dataclass(frozen=True)
class Product:
    """What one call of an operator multiplied.

    Attributes
    ----------
    kind : str
        What people call it: "conv", "depthwise", "linear", ...
    macs, adds : int
        Multiply-accumulates; additions of a bias.
    inputs, weights : tuple of Tensor
        Tensors read, the activations apart from what is (or may be) a layer's weights and bias.
    output : Tensor
    kernel, stride, dilation : tuple of int
        One entry for each spatial axis; empty for products of matrices.
    groups : int
    """

    kind: str
    macs: int
    adds: int
    inputs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    output: Tensor
    kernel: Shape = ()
    stride: Shape = ()
    dilation: Shape = ()
    groups: int = 1


def product(
    operator: torch._ops.OpOverload, arguments: Sequence[Any], options: Arguments, result: Any
) -> Product:
    """Return what one call multiplied; the operator must have a rule.

    Parameters
    ----------
    operator : OpOverload
    arguments, options
        Positional and keyword arguments of the call.
    result
        What it returned; of several tensors the first counts.
    """
    schema = operator._schema.arguments
    given = dict(zip((argument.name for argument in schema), arguments, strict=False)) | dict(options)
    named = {a.name: given.get(a.name, a.default_value) for a in schema}
    output = result if isinstance(result, Tensor) else result[0]
    return RULES[name_of(operator)](named, output)


def name_of(operator: torch._ops.OpOverload) -> str:
    """Return the operator's name without its overload, such as ``aten.conv2d``."""
    return str(operator.overloadpacket)


def is_unknown(name: str) -> bool:
    """Whether an operator that has no rule, and is not made of others, may hide multiplications."""
    library, _, own = name.partition(".")
    return library not in _KNOWN_LIBRARIES or _TELLTALE.search(own) is not None


def distinct(tensor: Tensor) -> int:
    """Count the elements that a tensor holds in memory; an expanded axis holds one."""
    if tensor.layout is not torch.strided:
        return tensor.numel()
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size if step else min(size, 1) for size, step in steps)


def _convolution(named: Arguments, output: Tensor) -> Product:
    """Every output (transposed: every input) meets each weight of its group once, padding included.

    A result that padding cuts off counts too: so do all published figures.
    """
    x, weight, bias = named["input"], named["weight"], named["bias"]
    transposed = bool(named.get("transposed"))
    ndim = weight.ndim - 2
    kernel, groups = tuple(weight.shape[2:]), int(named["groups"])
    channels = (int(x.shape[-1 - ndim]), int(output.shape[-1 - ndim]))
    return Product(
        kind=_convolution_kind(kernel, groups, channels, transposed),
        macs=(x if transposed else output).numel() * math.prod(weight.shape[1:]),
        adds=0 if bias is None else output.numel(),
        inputs=(x,),
        weights=(weight,) if bias is None else (weight, bias),
        output=output,
        kernel=kernel,
        stride=_per_axis(named["stride"], ndim),
        dilation=_per_axis(named["dilation"], ndim),
        groups=groups,
    )


def _transposed(named: Arguments, output: Tensor) -> Product:
    return _convolution({**named, "transposed": True}, output)


def _convolution_kind(kernel: Shape, groups: int, channels: tuple[int, int], transposed: bool) -> str:
    if transposed:
        return "transposed"
    if groups > 1:
        return "depthwise" if groups in channels else "grouped"
    return "conv" if math.prod(kernel) > 1 else "pointwise"


def _per_axis(value: int | Sequence[int], ndim: int) -> Shape:
    values = (value,) if isinstance(value, int) else tuple(int(entry) for entry in value)
    return values * ndim if len(values) == 1 else values


def _linear(named: Arguments, output: Tensor) -> Product:
    x, weight, bias = named["input"], named["weight"], named["bias"]
    return Product(
        kind="linear",
        macs=output.numel() * int(weight.shape[-1]),
        adds=0 if bias is None else output.numel(),
        inputs=(x,),
        weights=(weight,) if bias is None else (weight, bias),
        output=output,
    )


def _matrices(left: str, right: str) -> Rule:
    """Return the rule for matrices, stacks of them, or vectors; where `self` is a third, it is added."""

    def rule(named: Arguments, output: Tensor) -> Product:
        a, b = named[left], named[right]
        added = named["self"] if left != "self" and named["beta"] != 0 else None
        return Product(
            kind="matmul",
            macs=output.numel() * int(a.shape[-1]),
            adds=0 if added is None else output.numel(),
            inputs=(a, b) if added is None else (a, b, added),
            weights=(),
            output=output,
        )

    return rule


def _summed_matrices(named: Arguments, output: Tensor) -> Product:
    """Return the rule of ``addbmm``, which sums its products over the batch."""
    a, b, added = named["batch1"], named["batch2"], named["self"]
    return Product(
        kind="matmul",
        macs=a.numel() * int(b.shape[-1]),
        adds=output.numel() if named["beta"] != 0 else 0,
        inputs=(a, b, added),
        weights=(),
        output=output,
    )


def _attention(named: Arguments, output: Tensor) -> Product:
    """Return queries times keys, and scores times values; a causal mask saves nothing here."""
    query, key, value = named["query"], named["key"], named["value"]
    scores = math.prod(query.shape[:-1]) * int(key.shape[-2])
    return Product(
        kind="attention",
        macs=scores * (int(query.shape[-1]) + int(value.shape[-1])),
        adds=0,
        inputs=(query, key, value),
        weights=(),
        output=output,
    )


def _recurrent(named: Arguments, output: Tensor) -> Product:
    """Every step of every sequence meets each weight of every layer and direction once."""
    x = named["data" if "data" in named else "input"]  # packed sequences lie one after the other
    weights = tuple(named["params"])
    steps = math.prod(x.shape[:-1])
    return Product(
        kind="recurrent",
        macs=steps * sum(weight.numel() for weight in weights if weight.ndim > 1),
        adds=steps * sum(weight.numel() for weight in weights if weight.ndim == 1),
        inputs=(x,),
        weights=weights,
        output=output,
    )


def _separable(named: Arguments, output: Tensor) -> Product:
    """Return this package's fused operator: its two convolutions; what is between them is not moved."""
    x, depthwise, pointwise = named["x"], named["depthwise"], named["pointwise"]
    first = depthwise_first(named["order"])
    ndim = depthwise.ndim - 2
    after = output.shape[0] * math.prod(output.shape[2:])
    mixed = after if first else x.shape[0] * math.prod(x.shape[2:])
    biases = [(named["depthwise_bias"], after), (named["bias"], mixed)]
    return Product(
        kind="separable",
        macs=depthwise.numel() * after + pointwise.numel() * mixed,
        adds=sum(bias.numel() * samples for bias, samples in biases if bias is not None),
        inputs=(x,) if named["residual"] is None else (x, named["residual"]),
        weights=(depthwise, pointwise, *(bias for bias, _ in biases if bias is not None)),
        output=output,
        kernel=tuple(depthwise.shape[2:]),
        stride=_per_axis(named["stride"], ndim),
        dilation=_per_axis(named["dilation"], ndim),
        groups=int(x.shape[1] if first else output.shape[1]),
    )


_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_MATRICES = {  # the arguments that are multiplied
    "matmul": ("self", "other"),
    "mm": ("self", "mat2"),
    "_int_mm": ("self", "mat2"),
    "_scaled_mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "mv": ("self", "vec"),
    "dot": ("self", "tensor"),
    "vdot": ("self", "other"),
    "addmm": ("mat1", "mat2"),
    "addmm_": ("mat1", "mat2"),
    "_addmm_activation": ("mat1", "mat2"),
    "addmv": ("mat", "vec"),
    "addmv_": ("mat", "vec"),
    "baddbmm": ("batch1", "batch2"),
    "baddbmm_": ("batch1", "batch2"),
}
_ATTENTION = (
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def _rules() -> Iterator[tuple[str, Rule]]:
    yield "separable.depthwise_separable", _separable
    yield from ((f"aten.{name}", rule) for name, rule in _aten_rules())


def _aten_rules() -> Iterator[tuple[str, Rule]]:
    yield from ((name, _convolution) for name in _CONVOLUTIONS)
    yield from ((name, _transposed) for name in _TRANSPOSED)
    yield "linear", _linear
    yield from ((name, _matrices(*factors)) for name, factors in _MATRICES.items())
    yield from ((name, _summed_matrices) for name in ("addbmm", "addbmm_"))
    yield from ((name, _attention) for name in _ATTENTION)
    yield from ((name, _recurrent) for name in _RECURRENT)


RULES: Mapping[str, Rule] = dict(_rules())
