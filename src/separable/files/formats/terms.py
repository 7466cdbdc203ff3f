"""Separable kernels in files: the terms that `factor` found, and how far they are from the kernel."""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...kernel.value import ErrorBounds, SeparableKernel
from ..guard import DEFLATE_LIMIT, FileError, check_promise, reading
from ..target import replacing

SUFFIXES: Final = (".npz",)

# Kind of the file, and the version of its layout.
_FORMAT: Final = "separable terms 1"
_MAX_BYTES: Final = 1 << 30  # maximum unpacked bytes of all members
_ERRORS: Final = ("l1", "relative_l1", "relative_l2", "spectral")


def write_terms(path: Path, kernel: SeparableKernel) -> None:
    """Write a kernel's terms as .npz, wholly or not at all.

    ``taps0``, ``taps1``, ... hold the taps along each axis, (terms, taps) float64; ``error`` the bounds l1,
    relative_l1, relative_l2 and spectral of `ErrorBounds`; ``noise`` that of the kernel, NaN where it was not
    estimated; ``format`` says what the file is.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> import separable as sp
    >>> terms = Path(folder.name) / "terms.npz"
    >>> files.write_terms(terms, sp.families.sobel())
    >>> np.load(terms)["taps0"]
    array([[1., 2., 1.]])
    >>> folder.cleanup()
    """
    taps: dict[str, Any] = {
        f"taps{axis}": np.array([term[axis] for term in kernel.terms]) for axis in range(kernel.ndim)
    }
    error = np.array([getattr(kernel.error, name) for name in _ERRORS])
    noise = np.float64(math.nan if kernel.noise is None else kernel.noise)
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, format=np.array(_FORMAT), error=error, noise=noise, **taps)


def read_terms(path: Path) -> SeparableKernel:
    """Return the kernel in a file of `write_terms`; nothing is unpickled, and no header is trusted.

    Raises
    ------
    FileError
        If the file is damaged, or holds anything but the terms of one kernel.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> import separable as sp
    >>> kernel = sp.factor(sp.families.disk(5), tol=0.05)
    >>> terms = Path(folder.name) / "terms.npz"
    >>> files.write_terms(terms, kernel)
    >>> same = files.read_terms(terms)
    >>> same == kernel, same.error == kernel.error
    (True, True)
    >>> folder.cleanup()
    """
    with reading(path, "terms .npz"), zipfile.ZipFile(path) as archive:
        members = _members(path, archive)
        if str(members.get("format", "")) != _FORMAT:
            raise FileError(
                f"`{path}` holds no terms; expected a file of `separable factor KERNEL -o terms.npz`."
            )
        taps = [members[f"taps{axis}"] for axis in range(sum(name.startswith("taps") for name in members))]
        if not taps or any(line.ndim != 2 or len(line) != len(taps[0]) for line in taps):
            shapes = ", ".join(str(line.shape) for line in taps) or "no taps"
            raise FileError(f"`{path}` holds {shapes}; expected (terms, taps) for each axis.")
        error, noise = members["error"], members["noise"]
        if error.shape != (len(_ERRORS),) or not (error >= 0).all() or noise.shape != () or noise < 0:
            raise FileError(f"`{path}` states no error: {error}, noise {noise}; expected numbers >= 0.")
        return SeparableKernel(
            zip(*taps, strict=True),
            error=ErrorBounds(*map(float, error)),
            noise=None if math.isnan(noise) else float(noise),
        )


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, Array]:
    """Return the arrays of a terms file; members of another name are left unread."""
    known = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if re.fullmatch(r"taps\d|error|noise|format", name):
            known[name] = entry
    if sum(entry.file_size for entry in known.values()) > _MAX_BYTES:
        raise FileError(f"`{path}` holds more than {_MAX_BYTES >> 20} MiB of taps; that is no kernel.")
    return {name: _member(path, archive, entry, name) for name, entry in known.items()}


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Array:
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise FileError(f"`{path}`: `{name}` is of another version of .npy than terms are stored as.")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    expected: Any = np.dtype("<U17") if name == "format" else np.dtype("<f8")
    if dtype != expected or math.prod(shape) * dtype.itemsize > entry.file_size:
        raise FileError(f"`{path}`: `{name}` is {shape} {dtype}, which is not what terms are stored as.")
    check_promise(path, shape, dtype, DEFLATE_LIMIT)
    with archive.open(entry) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array
