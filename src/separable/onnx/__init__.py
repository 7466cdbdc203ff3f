"""The ONNX face: convert and count models in ONNX files, without torch.

Every name is loaded on first use, and onnx and onnxruntime with the first of them (``pip install
'separable[onnx]'``).
"""

from functools import partial

from .._base.extras import extra
from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, partial(extra, "onnx"))
