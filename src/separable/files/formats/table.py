"""Which module reads and writes a path: chosen by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import target
from ..guard import FileError, check_readable
from ..image import Image
from . import dicom, metaimage, nifti, npy, nrrd, pillow, tiff


class _Format(Protocol):
    def read(self, path: Path) -> Image: ...
    def check(self, image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]: ...
    def write(self, path: Path, image: Image) -> None: ...


_FORMATS: dict[str, _Format] = {
    **dict.fromkeys(npy.SUFFIXES, npy),
    **dict.fromkeys(pillow.SUFFIXES, pillow),
    **dict.fromkeys(tiff.SUFFIXES, tiff),
    **dict.fromkeys(nifti.SUFFIXES, nifti),
    **dict.fromkeys(nrrd.SUFFIXES, nrrd),
    **dict.fromkeys(metaimage.SUFFIXES, metaimage),
    **dict.fromkeys(dicom.SUFFIXES, dicom),
}

# A folder with such a name is no file, rather than a series without images.
_OF_FILES = tuple(suffix for suffix, form in _FORMATS.items() if form is not dicom)


def read(path: Path) -> Image:
    """Return the samples of a file, or of a folder with a DICOM series, and what it says about them.

    Raises
    ------
    FileError
        If the file is missing, damaged, of an unknown format, or holds what is not an image.
    MissingExtraError
        If the package that reads the format is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> image = files.read(path)
    >>> image.data.shape, image.spacing
    ((3, 4), (None, None))
    >>> folder.cleanup()
    """
    if path.is_dir() and not path.name.lower().endswith(_OF_FILES):
        return dicom.read(path)
    form = _format(path)
    check_readable(path)
    return form.read(path)


def check_target(path: Path) -> None:
    """Refuse a target of an unknown format, or one that cannot be written, before any work is done.

    Raises
    ------
    FileError

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> files.check_target(path)
    >>> try:
    ...     files.check_target(Path(folder.name) / "no" / "such" / "folder.npy")
    ... except files.FileError as error:
    ...     print("refused")
    refused
    >>> folder.cleanup()
    """
    _format(path)
    target.check_target(path)


def check_storable(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse a target whose format cannot hold `image` as `dtype`, before any work is done for it.

    Returns
    -------
    tuple of str
        What the file will not hold of what the image's own file says: sentences for the user.

    Raises
    ------
    FileError
        If the format cannot hold the image.
    MissingExtraError
        If the package that writes the format is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> image = files.Image(np.zeros((4, 5)), "YX", (None, None))
    >>> files.check_storable(image, np.dtype("float64"), Path("result.npy"))
    ()
    >>> try:
    ...     files.check_storable(image, np.dtype("float64"), Path("result.png"))
    ... except files.FileError as error:
    ...     print(error)
    `result.png`...
    """
    return _format(path).check(image, dtype, path)


def write(path: Path, image: Image) -> None:
    """Store `image` at `path`, wholly or not at all.

    Raises
    ------
    FileError
        If the format cannot hold the image, or the target cannot be written.
    OSError
        If writing fails half-way, for instance because the disk is full; `path` is then as it was.

    Examples
    --------
    >>> import dataclasses
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> image = files.read(path)
    >>> files.write(path, dataclasses.replace(image, data=2 * image.data))
    >>> float(files.read(path).data[2, 3])
    22.0
    >>> folder.cleanup()
    """
    form = _format(path)
    form.check(image, image.data.dtype, path)
    form.write(path, image)


def has_format(path: Path) -> bool:
    """Whether a name ends with the suffix of a known format.

    Examples
    --------
    >>> from pathlib import Path
    >>> from separable import files
    >>> files.has_format(Path("photo.tif")), files.has_format(Path("notes.txt"))
    (True, False)
    """
    return path.name.lower().endswith(tuple(_FORMATS))


def check_suffix(path: Path) -> None:
    """Refuse a name without the suffix of a known format.

    Raises
    ------
    FileError

    Examples
    --------
    >>> from pathlib import Path
    >>> from separable import files
    >>> files.check_suffix(Path("brain.nii.gz"))
    >>> try:
    ...     files.check_suffix(Path("brain.xyz"))
    ... except files.FileError as error:
    ...     print(error)
    `brain.xyz`...
    """
    _format(path)


def _format(path: Path) -> _Format:
    name = path.name.lower()
    for suffix, form in _FORMATS.items():
        if name.endswith(suffix):
            return form
    raise FileError(f"`{path}` has no suffix of a known format; expected one of {' '.join(_FORMATS)}.")
