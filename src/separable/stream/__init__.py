"""Filters of arrays larger than memory: slab by slab, with the bits of the whole, resumed where they stopped.

`plan` says what a filter reads, writes and takes in memory; `filter` runs it, `pyramid` makes smaller levels
too. Sources and targets are arrays of any library with a shape, a dtype and slicing, or paths: .npy, .zarr,
.h5, .nii, .nii.gz, .tif, .nrrd, .mha, a folder of DICOM.
"""

from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)[:3]
