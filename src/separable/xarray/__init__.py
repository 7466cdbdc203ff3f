"""Filters of labelled arrays: dimensions by name, widths in the units of the coordinates.

``import separable.xarray`` gives every `xarray.DataArray` the accessor ``.separable``. Arrays of Dask stay
lazy.
"""

from .._base.lazy import attach
from . import accessor

__getattr__, __dir__, __all__ = attach(__name__, __file__)[:3]
accessor.register()
