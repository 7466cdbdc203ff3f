"""Calibration inputs, however they come: arrays, dicts of them, files, folders; batches by input name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import ValueInfoProto

from ..._base.types import Array
from ...files.formats import npy
from ...files.guard import FileError, check_readable

__all__ = ["BATCH", "CalibrationLike", "OnnxCalibration"]

BATCH: Final = 16

CalibrationLike: TypeAlias = str | os.PathLike[str] | Any
Batch: TypeAlias = dict[str, Array]

_ACCEPTED: Final = (
    "an array, a mapping of arrays by input name, a .npz or .npy file, a folder of .npy files, or an "
    "iterable of batches (arrays or mappings)"
)


class OnnxCalibration:
    """Batches of inputs for a model, as often as they are asked for.

    Parameters
    ----------
    data : array_like, mapping of str to array_like, path-like, or iterable of arrays or mappings
        Arrays hold one sample in each entry of axis 0; they are cut into batches. An iterable gives batches
        as the model takes them; an iterator is read once, and kept.
    inputs : sequence of ValueInfoProto
        The model's inputs.
    batch : int, optional
        Samples of a batch, where the model does not say how many.
    argument : str, optional
        What a caller gave the data as: its name in messages.

    Raises
    ------
    FileError
        If a file is no readable array of numbers.
    TypeError, ValueError
        If the data are not inputs of the model.
    """

    def __init__(
        self,
        data: CalibrationLike,
        inputs: Sequence[ValueInfoProto],
        batch: int = BATCH,
        argument: str = "calibration",
    ) -> None:
        self._argument = argument
        if batch < 1:
            raise ValueError(f"`batch_size={batch}` is too small; expected at least 1.")
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._fixed = _fixed_batch(inputs)
        self._size = self._fixed or batch
        self._batches = self._reader(data)
        self.first: Batch = next(iter(self), {})
        if not self.first:
            raise ValueError(f"`{self._argument}` holds no batch of inputs; expected {_ACCEPTED}.")

    @property
    def fixed(self) -> bool:
        """Whether the model says how many samples it takes at a time."""
        return bool(self._fixed)

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self._batches()):
            yield {name: self._checked(name, array, number) for name, array in batch.items()}

    def one(self) -> Batch:
        """Return the smallest batch that the model takes: one sample, unless it says how many."""
        if self._fixed:
            return self.first
        return {name: array[:1] if array.ndim else array for name, array in self.first.items()}

    def repeated(self, count: int) -> Batch:
        """Return the same input `count` times; as many as the model takes, where it says how many."""
        if self._fixed or count == 1:
            return dict(self.one())
        return {
            name: np.concatenate([array] * count) if array.ndim else array
            for name, array in self.one().items()
        }

    def _reader(self, data: CalibrationLike) -> Callable[[], Iterator[Batch]]:
        if isinstance(data, (str, os.PathLike)):
            return self._file_reader(Path(data))
        if isinstance(data, Mapping):
            arrays = self._named({str(name): np.asarray(array) for name, array in data.items()})
            return lambda: self._cut(arrays)
        if hasattr(data, "__array__") or hasattr(data, "__dlpack__"):
            array = np.asarray(data)
            return lambda: self._cut(self._named({"": array}))
        if not isinstance(data, Iterable):
            raise TypeError(f"`{self._argument}` is a {type(data).__name__}; expected {_ACCEPTED}.")
        kept = list(data)
        return lambda: (
            self._named(
                {str(name): np.asarray(array) for name, array in one_batch.items()}
                if isinstance(one_batch, Mapping)
                else {"": np.asarray(one_batch)}
            )
            for one_batch in kept
        )

    def _file_reader(self, path: Path) -> Callable[[], Iterator[Batch]]:
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.suffix == ".npy")
            if not files:
                raise FileError(f"`{self._argument}` is the folder `{path}`, which holds no .npy file.")
            return lambda: self._folder(files)
        check_readable(path)
        if path.suffix == ".npz":
            named = self._named(npy.read_archive(path))
            return lambda: self._cut(named)
        if path.suffix == ".npy":
            array = npy.read(path).data
            return lambda: self._cut(self._named({"": array}))
        raise FileError(f"`{self._argument}` is `{path}`; expected {_ACCEPTED}.")

    def _folder(self, files: Sequence[Path]) -> Iterator[Batch]:
        """Return batches of the samples in a folder; a file holds one sample, or several along axis 0."""
        name = self._only_input("a folder of .npy files")
        rank = _rank(self._inputs[name])
        waiting: list[Array] = []
        for file in files:
            array = np.asarray(npy.read(file).data)
            samples = array[np.newaxis] if rank is not None and array.ndim == rank - 1 else array
            if waiting and (
                samples.shape[1:] != waiting[0].shape[1:] or sum(map(len, waiting)) >= self._size
            ):
                yield from self._cut({name: np.concatenate(waiting)})
                waiting = []
            waiting.append(samples)
        yield from self._cut({name: np.concatenate(waiting)})

    def _only_input(self, what: str) -> str:
        if len(self._inputs) != 1:
            raise ValueError(
                f"`{self._argument}` is {what}, but the model has {len(self._inputs)} inputs; pass a "
                f"mapping or a .npz file with {', '.join(map(repr, self._inputs))}."
            )
        return next(iter(self._inputs))

    def _named(self, arrays: Batch) -> Batch:
        """Give a lone array the name of a lone input, and check that all inputs are there."""
        if len(arrays) == 1 and len(self._inputs) == 1:
            return {self._only_input("an array"): next(iter(arrays.values()))}
        if set(arrays) == {""}:
            self._only_input("an array")
        if set(arrays) != set(self._inputs):
            raise ValueError(
                f"`{self._argument}` has {', '.join(map(repr, arrays))}; the model takes "
                f"{', '.join(map(repr, self._inputs))}. Name each input once."
            )
        return arrays

    def _cut(self, arrays: Batch) -> Iterator[Batch]:
        """Cut arrays into batches; where the model takes so many samples and no fewer, a rest is left out."""
        lengths = {array.shape[0] for array in arrays.values() if array.ndim}
        if len(lengths) != 1:
            raise ValueError(
                f"`{self._argument}` has arrays of {sorted(lengths)} samples along axis 0; expected as many "
                "in each. Pass an iterable of mappings, one for each batch."
            )
        (length,) = lengths
        if self._fixed and length < self._fixed:
            raise ValueError(
                f"`{self._argument}` has {length} samples, and the model takes {self._fixed} at a time; "
                "pass more."
            )
        stop = length - length % self._fixed if self._fixed else length
        for start in range(0, stop, self._size):
            yield {
                name: array[start : start + self._size] if array.ndim else array
                for name, array in arrays.items()
            }

    def _checked(self, name: str, array: Array, number: int) -> Array:
        """Return the array as the model's input takes it."""
        kind = self._inputs[name].type.tensor_type
        expected = _dtype(self._inputs[name])
        lengths = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if kind.HasField("shape") and (
            len(lengths) != array.ndim
            or any(want not in (None, got) for want, got in zip(lengths, array.shape, strict=True))
        ):
            shown = ", ".join("any" if length is None else str(length) for length in lengths)
            raise ValueError(
                f"`{self._argument}` gives `{name}` the shape {array.shape}; the model takes ({shown})."
            )
        if not np.can_cast(array.dtype, expected, casting="same_kind"):
            raise TypeError(
                f"`{self._argument}` gives `{name}` as {array.dtype}, and the model takes {expected}; scale "
                f"the values as the model expects them and pass array.astype({expected.name!r})."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"`{self._argument}` gives `{name}` NaN or infinity, in batch {number}.")
        return np.ascontiguousarray(array, dtype=expected)


def _fixed_batch(inputs: Sequence[ValueInfoProto]) -> int:
    """Return how many samples the model takes at a time; 0 if any number will do."""
    firsts = [entry.type.tensor_type.shape.dim[0] for entry in inputs if entry.type.tensor_type.shape.dim]
    return next((entry.dim_value for entry in firsts if entry.HasField("dim_value")), 0)


def _rank(given: ValueInfoProto) -> int | None:
    kind = given.type.tensor_type
    return len(kind.shape.dim) if kind.HasField("shape") else None


def _dtype(given: ValueInfoProto) -> np.dtype[Any]:
    element = given.type.tensor_type.elem_type
    if not element:
        raise ValueError(
            f"the model's input `{given.name}` is no tensor of numbers; it cannot be calibrated."
        )
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
