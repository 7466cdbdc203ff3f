"""Depthwise separable convolution as algebra: what it can represent, what it costs, and how to run it fast.

A convolution layer has dense weights (C_out, C_in, *k). A depthwise separable one factors them:

- order "dw-pw": a depthwise kernel (C_in*T, 1, *k), channel ``c*T + t``, then a pointwise one
  (C_out, C_in*T); as MobileNet writes it,
- order "pw-dw": a pointwise kernel (C_out*T, C_in), then a depthwise one (C_out, T, *k), a grouped
  convolution from C_out*T to C_out channels.

T, the depth multiplier, is the rank. Spatial axes may be one, two or three (or more, in the algebra).
Everything here is NumPy; only `FusedConv` and `depthwise_separable` run in the compiled core.
"""

from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
