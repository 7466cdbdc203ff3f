"""The activations that the fused operator knows, as torch writes them: names, functions, modules."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation: TypeAlias = str | type[nn.Module] | Callable[[Tensor], Tensor] | None

FUNCTIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
}

_MODULES: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "gelu": nn.GELU,
    "gelu_tanh": functools.partial(nn.GELU, approximate="tanh"),
}

# g with E[f(g z)^2] = 1 for a standard normal z: a layer whose sums have standard deviation g hands on a
# second moment of one. For ReLU that is He's square root of two (arXiv:1502.01852); the others were solved
# for by quadrature, and the tests integrate them again.
GAINS: Final[dict[str | None, float]] = {
    None: 1.0,
    "relu": 2**0.5,
    "relu6": 1.4142434297722752,
    "silu": 1.55875993009522,
    "hard_swish": 1.5671838352032272,
    "gelu": 1.4680112605724376,
    "gelu_tanh": 1.467960758271789,
}

_OF_MODULE: Final[dict[type, str | None]] = {
    nn.Identity: None,
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hard_swish",
}
_OF_FUNCTION: Final[tuple[tuple[object, str | None], ...]] = (
    (None, None),
    (torch.relu, "relu"),
    *((function, name) for name, function in FUNCTIONS.items()),
)


def checked_name(name: str | None, argument: str) -> str | None:
    """Return `name`, or raise a ValueError when it is no activation of the fused operator."""
    if name is None or name in FUNCTIONS:
        return name
    close = difflib.get_close_matches(str(name).lower(), FUNCTIONS, 1)
    raise ValueError(
        f"`{argument}={name!r}` is not an activation; expected None or one of "
        f"{', '.join(map(repr, FUNCTIONS))}." + (f" Did you mean {close[0]!r}?" if close else "")
    )


def module_of(activation: Activation, argument: str) -> nn.Module | Callable[[Tensor], Tensor] | None:
    """Return what a layer keeps of an activation: a module, a function, or None.

    A name becomes the torch module of that name, a module class an instance, and anything else that can
    be called is kept as it is.
    """
    if isinstance(activation, str):
        return _MODULES[str(checked_name(activation, argument))]()
    if isinstance(activation, type) and issubclass(activation, nn.Module):
        return activation()
    if activation is None or callable(activation):
        kept: Callable[[Tensor], Tensor] | None = activation  # type: ignore[assignment]  # no class here
        return kept
    raise TypeError(
        f"`{argument}` is {type(activation).__name__}; expected None, a name such as 'relu', a module, "
        "a module class, or a function of one tensor."
    )


def known_name(activation: Callable[[Tensor], Tensor] | None) -> tuple[bool, str | None]:
    """Return whether the fused operator has this activation, and its name there (None: the identity)."""
    kind = type(activation)
    if kind is nn.GELU:
        assert isinstance(activation, nn.GELU)
        return True, "gelu" if activation.approximate == "none" else "gelu_tanh"
    if kind in _OF_MODULE:
        return True, _OF_MODULE[kind]
    for function, name in _OF_FUNCTION:  # by identity: what is called need not be hashable
        if activation is function:
            return True, name
    return False, None


def gain_of(activation: Callable[[Tensor], Tensor] | None) -> float:
    """Return the gain that keeps the second moment through `activation`; 1 where it is not known."""
    return GAINS[known_name(activation)[1]]
