"""The PyTorch face: separable layers, the operator they run on, loaders, counting and converting models.

Every name is loaded on first use, and torch with the first of them (``pip install 'separable[nn]'``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .._extras import extra

if TYPE_CHECKING:
    from . import functional as functional
    from .counting import Audit as Audit
    from .counting import Layer as Layer
    from .counting import audit as audit
    from .layers import DepthwiseSeparableConv1d as DepthwiseSeparableConv1d
    from .layers import DepthwiseSeparableConv2d as DepthwiseSeparableConv2d
    from .layers import DepthwiseSeparableConv3d as DepthwiseSeparableConv3d
    from .layers import DepthwiseSeparableConvTranspose1d as DepthwiseSeparableConvTranspose1d
    from .layers import DepthwiseSeparableConvTranspose2d as DepthwiseSeparableConvTranspose2d
    from .layers import DepthwiseSeparableConvTranspose3d as DepthwiseSeparableConvTranspose3d
    from .layers import SpatiallySeparableConv2d as SpatiallySeparableConv2d
    from .layers import SpatiallySeparableConv3d as SpatiallySeparableConv3d
    from .loaders import depthwise_from_keras as depthwise_from_keras
    from .loaders import from_sequential as from_sequential
    from .loaders import from_timm as from_timm
    from .loaders import separable_from_keras as separable_from_keras
    from .separating import Separation as Separation
    from .separating import separate as separate

# Where each public name lives; None marks a submodule.
_HOMES: dict[str, str | None] = {
    "Audit": "counting",
    "DepthwiseSeparableConv1d": "layers",
    "DepthwiseSeparableConv2d": "layers",
    "DepthwiseSeparableConv3d": "layers",
    "DepthwiseSeparableConvTranspose1d": "layers",
    "DepthwiseSeparableConvTranspose2d": "layers",
    "DepthwiseSeparableConvTranspose3d": "layers",
    "Layer": "counting",
    "Separation": "separating",
    "SpatiallySeparableConv2d": "layers",
    "SpatiallySeparableConv3d": "layers",
    "audit": "counting",
    "depthwise_from_keras": "loaders",
    "from_sequential": "loaders",
    "from_timm": "loaders",
    "functional": None,
    "separable_from_keras": "loaders",
    "separate": "separating",
}

__all__ = [
    "Audit",
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DepthwiseSeparableConv3d",
    "DepthwiseSeparableConvTranspose1d",
    "DepthwiseSeparableConvTranspose2d",
    "DepthwiseSeparableConvTranspose3d",
    "Layer",
    "Separation",
    "SpatiallySeparableConv2d",
    "SpatiallySeparableConv3d",
    "audit",
    "depthwise_from_keras",
    "from_sequential",
    "from_timm",
    "functional",
    "separable_from_keras",
    "separate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    with extra("nn"):
        module = importlib.import_module(f"{__name__}.{home or name}")
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
