"""The PyTorch face: layers, the operator they run on, loaders; models counted, converted, compiled.

Every name is loaded on first use, and torch with the first of them (``pip install 'separable[nn]'``).
"""

from functools import partial

from .._base.extras import extra
from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__, partial(extra, "nn"))
