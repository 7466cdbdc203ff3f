"""Which activation an operator of torch is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from ...conv.forms.activation import Activation

__all__ = ["PreluSlopes", "SeenActivation", "activation_in"]

Named: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class PreluSlopes:
    """A leaky rectifier whose slopes are a tensor of the model, by name: its values are not at hand yet."""

    tensor: str


SeenActivation: TypeAlias = Activation | PreluSlopes


def activation_in(
    func: Any, args: Sequence[Any], options: Named, tensor_name: Callable[[Tensor], str | None]
) -> SeenActivation | None:
    """Return which activation a call of an operator is, of its first argument; None if it is none.

    Parameters
    ----------
    func : OpOverload
    args, options
        Of the call.
    tensor_name : callable
        Returns the name of a tensor of the model, None for any other.

    Returns
    -------
    Activation, PreluSlopes or None
    """
    own = func._schema.name.removeprefix("aten::").rstrip("_")
    rule = _RULES.get(own)
    if own in ("prelu", "_prelu_kernel"):
        name = tensor_name(args[1])
        return None if name is None else PreluSlopes(name)
    if rule is None:
        return None
    schema = func._schema.arguments
    given = dict(zip((argument.name for argument in schema), args, strict=False)) | dict(options)
    return rule({argument.name: given.get(argument.name, argument.default_value) for argument in schema})


def _clamped(low: Any, high: Any) -> Activation | None:
    if isinstance(low, Tensor) or isinstance(high, Tensor) or (low is None and high is None):
        return None
    ends = (-torch.inf if low is None else float(low), torch.inf if high is None else float(high))
    if ends == (0.0, torch.inf):
        return Activation("relu")
    return Activation("clip", ends) if ends[0] < ends[1] else None


def _elu(named: Named) -> Activation | None:
    plain = named["scale"] == 1 and named["input_scale"] == 1
    return Activation("elu", (float(named["alpha"]),)) if plain else None


def _gelu(named: Named) -> Activation:
    return Activation("gelu_tanh" if named["approximate"] == "tanh" else "gelu")


_RULES: Final[Mapping[str, Callable[[Named], Activation | None]]] = {
    "relu": lambda named: Activation("relu"),
    "relu6": lambda named: Activation("clip"),
    "hardtanh": lambda named: _clamped(named["min_val"], named["max_val"]),
    "clamp": lambda named: _clamped(named["min"], named["max"]),
    "clamp_min": lambda named: _clamped(named["min"], None),
    "clamp_max": lambda named: _clamped(None, named["max"]),
    "leaky_relu": lambda named: Activation("leaky_relu", (float(named["negative_slope"]),)),
    "elu": _elu,
    "silu": lambda named: Activation("silu"),
    "hardswish": lambda named: Activation("hard_swish"),
    "gelu": _gelu,
    "sigmoid": lambda named: Activation("sigmoid"),
    "hardsigmoid": lambda named: Activation("hard_sigmoid", (1 / 6, 0.5)),
    "tanh": lambda named: Activation("tanh"),
}
