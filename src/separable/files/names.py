"""Names for the axes of an unnamed array, from the format of its target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .formats import pillow, tiff
from .image import Image

_COLOURS = {3: "RGB", 4: "RGBA"}


def named_as(image: Image, target: Path, filtered: tuple[int, ...] | None = None) -> Image:
    """Return `image` with the axes that it will have in `target`, so that colours are filtered as colours.

    An array of three axes without names, the last of length 3 or 4, is a picture in colour to PNG, JPEG and
    TIFF. It is one before it is filtered, too: unless `filtered`, the axes that were asked for, has the last.

    Parameters
    ----------
    image : Image
    target : Path
        Where it will be written.
    filtered : tuple of int, optional
        The axes that somebody asked for by number.

    Returns
    -------
    Image
        `image` itself if its file names its axes, or `target` has no names for them.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> image = files.Image(np.zeros((20, 30, 3), np.uint8), "QQQ", (None,) * 3)
    >>> files.named_as(image, Path("photo.png")).spatial  # the last axis is colour there
    (0, 1)
    """
    picture = target.name.lower().endswith((*pillow.SUFFIXES, *tiff.SUFFIXES))
    if not picture or image.axes != "QQQ" or image.data.shape[-1] not in _COLOURS:
        return image
    if filtered is None or 2 not in filtered:
        return replace(image, axes="YXS", colour=_COLOURS[image.data.shape[-1]])
    if target.name.lower().endswith(tiff.SUFFIXES):
        return replace(image, axes="ZYX")  # a stack, which the reader of the result filters as one
    return image
