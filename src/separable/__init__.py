"""Filters and convolutions whose kernels factor: find the factors, know the error, run them fast.

Every name is loaded on first use, so ``import separable`` costs next to nothing. Submodules are
reached by name (``separable.families``); what starts with an underscore is private.
"""

from __future__ import annotations

import sys
from types import ModuleType

from ._base import moved
from ._base.lazy import attach

__version__ = "0.1.0"


def _hint(name: str, names: list[str]) -> str:
    if name.startswith("_"):
        return ""
    from ._base.words.messages import meant_function  # only an error needs it

    return meant_function(name, names)


__getattr__, __dir__, __all__ = attach(__name__, __file__, hint=_hint)


class _Facade(ModuleType):
    """The package's module type: a verb wins over the subpackage that carries its name."""

    def __setattr__(self, name: str, value: object) -> None:
        # Importing separable.factor (whoever asks for it) binds the subpackage to the package under the
        # name of the verb; bind the verb instead, so `separable.factor` is always callable.
        if isinstance(value, ModuleType) and name == "factor":
            value = value.factor
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Facade
moved.keep(__name__)
