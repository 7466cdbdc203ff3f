"""The layers, and the operator that they run on."""

from ..._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
