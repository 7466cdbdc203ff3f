"""Images and volumes in the files people have: .npy, PNG, JPEG, TIFF (stacks too) and NIfTI.

``read`` returns an `Image`: samples, what each axis means, voxel size, and what its format needs to
write it again. ``write`` stores one, in the same format with everything that was carried over
(NIfTI header and affine, TIFF resolution and geo tags, colour profile), or in another one. A target
is written beside its place and renamed into it, so it is never half-written.
"""

from __future__ import annotations

from .filtering import Setting, filtered, result_dtype, weight_sum
from .formats import check_storable, check_target, read, write
from .guard import FileError
from .image import Image
from .target import replacing

__all__ = [
    "FileError",
    "Image",
    "Setting",
    "check_storable",
    "check_target",
    "filtered",
    "read",
    "replacing",
    "result_dtype",
    "weight_sum",
    "write",
]
