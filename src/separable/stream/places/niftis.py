"""NIfTI volumes: .nii as it lies, along its last axis, and .nii.gz in one go from front to back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...files.formats import nifti
from ...files.guard import FileError
from ...files.image import Image
from .flat import FlatSource, FlatTarget, Layout
from .pipe import PipeSource, PipeTarget
from .place import Order, StreamSource, StreamTarget

PACKED = ".nii.gz"


def nifti_source(path: Path) -> StreamSource:
    """Return the volume of a file, scaled as `separable.files` reads it; FileError where it is damaged."""
    header, samples = nifti.describe(path)
    scaled = None if samples.scale is None else samples.scaled
    layout = Layout(header.data.shape, "F", samples.stored, samples.dtype, samples.offset, scaled)
    if path.name.lower().endswith(PACKED):
        return PipeSource(path, layout, header, nifti.KIND)
    return FlatSource(path, layout, header)


def nifti_target(path: Path, dtype: np.dtype[Any], header: Image) -> StreamTarget:
    """Return the target of a file that is to be, with what `header` says of the source.

    Raises
    ------
    FileError
        A NIfTI file does not hold such a volume; its axes lie in another order, which takes all of it.
    """
    head, stored = nifti.head(header, dtype, path)
    order = lying(nifti.disk_order(header, path), path)
    layout = Layout(header.data.shape, order, stored, dtype)
    if path.name.lower().endswith(PACKED):
        return PipeTarget(path, layout, head)

    def prepare(draft: Path) -> None:
        draft.write_bytes(head)

    return FlatTarget(path, layout, prepare, lambda draft: len(head))


def lying(fastest_first: tuple[int, ...], path: Path) -> Order:
    """Return the order of an array whose axes lie so in a file; FileError where it has neither order."""
    ascending = tuple(range(len(fastest_first)))
    if fastest_first in (ascending, ascending[::-1]):
        return "F" if fastest_first == ascending and len(ascending) > 1 else "C"
    raise FileError(
        f"`{path}` would have the source's axes in the order {fastest_first}, which takes all of it in "
        "memory; leave out `memory`, or write .npy or .zarr."
    )
