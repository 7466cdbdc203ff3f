"""Depthwise separable convolution as algebra: what it can say, what it costs, and how to run it fast.

A convolution layer has dense weights (C_out, C_in, *k). A depthwise separable one factors them:

- order "dw-pw": a depthwise kernel (C_in*T, 1, *k), channel ``c*T + t``, then a pointwise one
  (C_out, C_in*T); as MobileNet writes it,
- order "pw-dw": a pointwise kernel (C_out*T, C_in), then a depthwise one (C_out, T, *k), a grouped
  convolution from C_out*T to C_out channels.

T, the depth multiplier, is the rank. Spatial axes may be one, two or three (or more, in the algebra).
Everything here is NumPy; only `FusedConv` and `depthwise_separable` run in the compiled core.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import cost
from .allocate import Choice, allocate
from .convert import convert
from .decomposition import DecompositionError, allocate_ranks, decompose
from .equalise import equalised
from .fit import fit
from .forms import canonical, compose, degrees_of_freedom, khatri_rao, slice_spectrum
from .layer import ConvLayer, Replacement
from .moments import Moments
from .network import Network, Progress
from .records import Conversion, ConversionReport, ConvertedLayer, Option
from .witness import Witness, witness

if TYPE_CHECKING:
    from .fused import FusedConv as FusedConv
    from .fused import depthwise_separable as depthwise_separable

# Names whose module needs the compiled core, loaded on first use.
_LAZY = {"FusedConv": "fused", "depthwise_separable": "fused"}

__all__ = [
    "Choice",
    "ConvLayer",
    "Conversion",
    "ConversionReport",
    "ConvertedLayer",
    "DecompositionError",
    "FusedConv",
    "Moments",
    "Network",
    "Option",
    "Progress",
    "Replacement",
    "Witness",
    "allocate",
    "allocate_ranks",
    "canonical",
    "compose",
    "convert",
    "cost",
    "decompose",
    "degrees_of_freedom",
    "depthwise_separable",
    "equalised",
    "fit",
    "khatri_rao",
    "slice_spectrum",
    "witness",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
