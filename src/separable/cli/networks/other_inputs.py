"""Inputs of a network beside the data, such as recurrent state: given by name, or else zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import files
from ..._base.types import Array
from ..._base.words.quantities import by
from ...files.formats import npy
from ...files.guard import check_readable

__all__ = ["Declared", "OtherInputs", "input_for"]

# Of each input its lengths, of which those that are no numbers are open and go by name, and its dtype.
Declared = Mapping[str, tuple[Sequence[int | str], np.dtype[Any]]]


@dataclass(frozen=True)
class OtherInputs:
    """What was typed: NAME=FILE or NAME=NUMBER."""

    words: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files."""
        return tuple(Path(text) for _, text in self._pairs() if _number(text) is None)

    def names(self, declared: Declared) -> set[str]:
        """Return the inputs that are given.

        Raises
        ------
        ValueError
            If one is none of the network's, or given twice.
        """
        names: set[str] = set()
        for name, _ in self._pairs():
            if name not in declared:
                raise ValueError(
                    f"`--input {name}`: the network has the inputs {', '.join(map(repr, declared))}."
                )
            if name in names:
                raise ValueError(f"`--input {name}` is given twice.")
            names.add(name)
        return names

    def values(self) -> dict[str, Array]:
        """Return what is given by name: arrays from files, and numbers.

        Raises
        ------
        FileError
            If a file cannot be read.
        ValueError
            If one is given twice.
        """
        pairs = self._pairs()
        for name, _ in pairs:
            if sum(name == other for other, _ in pairs) > 1:
                raise ValueError(f"`--input {name}` is given twice.")
        return {name: _read(name, text) for name, text in pairs}

    def beside(self, declared: Declared, data: Mapping[str, Array]) -> dict[str, Array]:
        """Return the inputs that the data do not hold, in the shapes that go with them.

        A length that the model leaves open is that of the data where they have it by the same name, and else
        the number of samples.

        Parameters
        ----------
        declared : mapping of str to (lengths, dtype)
        data : mapping of str to ndarray
            Of one batch, the samples along the first axis.

        Raises
        ------
        FileError
            If a file cannot be read.
        ValueError
            If an array does not fit.
        """
        lengths: dict[str, int] = {}
        for name, array in data.items():
            for length, number in zip(declared[name][0], array.shape, strict=False):
                if isinstance(length, str):
                    lengths.setdefault(length, number)
        samples = next((len(array) for array in data.values() if array.ndim), 1)
        given = dict(self._pairs())
        others = {}
        for name, (shape, dtype) in declared.items():
            if name in data:
                continue
            wanted = tuple(n if isinstance(n, int) else lengths.get(n, samples) for n in shape)
            others[name] = (
                _value(name, given[name], wanted, dtype) if name in given else np.zeros(wanted, dtype)
            )
        return others

    def said(self, others: Mapping[str, Array]) -> list[str]:
        """Return what each input beside the data holds, in words."""
        given = dict(self._pairs())
        return [
            f"{name}: {given.get(name, 'zeros')}" + (f", {by(array.shape)}" if array.ndim else "")
            for name, array in others.items()
        ]

    def _pairs(self) -> list[tuple[str, str]]:
        pairs = []
        for word in self.words:
            name, equals, text = word.partition("=")
            if not (name and equals and text):
                raise ValueError(f"`--input {word}`: expected NAME=FILE.npy, or NAME=NUMBER.")
            pairs.append((name, text))
        return pairs


def input_for(declared: Declared, array: Array, taken: set[str], what: str) -> str:
    """Return the input that a lone array of samples is for: the only one that it fits.

    Parameters
    ----------
    declared : mapping of str to (lengths, dtype)
    array : ndarray
        Samples along the first axis.
    taken : set of str
        Inputs that are given otherwise.
    what : str
        What the array is, for messages.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it fits none, or several.
    """
    left = [name for name in declared if name not in taken]
    fitting = [
        name
        for name in left
        if len(declared[name][0]) == array.ndim > 0
        and all(
            n == m or isinstance(n, str) for n, m in zip(declared[name][0][1:], array.shape[1:], strict=True)
        )
    ]
    if len(left) == 1:
        return left[0]
    if len(fitting) != 1:
        shown = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, (shape, _) in declared.items())
        raise ValueError(
            f"{what} is an array {array.shape}, and the network takes {shown}: it fits "
            f"{' and '.join(fitting) or 'none'}. Pass a .npz file with the names of the inputs."
        )
    return fitting[0]


def _value(name: str, text: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return what was typed for an input, in its shape."""
    array = _read(name, text)
    try:
        return np.broadcast_to(array, shape).astype(dtype, order="C", casting="same_kind")
    except (ValueError, TypeError):
        raise ValueError(
            f"`--input {name}={text}` holds {array.dtype} {array.shape}; the network takes {dtype} {shape} "
            "here."
        ) from None


def _read(name: str, text: str) -> Array:
    """Return an array from a file, or a number."""
    number = _number(text)
    if number is not None:
        return np.asarray(number)
    path = Path(text)
    check_readable(path)
    if path.suffix != ".npy":
        raise files.FileError(f"`--input {name}={text}`: expected a .npy file, or a number.")
    return np.asarray(npy.read(path).data)


def _number(text: str) -> float | int | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
