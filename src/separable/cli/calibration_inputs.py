"""What ``separable separate`` calibrates on: arrays in files, or pictures made into inputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from .. import files
from .._base.extras import extra
from .._base.types import Array
from ..files.guard import reading
from .kernel_options import numbers

PICTURES: Final = (".png", ".jpg", ".jpeg")
_IMAGENET: Final = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


@dataclass(frozen=True)
class Data:
    """Where the inputs are, and how pictures are normalised, as typed."""

    path: Path
    mean: str | None
    std: str | None
    batch_size: int | None

    def read(self, model: Path) -> Path | Array | list[Array]:
        """Return what `separable.onnx.separate` takes: the path, or inputs made of pictures.

        Raises
        ------
        FileError
            If a picture cannot be read, or the model takes none.
        ValueError
            If --mean and --std do not go with the data.
        """
        pictures = self._pictures()
        given = [name for name in ("mean", "std") if getattr(self, name) is not None]
        if not pictures:
            if given:
                raise ValueError(
                    f"`--{given[0]}` goes with a folder of pictures; arrays are taken as they are."
                )
            return self.path
        if len(given) < 2:
            raise ValueError(
                f"`--calibration {self.path}` holds pictures; pass --mean and --std as the model was "
                f"trained, such as {_IMAGENET}; for values from 0 to 1: --mean 0 --std 1."
            )
        slot = PictureSlot.of(model)
        scaling = scaling_of(self.mean, self.std, slot.channels)
        inputs = [slot.input_of(picture, scaling) for picture in pictures]
        if len({picture.shape for picture in inputs}) > 1:
            return inputs
        return np.concatenate(inputs)

    def _pictures(self) -> list[Path]:
        """Return the pictures in the folder, if it holds them and no arrays."""
        if not self.path.is_dir():
            return []
        inside = sorted(self.path.iterdir())
        if any(file.suffix == ".npy" for file in inside):
            return []
        return [file for file in inside if file.suffix.lower() in PICTURES and file.name[0] != "."]


def scaling_of(mean: str | None, std: str | None, channels: int) -> tuple[Array, Array]:
    """Return mean and standard deviation of each channel, as typed.

    Raises
    ------
    ValueError
        If they are none.
    """
    means, deviations = (
        np.array(numbers(option, text or "", channels), np.float32)
        for option, text in (("--mean", mean), ("--std", std))
    )
    if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
        raise ValueError(f"`--mean {mean} --std {std}`: expected numbers, --std above 0.")
    return means, deviations


@dataclass(frozen=True)
class PictureSlot:
    """The input of a model that takes pictures: one array (N, channels, height, width) of floats.

    Height and width are None where the model leaves them open.
    """

    channels: int
    height: int | None
    width: int | None

    @classmethod
    def of(cls, model: Path) -> PictureSlot:
        """Return the input of a model that takes pictures.

        Raises
        ------
        FileError
            If the model takes anything else.
        """
        with extra("onnx"):
            from ..onnx.model.files import read_model
            from ..onnx.model.graph import GraphIndex
        given = GraphIndex(read_model(model)).given()
        shapes = {
            entry.name: tuple(dim.dim_value or None for dim in entry.type.tensor_type.shape.dim)
            for entry in given
        }
        return cls.in_shapes(str(model), shapes)

    @classmethod
    def in_shapes(cls, model: str, shapes: Mapping[str, Sequence[int | None]]) -> PictureSlot:
        """Return the input of a model that takes pictures, from the shapes of all; None is an open length.

        Raises
        ------
        FileError
            If the model takes anything else.
        """
        if len(shapes) == 1:
            (lengths,) = shapes.values()
            if len(lengths) == 4 and lengths[1] in (1, 3):
                return cls(lengths[1], lengths[2], lengths[3])
        shown = ", ".join(
            f"{name} ({', '.join(str(length or '?') for length in lengths)})"
            for name, lengths in shapes.items()
        )
        raise files.FileError(
            f"`{model}` takes {shown}, and pictures fit (N, 1 or 3, height, width) alone; "
            "pass arrays: a .npz or .npy file."
        )

    def input_of(self, path: Path, scaling: tuple[Array, Array]) -> Array:
        """Return a picture as a batch of one, float32, its channels less the mean and over the deviation."""
        mean, std = scaling
        scaled = (self.fitted(path) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis], np.float32)

    def fitted(self, path: Path) -> Array:
        """Return a picture as the model takes it, (rows, columns, channels), its values from 0 to 1."""
        with extra("files"):
            from PIL import Image, ImageOps
        with reading(path, "PNG or JPEG"), Image.open(path, formats=("PNG", "JPEG")) as picture:
            if picture.mode.startswith(("I", "F")):
                raise files.FileError(f"`{path}` has more than 8 bits; pass arrays: a .npz or .npy file.")
            upright = ImageOps.exif_transpose(picture).convert("RGB" if self.channels == 3 else "L")
        size = (self.width or upright.width, self.height or upright.height)
        shown = ImageOps.fit(upright, size, Image.Resampling.BICUBIC)
        return np.asarray(shown, np.float32).reshape(*shown.size[::-1], self.channels) / 255
