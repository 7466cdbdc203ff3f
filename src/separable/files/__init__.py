"""Images and volumes in files: .npy, PNG, JPEG, TIFF (stacks too), NIfTI, NRRD, MetaImage, DICOM series.

``read`` returns an `Image`: samples, what each axis means, voxel size, and what its format needs to
write it again. ``write`` stores one, in the same format with everything that was carried over
(NIfTI header and affine, TIFF resolution and geo tags, colour profile), or in another one. A target
is written beside its place and renamed into it, so it is never half-written.
"""

from .._base.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
