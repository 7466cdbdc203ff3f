"""Run a model without leaving a trace: whatever its forward writes to is taken back.

A forward may write to its model: running statistics, step counters, caches held in attributes. While the
model is watched, every tensor that it holds is represented by a stand-in, and the attributes of all its
modules are put back afterwards, whatever happens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Replace: TypeAlias = Callable[[Tensor], Tensor]
Container: TypeAlias = dict[Any, Any] | list[Any] | set[Any]


@contextmanager
def untouched(model: nn.Module, replace: Replace) -> Iterator[None]:
    """Put `model` into inference mode and stand-ins in place of its tensors; undo both at the end.

    Parameters
    ----------
    model : Module
    replace : callable
        Makes the stand-in of a tensor; asked once for each, so that shared tensors stay shared.
    """
    modules = list(model.modules())
    modes = [module.training for module in modules]
    before = [(holder, copy.copy(holder)) for module in modules for holder in _holders(module)]
    stand_ins: dict[int, Tensor] = {}
    # A script module keeps its tensors in C++, where they cannot be exchanged: copies are put back.
    in_cpp = [module for module in modules if isinstance(module, torch.jit.ScriptModule)]
    in_python = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
    copies = [
        (buffer, buffer.detach().clone()) for module in in_cpp for buffer in module.buffers(recurse=False)
    ]
    try:
        for module in in_python:
            for holder in _holders(module):
                _exchange(holder, replace, stand_ins)
        for module in modules:
            # Not `eval()`: a model may do more there, such as merging weights.
            module.training = False
        yield
    finally:
        for holder, contents in before:
            _put_back(holder, contents)
        with torch.no_grad():
            for buffer, saved in copies:
                buffer.copy_(saved)
        for module, mode in zip(modules, modes, strict=True):
            if module.training != mode:
                module.training = mode


def map_tensors(value: Any, change: Replace) -> Any:
    """Return `value` with `change` applied to every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(entry, change) for entry in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(entry, change) for entry in value)
    if isinstance(value, dict):
        return {key: map_tensors(entry, change) for key, entry in value.items()}
    return value


def _holders(module: nn.Module) -> list[Container]:
    """Return what holds a module's state: its attributes, and the containers among them."""
    attributes = vars(module)
    return [attributes, *(value for value in attributes.values() if isinstance(value, (dict, list, set)))]


def _put_back(holder: Container, contents: Container) -> None:
    if _identities(holder) == _identities(contents):
        return
    if isinstance(holder, list):
        holder[:] = contents
    else:
        holder.clear()
        holder.update(contents)


def _identities(holder: Container) -> list[int]:
    """Return which objects a container holds, in order; what is equal may still be another."""
    held = (*holder, *holder.values()) if isinstance(holder, dict) else tuple(holder)
    return [id(entry) for entry in held]


def _exchange(holder: Container, replace: Replace, stand_ins: dict[int, Tensor]) -> None:
    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in stand_ins:
            stand_ins[id(tensor)] = replace(tensor)
        return stand_ins[id(tensor)]

    if isinstance(holder, set):
        return
    entries: list[tuple[Any, Any]] = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
    for key, value in entries:
        if isinstance(value, Tensor):
            holder[key] = stand_in(value)
        elif isinstance(value, tuple) and any(isinstance(entry, Tensor) for entry in value):
            holder[key] = map_tensors(value, stand_in)
