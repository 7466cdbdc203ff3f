"""The engine: a whole network from an ONNX file as one native program, in float32 on the CPU.

Every name is loaded on first use, and onnx with the first of them (``pip install 'separable[onnx]'``).
"""

from functools import partial

from .._base.extras import extra
from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, partial(extra, "onnx"))
