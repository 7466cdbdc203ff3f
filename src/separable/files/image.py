"""The value that moves between files and filters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .._base.types import Array
from .guard import FileError

# Letters of spatial axes, including those of an unnamed stack of pages (I, Q), and the names of all axes.
SPACE = "XYZIQ"
_NAMES = {"X": "x", "Y": "y", "Z": "z", "T": "time", "S": "colour", "C": "channel"}


@dataclass(frozen=True)
class Image:
    """Samples and the metadata of their file.

    Attributes
    ----------
    data : ndarray
    axes : str
        One letter per axis: X, Y, Z space; T time; S colour samples; C channels; Q unnamed (space).
    spacing : tuple of (float or None)
        Distance of neighbouring samples in millimetres, per axis; None where the file does not say.
    colour : str
        What the samples of axis S are, in Pillow's words: L, LA, RGB, RGBA, CMYK, or empty if unknown.
    carried : object
        What the format that read the file needs to write it again; opaque to everyone else.
    nodata : float or None
        The sample that means "not known", NaN too; None where the file does not say one.
    notes : tuple of str
        What the reader of the file could not take from it, or had to guess.
    affine : (4, 4) ndarray or None
        From indices along the axes X, Y and Z to millimetres towards right, front and top, as NIfTI has it;
        None where the file does not say where it lies.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.files import Image
    >>> scan = Image(np.zeros((20, 64, 64, 3), np.uint8), "ZYXS", (3.0, 0.8, 0.8, None), colour="RGB")
    >>> scan.spatial, scan.axis_text(0)
    ((0, 1, 2), '0 (z)')
    """

    data: Array
    axes: str
    spacing: tuple[float | None, ...]
    colour: str = ""
    carried: object = None
    nodata: float | None = None
    notes: tuple[str, ...] = ()
    affine: Array | None = None

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes that are space, in the order of the array."""
        return tuple(axis for axis, letter in enumerate(self.axes) if letter in SPACE)

    @property
    def axis_names(self) -> str | None:
        """A letter for each axis, ``?`` for one that its file does not name; None if it names none."""
        names = "".join(letter if letter in _NAMES else "?" for letter in self.axes)
        return names if names.strip("?") else None

    def axis_text(self, axis: int) -> str:
        """Return an axis as people read it: ``0 (y)``."""
        letter = self.axes[axis]
        return f"{axis} ({_NAMES[letter]})" if letter in _NAMES else f"{axis}"

    @property
    def alpha(self) -> bool:
        """Whether the last sample of axis S is opacity that the colours are not multiplied by."""
        return self.colour in ("LA", "RGBA")


def unnamed(data: Array) -> Image:
    """Return an image whose every axis is space, without a voxel size."""
    return Image(data, "Q" * data.ndim, (None,) * data.ndim)


def without_samples(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: str = "",
    spacing: tuple[float | None, ...] = (),
    **known: Any,
) -> Image:
    """Return what a file says beside its samples: an image whose every sample is the same one, of no memory.

    Parameters
    ----------
    shape, dtype
        Of the samples in the file.
    axes, spacing : optional
        As of an `Image`; without them every axis is space of an unknown spacing.
    **known
        The other attributes of an `Image`.
    """
    samples = np.broadcast_to(np.zeros((), dtype), shape)
    return Image(samples, axes or "Q" * len(shape), spacing or (None,) * len(shape), **known)


def check_samples(image: Image, kind: str, path: Path) -> None:
    """Refuse an image without samples or without axes, which no picture and no volume is.

    Raises
    ------
    FileError
    """
    if image.data.ndim == 0:
        raise FileError(f"`{path}`: a {kind} holds no single number without axes; write .npy.")
    if image.data.size == 0:
        raise FileError(
            f"`{path}`: a {kind} holds no empty image ({size_text(image.data.shape)}); write .npy."
        )


def check_dtype(stored: bool, dtype: np.dtype[Any], kind: str, path: Path) -> None:
    """Refuse a dtype that a kind of file does not store, and name one that it does.

    Raises
    ------
    FileError
    """
    if not stored:
        other = "uint8" if dtype == np.bool_ else "float32"
        raise FileError(f"`{path}`: {kind} has no {dtype.name}; pass --dtype {other}.")


def arranged(image: Image, order: str, holds: str) -> Image:
    """Return `image` with its axes in the order of the letters of `order`.

    Parameters
    ----------
    image : Image
    order : str
        The letters the target knows, in its order.
    holds : str
        The target and what it holds, for the error: "`a.png`: a PNG holds one 2-D picture".

    Raises
    ------
    FileError
        If the image has an axis that the target does not know.
    """
    strange = [_NAMES.get(letter, letter) for letter in image.axes if letter not in order]
    if strange or len(set(image.axes)) != len(image.axes):
        kind = f" with a {strange[0]} axis" if strange else ""
        raise FileError(f"{holds}, not {size_text(image.data.shape)} samples{kind}; write .npy instead.")
    places = sorted(range(image.data.ndim), key=lambda axis: order.index(image.axes[axis]))
    return replace(
        image,
        data=np.transpose(image.data, places),
        axes="".join(image.axes[axis] for axis in places),
        spacing=tuple(image.spacing[axis] for axis in places),
    )


def with_z(image: Image) -> Image:
    """Return an image whose unnamed pages are its z."""
    pages = next((letter for letter in "QI" if letter in image.axes and "Z" not in image.axes), "")
    return replace(image, axes=image.axes.replace(pages, "Z")) if pages else image


def size_text(shape: tuple[int, ...]) -> str:
    """Return a shape as people write it: ``512 x 512 x 3``."""
    return " x ".join(map(str, shape))
