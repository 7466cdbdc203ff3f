"""What ``separable separate`` reads inputs from: arrays in files, or pictures made into inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import files
from ..._base.extras import extra
from ..._base.types import Array
from ...files.formats import npy
from ...files.guard import check_readable
from .other_inputs import Declared, OtherInputs, input_for
from .pictures import PICTURES, PictureSlot, scaling_of

_BATCH = 16
_PICTURE_AXES = 4


class ReadInputs(NamedTuple):
    """What `separable.onnx.separate` takes, and what it holds beside the data, in words."""

    data: Path | Array | list[Any]
    said: list[str]


@dataclass(frozen=True)
class Data:
    """Where the inputs are, how pictures are normalised, and what goes beside them, as typed."""

    path: Path
    mean: str | None
    std: str | None
    batch_size: int | None
    others: OtherInputs = field(default_factory=OtherInputs)
    option: str = "calibration"
    shapes: tuple[str, ...] = ()

    def read(self, model: Path) -> ReadInputs:
        """Return what `separable.onnx.separate` takes: the path, or batches of what was read.

        Raises
        ------
        FileError
            If a picture cannot be read, or the model takes none.
        ValueError
            If --mean and --std do not go with the data, or --input with the model.
        """
        pictures = self._pictures()
        given = [name for name in ("mean", "std") if getattr(self, name) is not None]
        if not pictures and given:
            raise ValueError(f"`--{given[0]}` goes with a folder of pictures; arrays are taken as they are.")
        if not pictures and not model.is_file():
            return ReadInputs(self.path, [])  # which `separate` says more of
        declared = declared_inputs(model, self.shapes)
        taken = self.others.names(declared)
        if pictures:
            left = {name: kind for name, kind in declared.items() if name not in taken}
            data = self._of_pictures(str(model), left, pictures)
            if len(declared) == 1:
                return ReadInputs(next(iter(data.values())), [])
        elif len(declared) == 1:
            return ReadInputs(self.path, [])
        else:
            data = self._arrays(declared, taken)
            if set(data) == set(declared) and not taken:
                return ReadInputs(self.path, [])
        return self._batches(declared, data)

    def _of_pictures(self, model: str, declared: Declared, pictures: list[Path]) -> dict[str, Any]:
        slot = PictureSlot.of(model, declared)
        scaling = scaling_of(slot, self.mean, self.std, f"`--{self.option} {self.path}` holds pictures")
        inputs = [slot.input_of(picture, scaling) for picture in pictures]
        alike = len({picture.shape for picture in inputs}) == 1
        return {slot.name: np.concatenate(inputs) if alike else inputs}

    def _arrays(self, declared: Declared, taken: set[str]) -> dict[str, Any]:
        """Return the arrays in the file or folder by the inputs that they are for."""
        if self.path.is_dir():
            paths = sorted(entry for entry in self.path.iterdir() if entry.suffix == ".npy")
            if not paths:
                raise files.FileError(
                    f"`--{self.option}` is the folder `{self.path}`, which holds no .npy file."
                )
            arrays = [np.asarray(npy.read(path).data) for path in paths]
            ranks = {len(shape) for shape, _ in declared.values()}
            arrays = [a if a.ndim in ranks and a.ndim + 1 not in ranks else a[np.newaxis] for a in arrays]
            name = input_for(declared, arrays[0], taken, f"`{paths[0]}`")
            return {name: np.concatenate(arrays) if len({a.shape[1:] for a in arrays}) == 1 else arrays}
        check_readable(self.path)
        if self.path.suffix == ".npz":
            named = dict(npy.read_archive(self.path))
            if len(named) > 1 or set(named) <= set(declared):
                return named
            array = next(iter(named.values()))
        elif self.path.suffix == ".npy":
            array = np.asarray(npy.read(self.path).data)
        else:
            raise files.FileError(f"`--{self.option}` is `{self.path}`; expected .npz, .npy, or a folder.")
        return {input_for(declared, array, taken, f"`{self.path}`"): array}

    def _batches(self, declared: Declared, data: dict[str, Any]) -> ReadInputs:
        """Return batches of data with what goes beside them."""
        unknown = [name for name in data if name not in declared]
        if unknown:
            raise ValueError(
                f"`--{self.option}` has {', '.join(map(repr, data))}; the model takes "
                f"{', '.join(map(repr, declared))}."
            )
        name, first = next(iter(data.items()))
        fixed = declared[name][0][0] if declared[name][0] else 0
        size = fixed if isinstance(fixed, int) and fixed else self.batch_size or _BATCH
        if isinstance(first, list):
            cut: list[dict[str, Array]] = [{name: entry} for entry in first]
        else:
            whole = len(first) - len(first) % size if isinstance(fixed, int) and fixed else len(first)
            cut = [
                {key: array[start : start + size] if array.ndim else array for key, array in data.items()}
                for start in range(0, whole, size)
            ]
        batches = [{**batch, **self.others.beside(declared, batch)} for batch in cut]
        beside = {key: array for key, array in (batches or [{}])[0].items() if key not in data}
        return ReadInputs(batches, self.others.said(beside))

    def _pictures(self) -> list[Path]:
        """Return the pictures in the folder, if it holds them and no arrays."""
        if not self.path.is_dir():
            return []
        inside = sorted(self.path.iterdir())
        if any(file.suffix == ".npy" for file in inside):
            return []
        return [file for file in inside if file.suffix.lower() in PICTURES and file.name[0] != "."]


def declared_inputs(model: Path, shapes: Sequence[str] = ()) -> Declared:
    """Return the lengths and the dtype of each input of a model.

    Parameters
    ----------
    model : Path
    shapes : sequence of str, optional
        What --shape says of lengths that the model leaves open, for pictures; the samples' axis stays open.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    with extra("onnx"):
        from onnx import helper

        from ...onnx.model.files import read_model
        from ...onnx.model.graph import GraphIndex
        from ...onnx.model.lengths import declared_shape, input_shapes
    given = GraphIndex(read_model(model)).given()
    said = input_shapes(given, list(shapes)) if shapes else {}
    declared = {}
    for entry in given:
        element = entry.type.tensor_type.elem_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(element)) if element else np.dtype(object)
        lengths = declared_shape(entry) or ()
        if len(lengths) == _PICTURE_AXES:
            lengths = (*lengths[:1], *said.get(entry.name, lengths)[1:])
        declared[entry.name] = (lengths, dtype)
    return declared
