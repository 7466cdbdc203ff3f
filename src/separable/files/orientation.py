"""Where a volume lies: affines of NIfTI, and origin and directions in the words of DICOM, NRRD and MetaImage.

An affine takes indices along x, y and z to millimetres towards right, front and top (RAS). DICOM, ITK and
most NRRD files count towards left and back (LPS).
"""

from __future__ import annotations

import numpy as np

from .._base.types import Array, FloatArray
from .image import Image

_LPS = np.diag([-1.0, -1.0, 1.0])  # from RAS to LPS, and back


def affine_of(origin: Array, columns: Array, signs: Array = _LPS) -> FloatArray | None:
    """Return the affine of a volume; None where its numbers make none.

    Parameters
    ----------
    origin : (3,) array
        Millimetres of the first sample.
    columns : (3, 3) array
        Millimetres from a sample to the next one along x, along y and along z: each a column.
    signs : (3, 3) array, optional
        From the axes of these to RAS; they are LPS by default.
    """
    affine = np.eye(4)
    affine[:3, :3] = signs @ columns
    affine[:3, 3] = signs @ origin
    usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0
    return affine if usable else None


def lps_of(affine: Array) -> tuple[FloatArray, FloatArray]:
    """Return origin and columns, as `affine_of` takes them, in LPS."""
    return _LPS @ affine[:3, 3], _LPS @ affine[:3, :3]


def lengths_of(columns: Array) -> tuple[float, ...]:
    """Return the distance of neighbouring samples along each axis."""
    return tuple(float(step) for step in np.sqrt((np.asarray(columns) ** 2).sum(axis=0)))


def axes_placed(image: Image) -> FloatArray | None:
    """Return the affine of an image that has all three axes of space; None where that is not known."""
    return image.affine if image.affine is not None and {*"XYZ"} <= {*image.axes} else None
