"""What ``separable run`` gives to a network: arrays from files, by the names of its inputs, or pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ... import files
from ..._base.types import Array
from ...files.formats import npy
from ...files.guard import check_readable
from .other_inputs import Declared, OtherInputs, input_for
from .pictures import PICTURES, PictureSlot, scaling_of

if TYPE_CHECKING:
    from ...engine.graph.ir import TensorType

Typed = Mapping[str, "TensorType"]


class ReadCalls(NamedTuple):
    """The inputs of each call, and what those hold that no file was given for, in words."""

    feeds: list[dict[str, Array]]
    said: list[str]


@dataclass(frozen=True)
class GivenFiles:
    """What was typed: files, or NAME=FILE, how pictures are normalised, and what goes beside them."""

    words: tuple[str, ...]
    mean: str | None = None
    std: str | None = None
    others: OtherInputs = field(default_factory=OtherInputs)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return (*(_name_and_path(word)[1] for word in self.words), *self.others.paths)

    def calls(
        self, model: Path, declared: Typed, said: Mapping[str, tuple[int, ...]] | None = None
    ) -> ReadCalls:
        """Return the inputs of each call: one, or as many as a fixed batch asks for.

        Inputs that are not given are what --input says, and else zeros of the shape that goes with the
        others.

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
        shapes = {name: ((said or {}).get(name, kind.shape), kind.dtype) for name, kind in declared.items()}
        taken = self.others.names(shapes)
        files_given = [_name_and_path(word)[1] for word in self.words]
        pictures = [path for path in files_given if path.suffix.lower() in PICTURES]
        normalised = [name for name in ("mean", "std") if getattr(self, name) is not None]
        if not pictures and normalised:
            raise ValueError(f"`--{normalised[0]}` goes with pictures; arrays are taken as they are.")
        if pictures and len(pictures) < len(files_given):
            raise ValueError("pictures and arrays cannot be mixed; pass one or the other.")
        if pictures:
            left = {name: kind for name, kind in shapes.items() if name not in taken}
            data = self._pictures(model, left, pictures)
        else:
            arrays = self._arrays(shapes, taken)
            data = {name: _fitted(arrays[name], declared[name]) for name in declared if name in arrays}
        batches = list(_batches(data, declared))
        others = [self.others.beside(shapes, batch) for batch in batches]
        calls = [
            {name: (beside if name in beside else batch)[name] for name in declared}
            for batch, beside in zip(batches, others, strict=True)
        ]
        return ReadCalls(calls, self.others.said(others[0]))

    def _pictures(self, model: Path, shapes: Declared, paths: Sequence[Path]) -> dict[str, Array]:
        slot = PictureSlot.of(str(model), shapes)
        scaling = scaling_of(slot, self.mean, self.std, f"`{paths[0]}` is a picture")
        inputs = [slot.input_of(path, scaling) for path in paths]
        for path, one in zip(paths, inputs, strict=True):
            if one.shape != inputs[0].shape:
                raise ValueError(
                    f"`{paths[0]}` and `{path}` are of different sizes, and the model takes any; pass "
                    "--shape to say which."
                )
        return {slot.name: np.concatenate(inputs)}

    def _arrays(self, declared: Declared, taken: set[str]) -> dict[str, Array]:
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
        for array in lone:
            if len(lone) > 1:
                raise ValueError(
                    f"the network has the inputs {_quoted(declared)}; name each file, such as "
                    f"{next(iter(declared), 'x')}=x.npy."
                )
            _add(found, {_input_of(declared, array, taken | set(found)): array})
        if not found or set(found) - set(declared) or set(found) & taken:
            given = {**found, **dict.fromkeys(taken)}
            raise ValueError(f"the files have {_quoted(given)}, and the network takes {_quoted(declared)}.")
        return found


def _input_of(declared: Declared, array: Array, taken: set[str]) -> str:
    """Return the input that an array is for: of samples, or one sample."""
    for given in (array[np.newaxis], array):
        with suppress(ValueError):
            return input_for(declared, given, taken, "IN")
    return input_for(declared, array, taken, "IN")


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


def _batches(arrays: dict[str, Array], declared: Typed) -> Iterator[dict[str, Array]]:
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
