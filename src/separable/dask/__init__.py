"""Filters of Dask arrays: one task a chunk, with the bits of the whole array.

The verbs of `separable` with their own arguments, on arrays larger than a machine. Nothing is computed until
the result is.
"""

from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)[:3]
