"""Images and volumes in the files people have: .npy, PNG, JPEG, TIFF (stacks too) and NIfTI.

``read`` returns an `Image`: samples, what each axis means, voxel size, and what its format needs to
write it again. ``write`` stores one, in the same format with everything that was carried over
(NIfTI header and affine, TIFF resolution and geo tags, colour profile), or in another one. A target
is written beside its place and renamed into it, so it is never half-written.
"""

from __future__ import annotations

from .filters import FilterOptions, filtered, result_dtype, weight_sum
from .formats.table import check_storable, check_suffix, check_target, has_format, read, write
from .formats.terms import read_terms, write_terms
from .guard import FileError
from .image import Image
from .names import named_as
from .target import replacing
from .unknown import fitted_mask

__all__ = [
    "FileError",
    "FilterOptions",
    "Image",
    "check_storable",
    "check_suffix",
    "check_target",
    "filtered",
    "fitted_mask",
    "has_format",
    "named_as",
    "read",
    "read_terms",
    "replacing",
    "result_dtype",
    "weight_sum",
    "write",
    "write_terms",
]
