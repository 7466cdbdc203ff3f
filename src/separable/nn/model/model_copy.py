"""A copy of a model that can be worked on: in inference mode, its weights plain tensors."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

from .run import check_model

_HELD: Final = (torch.float32, torch.float64)


def prepared(model: nn.Module) -> nn.Module:
    """Return a copy of `model` whose weights are its own, after refusing by name what cannot be converted.

    Weights that are computed from others (parametrizations, weight norm, spectral norm, pruning) are replaced
    by their values in inference mode. The copy is in inference mode, the model is left as it is.

    Raises
    ------
    TypeError
        If `model` is not a Module, or one whose insides cannot be exchanged.
    ValueError
        If it is not initialised, holds no numbers, spreads over devices, or is neither float32 nor float64.
    """
    check_model(model)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("`model` is a ScriptModule, whose layers are fixed; pass the module it was made of.")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise TypeError(f"`model` is wrapped in {type(model).__name__}; pass model.module.")
    _check_tensors(model)
    try:
        work = copy.deepcopy(model, dict(_computed(model)))
    except Exception as error:
        raise TypeError(
            f"`model` ({type(model).__name__}) cannot be copied ({type(error).__name__}: {error}); "
            "copy.deepcopy(model) must work, so that the model itself is left alone."
        ) from error
    work.eval()
    for parent in list(work.modules()):
        for name, child in parent._modules.items():
            parent._modules[name] = getattr(child, "_orig_mod", child)
    for module in list(work.modules()):
        _materialise(module)
    return work


def _check_tensors(model: nn.Module) -> None:
    devices: dict[torch.device, str] = {}
    for name, tensor in model.named_parameters():
        devices.setdefault(tensor.device, name)
        if tensor.is_floating_point() and tensor.dtype not in _HELD:
            raise ValueError(
                f"`model` holds `{name}` in {str(tensor.dtype).removeprefix('torch.')}; expected float32 or "
                "float64. Pass model.float(), and cast the result."
            )
    if torch.device("meta") in devices:
        raise ValueError("`model` is on the device 'meta' and holds no weights; load them first.")
    if len(devices) > 1:
        raise ValueError(
            f"`model` is spread over {', '.join(sorted(map(str, devices)))}; move it to one device."
        )


def _computed(model: nn.Module) -> list[tuple[int, Tensor]]:
    """Return copies of the tensors that `deepcopy` refuses: attributes with a history of computation."""
    values = (value for module in model.modules() for value in vars(module).values())
    return [
        (id(value), value.detach().clone())
        for value in values
        if isinstance(value, Tensor) and not value.is_leaf
    ]


@torch.no_grad()
def _materialise(module: nn.Module) -> None:
    if parametrize.is_parametrized(module):
        # `remove_parametrizations` takes the names out of the class, which the original shares with its copy.
        computed: Any = module.parametrizations
        values = {name: getattr(module, name).detach().clone() for name in computed}
        plain = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.__class__ = plain
        for name, value in values.items():
            kept = list(computed[name].parameters(recurse=False))
            if kept:
                module.register_parameter(name, nn.Parameter(value, kept[0].requires_grad))
            else:
                module.register_buffer(name, value)
    for hook in list(module._forward_pre_hooks.values()):
        kind, name = type(hook).__name__, str(getattr(hook, "name", ""))
        if kind == "WeightNorm":
            remove_weight_norm(module, name)
        elif kind == "SpectralNorm":
            remove_spectral_norm(module, name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
