"""What ``separable separate`` calibrates on: arrays in files, or a folder of pictures made into inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from .. import files
from .._base.extras import extra
from .._base.types import Array
from ..files.guard import reading
from .kernel_options import numbers

_PICTURES: Final = (".png", ".jpg", ".jpeg")
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
        slot = _Slot.of(model)
        mean, std = self._scaling(slot.channels)
        inputs = [
            ((slot.fitted(picture) - mean) / std).transpose(2, 0, 1)[np.newaxis].astype(np.float32)
            for picture in pictures
        ]
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
        return [file for file in inside if file.suffix.lower() in _PICTURES and file.name[0] != "."]

    def _scaling(self, channels: int) -> tuple[Array, Array]:
        mean, std = (
            np.array(numbers(option, text or "", channels), np.float32)
            for option, text in (("--mean", self.mean), ("--std", self.std))
        )
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError(f"`--mean {self.mean} --std {self.std}`: expected numbers, --std above 0.")
        return mean, std


@dataclass(frozen=True)
class _Slot:
    """The input of a model that takes pictures: one array (N, channels, height, width) of floats.

    Height and width are None where the model leaves them open.
    """

    channels: int
    height: int | None
    width: int | None

    @classmethod
    def of(cls, model: Path) -> _Slot:
        """Return the input of a model that takes pictures.

        Raises
        ------
        FileError
            If the model takes anything else.
        """
        with extra("onnx"):
            from ..onnx.model.files import read_model
            from ..onnx.model.graph import GraphIndex
        inputs = GraphIndex(read_model(model)).given()
        lengths = (
            [entry.dim_value or None for entry in inputs[0].type.tensor_type.shape.dim] if inputs else []
        )
        if len(inputs) == 1 and len(lengths) == 4 and lengths[1] in (1, 3):
            return cls(lengths[1], lengths[2], lengths[3])
        shown = ", ".join(
            f"{entry.name} ({', '.join(str(n.dim_value or '?') for n in entry.type.tensor_type.shape.dim)})"
            for entry in inputs
        )
        raise files.FileError(
            f"`{model}` takes {shown}, and pictures fit (N, 1 or 3, height, width) alone; "
            "pass arrays: a .npz or .npy file."
        )

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
