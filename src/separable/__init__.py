"""Filters and convolutions whose kernels factor: find the factors, know the error, run them fast.

Every name is loaded on first use, so ``import separable`` costs next to nothing. Submodules are
reached by name (``separable.families``); what starts with an underscore is private.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import conv as conv
    from . import families as families
    from . import ndimage as ndimage
    from . import nn as nn
    from . import onnx as onnx
    from ._caches import clear_caches as clear_caches
    from ._errors import EffortWarning as EffortWarning
    from ._errors import NotSeparableError as NotSeparableError
    from .banks import Bank as Bank
    from .factor import factor as factor
    from .factor import is_separable as is_separable
    from .filters import convolve as convolve
    from .filters import correlate as correlate
    from .filters import gaussian as gaussian
    from .filters import uniform as uniform
    from .kernel import KernelError as KernelError
    from .kernel import SeparableKernel as SeparableKernel
    from .plan import Plan as Plan
    from .plan import core_info as core_info
    from .plan import plan as plan

__version__ = "0.1.0"

# Where each public name lives; None marks a submodule.
_HOMES: dict[str, str | None] = {
    "Bank": "banks",
    "EffortWarning": "_errors",
    "KernelError": "kernel",
    "NotSeparableError": "_errors",
    "Plan": "plan",
    "SeparableKernel": "kernel",
    "clear_caches": "_caches",
    "conv": None,
    "convolve": "filters",
    "core_info": "plan",
    "correlate": "filters",
    "factor": "factor",
    "families": None,
    "gaussian": "filters",
    "is_separable": "factor",
    "ndimage": None,
    "nn": None,
    "onnx": None,
    "plan": "plan",
    "uniform": "filters",
}

__all__ = [
    "Bank",
    "EffortWarning",
    "KernelError",
    "NotSeparableError",
    "Plan",
    "SeparableKernel",
    "__version__",
    "clear_caches",
    "conv",
    "convolve",
    "core_info",
    "correlate",
    "factor",
    "families",
    "gaussian",
    "is_separable",
    "ndimage",
    "nn",
    "onnx",
    "plan",
    "uniform",
]


class _Facade(ModuleType):
    """The package's module type: a verb wins over the submodule that carries its name."""

    def __setattr__(self, name: str, value: object) -> None:
        # Importing separable.plan (whoever asks for it) binds the submodule to the package under
        # the name of the verb `plan`; bind the verb instead, so `separable.plan` is always callable.
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hint(name)}")
    home = _HOMES[name]
    module = importlib.import_module(f"{__name__}.{home or name}")
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    if name.startswith("_"):
        return ""
    from ._wording import meant_function  # only an error needs it

    return meant_function(name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
