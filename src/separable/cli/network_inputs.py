"""What ``separable run`` gives to a network: arrays from files, by the names of its inputs, or pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from .._base.types import Array
from ..files.formats import npy
from ..files.guard import check_readable
from .calibration_inputs import PICTURES, PictureSlot, scaling_of

if TYPE_CHECKING:
    from ..engine.graph.ir import TensorType

Declared = Mapping[str, "TensorType"]


@dataclass(frozen=True)
class GivenFiles:
    """What was typed: files, or NAME=FILE, and how pictures are normalised."""

    words: tuple[str, ...]
    mean: str | None = None
    std: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(_name_and_path(word)[1] for word in self.words)

    def calls(
        self, model: Path, declared: Declared, said: Mapping[str, tuple[int, ...]] | None = None
    ) -> list[dict[str, Array]]:
        """Return the inputs of each call: one, or as many as a fixed batch asks for.

        Parameters
        ----------
        model : Path
            For messages.
        declared : mapping of str to TensorType
            The inputs of the network.
        said : mapping of str to tuple of int, optional
            Their shapes, where --shape says them: the size that pictures are brought to.

        Raises
        ------
        FileError
            If a file cannot be read.
        ValueError
            If the files are not the inputs of the network.
        """
        pictures = [path for path in self.paths if path.suffix.lower() in PICTURES]
        normalised = [name for name in ("mean", "std") if getattr(self, name) is not None]
        if not pictures:
            if normalised:
                raise ValueError(f"`--{normalised[0]}` goes with pictures; arrays are taken as they are.")
            arrays = self._arrays(declared)
            return list(
                _batches({name: _fitted(arrays[name], declared[name]) for name in declared}, declared)
            )
        if len(pictures) < len(self.words):
            raise ValueError("pictures and arrays cannot be mixed; pass one or the other.")
        if len(normalised) < 2:
            raise ValueError(
                f"`{pictures[0]}` is a picture; pass --mean and --std as the model was trained, such as "
                "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225; for values from 0 to 1: --mean 0 --std 1."
            )
        return self._pictures(model, declared, said or {}, pictures)

    def _pictures(
        self,
        model: Path,
        declared: Declared,
        said: Mapping[str, tuple[int, ...]],
        paths: Sequence[Path],
    ) -> list[dict[str, Array]]:
        shapes: dict[str, tuple[int | None, ...]] = {
            name: tuple(length if isinstance(length, int) else None for length in kind.shape)
            for name, kind in declared.items()
        }
        shapes |= said
        slot = PictureSlot.in_shapes(str(model), shapes)
        scaling = scaling_of(self.mean, self.std, slot.channels)
        inputs = [slot.input_of(path, scaling) for path in paths]
        for path, one in zip(paths, inputs, strict=True):
            if one.shape != inputs[0].shape:
                raise ValueError(
                    f"`{paths[0]}` and `{path}` are of different sizes, and the model takes any; pass "
                    "--shape to say which."
                )
        (name,) = declared
        return list(_batches({name: np.concatenate(inputs)}, declared))

    def _arrays(self, declared: Declared) -> dict[str, Array]:
        """Return the arrays of all files by the names of the inputs."""
        found: dict[str, Array] = {}
        lone: list[Array] = []
        for word in self.words:
            name, path = _name_and_path(word)
            check_readable(path)
            if path.suffix == ".npz":
                arrays = npy.read_archive(path)
                if name and len(arrays) == 1:
                    arrays = {name: next(iter(arrays.values()))}
                elif len(arrays) == 1 and len(declared) == 1:
                    arrays = {next(iter(declared)): next(iter(arrays.values()))}
            elif path.suffix == ".npy":
                arrays = {name: np.asarray(npy.read(path).data)}
            else:
                raise files.FileError(f"`{path}`: expected .npy, .npz, PNG or JPEG.")
            if "" in arrays:
                lone.append(arrays.pop(""))
            _add(found, arrays)
        if lone and len(declared) == 1 and not found and len(lone) == 1:
            found = {next(iter(declared)): lone[0]}
        elif lone:
            raise ValueError(
                f"the network has the inputs {_quoted(declared)}; name each file, such as "
                f"{next(iter(declared), 'x')}=x.npy."
            )
        if set(found) != set(declared):
            raise ValueError(f"the files have {_quoted(found)}, and the network takes {_quoted(declared)}.")
        return found


def _name_and_path(word: str) -> tuple[str, Path]:
    name, equals, path = word.partition("=")
    return ("", Path(word)) if not equals or Path(word).exists() else (name, Path(path))


def _add(found: dict[str, Array], arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if name in found:
            raise ValueError(f"input `{name}` is given twice.")
        found[name] = array


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _fitted(array: Array, kind: TensorType) -> Array:
    """Return an array in the dtype of an input, one sample as a batch of one."""
    if array.ndim == len(kind.shape) - 1 and (isinstance(kind.shape[0], str) or kind.shape[0] == 1):
        array = array[np.newaxis]
    if array.dtype == kind.dtype or not np.can_cast(array.dtype, kind.dtype, casting="same_kind"):
        return array  # the network says what it takes
    return array.astype(kind.dtype)


def _batches(arrays: dict[str, Array], declared: Declared) -> Iterator[dict[str, Array]]:
    """Cut arrays of several times as many samples as the network takes at a time."""
    fixed = {kind.shape[0] for kind in declared.values() if kind.shape}
    lengths = {len(array) for array in arrays.values() if array.ndim}
    if len(fixed) == 1 and len(lengths) == 1:
        size, length = fixed.pop(), lengths.pop()
        if isinstance(size, int) and size and length > size and length % size == 0:
            for start in range(0, length, size):
                yield {name: array[start : start + size] for name, array in arrays.items()}
            return
    yield arrays
