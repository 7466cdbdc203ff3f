"""Pictures as inputs of a network: where its channels lie, which size it takes, and how they are scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ... import files
from ..._base.extras import extra
from ..._base.types import Array
from ...files.guard import reading
from ..kernel_options import numbers

__all__ = ["PICTURES", "PictureSlot", "scaling_of"]

PICTURES: Final = (".png", ".jpg", ".jpeg")

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by number of channels
_IMAGENET: Final = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"

OpenLengths = Sequence[int | str | None]


@dataclass(frozen=True)
class PictureSlot:
    """The input of a model that takes pictures: four axes, the channels second or last.

    Attributes
    ----------
    name : str
    channels : int
    height, width : int or None
        None where the model leaves them open.
    last : bool
        Whether the channels are the last axis (NHWC); else they are the second (NCHW).
    dtype : dtype
        Whole numbers take pictures as they are, 0 to 255; floating-point ones as they are normalised.
    """

    name: str
    channels: int
    height: int | None
    width: int | None
    last: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, model: str, inputs: Mapping[str, tuple[OpenLengths, np.dtype[Any]]]) -> PictureSlot:
        """Return the input of a model that takes pictures; of several the only one that can.

        Parameters
        ----------
        model : str
            For messages.
        inputs : mapping of str to (lengths, dtype)
            Of all inputs; a length that is no number is open.

        Raises
        ------
        FileError
            If none can, or several.
        """
        slots = [slot for name, (lengths, dtype) in inputs.items() if (slot := _slot(name, lengths, dtype))]
        if len(slots) == 1:
            return slots[0]
        shown = ", ".join(
            f"{name} ({', '.join(str(n) if isinstance(n, int) else '?' for n in lengths)})"
            for name, (lengths, _) in inputs.items()
        )
        raise files.FileError(
            f"`{model}` takes {shown}, and pictures fit {'one such input' if slots else ''}"
            f"{' of ' if slots else ''}(N, channels, height, width) or (N, height, width, channels) of 1, 3 "
            "or 4 channels; pass arrays: a .npz or .npy file."
        )

    @property
    def normalised(self) -> bool:
        """Whether pictures are brought to numbers around 0."""
        return self.dtype.kind == "f"

    def input_of(self, path: Path, scaling: tuple[Array, Array] | None) -> Array:
        """Return a picture as a batch of one, its channels less the mean and over the deviation."""
        pixels = self.fitted(path)
        if scaling is not None:
            mean, std = scaling
            pixels = (pixels.astype(np.float32) / 255 - mean) / std
        if not self.last:
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels[np.newaxis], self.dtype)

    def fitted(self, path: Path) -> Array:
        """Return a picture as the model takes it, (rows, columns, channels), its values from 0 to 255."""
        with extra("files"):
            from PIL import Image, ImageOps
        with reading(path, "PNG or JPEG"), Image.open(path, formats=("PNG", "JPEG")) as picture:
            if picture.mode.startswith(("I", "F")):
                raise files.FileError(f"`{path}` has more than 8 bits; pass arrays: a .npz or .npy file.")
            upright = ImageOps.exif_transpose(picture).convert(_MODES[self.channels])
        size = (self.width or upright.width, self.height or upright.height)
        shown = ImageOps.fit(upright, size, Image.Resampling.BICUBIC)
        return np.asarray(shown, np.uint8).reshape(*shown.size[::-1], self.channels)


def _slot(name: str, lengths: OpenLengths, dtype: np.dtype[Any]) -> PictureSlot | None:
    """Return an input as one of pictures; channels second where both places would do."""
    if len(lengths) != 4 or dtype.kind not in "fu" or (dtype.kind == "u" and dtype.itemsize > 1):
        return None
    for last, axis in ((False, 1), (True, 3)):
        channels = lengths[axis]
        if isinstance(channels, int) and channels in _MODES:
            height, width = (
                n if isinstance(n, int) else None for n in lengths[1 if last else 2 : 3 if last else 4]
            )
            if (height, width) != (1, 1):
                return PictureSlot(name, channels, height, width, last, dtype)
    return None


def scaling_of(
    slot: PictureSlot, mean: str | None, std: str | None, source: str
) -> tuple[Array, Array] | None:
    """Return mean and standard deviation of each channel, as typed; None where pictures stay as they are.

    Raises
    ------
    ValueError
        If they are none, missing where they are needed, or given where they are not.
    """
    if not slot.normalised:
        if mean is not None or std is not None:
            raise ValueError(
                f"`--{'mean' if mean is not None else 'std'}`: the input `{slot.name}` takes whole numbers, "
                "0 to 255, as pictures hold them; leave it out."
            )
        return None
    if mean is None or std is None:
        raise ValueError(
            f"{source}; pass --mean and --std as the model was trained, such as {_IMAGENET}; for values "
            "from 0 to 1: --mean 0 --std 1."
        )
    means, deviations = (
        np.array(numbers(option, text, slot.channels), np.float32)
        for option, text in (("--mean", mean), ("--std", std))
    )
    if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
        raise ValueError(f"`--mean {mean} --std {std}`: expected numbers, --std above 0.")
    return means, deviations
