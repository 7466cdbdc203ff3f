"""The ONNX face: convert and count models in ONNX files, without torch.

Every name is loaded on first use, and onnx and onnxruntime with the first of them (``pip install
'separable[onnx]'``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .._extras import extra

if TYPE_CHECKING:
    from .auditing import Audit as Audit
    from .auditing import Separability as Separability
    from .auditing import audit as audit
    from .separating import Separation as Separation
    from .separating import separate as separate

# Where each public name lives.
_HOMES = {
    "Audit": "auditing",
    "Separability": "auditing",
    "Separation": "separating",
    "audit": "auditing",
    "separate": "separating",
}

__all__ = ["Audit", "Separability", "Separation", "audit", "separate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extra("onnx"):
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
