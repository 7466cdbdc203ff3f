"""Old module paths that pickles name, resolved to the present ones."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

# Module path in pickles of earlier versions -> present path, below the package.
MOVED: Final = {
    "adjoint": "filters.adjoint",
    "certificate": "kernel.bounds",
    "conv.machine": "conv.audits.machine",
    "conv.records": "conv.conversion.records",
    "conv.separability": "conv.audits.separability",
    "explaining": "filters.words.explanation",
    "nn._assembly": "nn.conversion.rewrite",
    "plan": "filters.plan",
}


class _Moved(ModuleType):
    """A module's old name: the new one is loaded when something of it is asked for."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Stands in for `{new}`, which pickles know by this name.")
        self.__dict__["_new"] = new

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(self._new), name)


def keep(package: str) -> None:
    """Let the old names of modules of `package` be imported."""
    for old, new in MOVED.items():
        sys.modules.setdefault(f"{package}.{old}", _Moved(f"{package}.{old}", f"{package}.{new}"))
