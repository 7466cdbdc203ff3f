"""What stands between and after the convolutions of a layer, folded where it can be; initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook

from .activations import gain_of

Norm: TypeAlias = Callable[[int], nn.Module] | None
Device: TypeAlias = torch.device | str | int | None
Function: TypeAlias = Callable[[Tensor], Tensor]


def norm_of(
    norm: Norm, channels: int, argument: str, device: Device, dtype: torch.dtype | None
) -> nn.Module | None:
    """Return the module that `norm` makes, on the device and in the dtype asked for."""
    if norm is None:
        return None
    if isinstance(norm, nn.Module):
        raise TypeError(
            f"`{argument}` is the module {type(norm).__name__}; expected its class, or a function that makes "
            "one from the number of channels, such as torch.nn.BatchNorm2d."
        )
    module = norm(channels)
    if not isinstance(module, nn.Module):
        raise TypeError(f"`{argument}({channels})` is {type(module).__name__}; expected a torch.nn.Module.")
    return module if device is None and dtype is None else module.to(device=device, dtype=dtype)


def applied(y: Tensor, *steps: Function | None) -> Tensor:
    """Return `y` after each step; None is no step."""
    for step in steps:
        if step is not None:
            y = step(y)
    return y


def is_plain(conv: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether `conv` computes as `kind` does: nobody replaced it by a quantized or adapted one."""
    return isinstance(conv, kind) and type(conv).forward is kind.forward


def is_watched(*modules: object) -> bool:
    """Return whether hooks want to see one of the modules called."""
    return bool(_has_any_global_hook()) or any(  # type: ignore[no-untyped-call]
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in modules
        if isinstance(m, nn.Module)
    )


def is_foldable(norm: nn.Module | None) -> bool:
    """Return whether `norm` is nothing, or a batch norm that uses its running statistics."""
    if norm is None:
        return True
    if not (isinstance(norm, _BatchNorm) and type(norm).forward is _BatchNorm.forward):
        return False
    return not norm.training and norm.running_mean is not None and norm.running_var is not None


def tensors_of(*modules: object) -> Iterator[Tensor]:
    """Yield the floating tensors that the modules themselves hold."""
    for module in modules:
        if isinstance(module, nn.Module):
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None and tensor.is_floating_point():
                    yield tensor


def folded(weight: Tensor, bias: Tensor | None, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of the convolution that does the work of `norm` as well.

    ``((w*x + b) - mean) / sqrt(var + eps) * gamma + beta``, differentiable in all of them.
    """
    if norm is None:
        return weight, bias
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1)), shift


@torch.no_grad()
def initialise(conv: Any, following: Function | None) -> None:
    """Draw weights that keep the second moment of the signal through `conv` and the activation after it.

    A sum of `fan` products of independent inputs with weights of variance v and mean zero has variance
    ``fan * v * E[x^2]``. The weights are uniform with ``v = gain^2 / fan``, gain being that of the
    activation (1 without one), and biases are zero. The fan is what enters one output sample: input
    channels of a group times taps; of a transposed convolution every prod(stride)-th tap on average.
    """
    fan = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
    if conv.transposed:
        fan = fan / math.prod(conv.stride)
    bound = gain_of(following) * math.sqrt(3 / fan)
    conv.weight.uniform_(-bound, bound)
    if conv.bias is not None:
        conv.bias.zero_()
