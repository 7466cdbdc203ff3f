"""Lengths of a model's inputs: which are open, what each is called, and what a user says that they are.

A length is open where the model has no number above 0 for it. It goes by the name that the model has for it,
such as "batch"; one without a name is called after its place, "x.2" for axis 2 of input `x`. What one name
stands for is the same wherever the name stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from onnx.onnx_ml_pb2 import GraphProto, ValueInfoProto

from ...conv.algebra.geometry import whole

__all__ = [
    "Hints",
    "OpenShape",
    "declared_shape",
    "input_shapes",
    "name_of_length",
    "name_open_lengths",
    "open_lengths",
]

# Lengths of the axes: a number, or the name of an open length.
OpenShape: TypeAlias = tuple[int | str, ...]

Hints: TypeAlias = str | Sequence[int] | Sequence[str] | Mapping[str, int | Sequence[int]]

# What exporters write for a length that has no name: two of them need not be alike.
_NAMELESS: Final = frozenset({"", "?", "-1", "None"})

_LENGTH: Final = re.compile(r"(?:(?P<name>.*)[=:])?\s*(?P<number>-?\d+)")


# -- what a model declares ---------------------------------------------------------------------------


def declared_shape(info: ValueInfoProto) -> OpenShape | None:
    """Return the lengths of a declared tensor, each a number or the name of an open length.

    Parameters
    ----------
    info : ValueInfoProto

    Returns
    -------
    tuple of int or str, or None
        None where the model does not say how many axes there are.
    """
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(
        dim.dim_value
        if dim.HasField("dim_value") and dim.dim_value > 0
        else name_of_length(info.name, axis, dim.dim_param)
        for axis, dim in enumerate(kind.shape.dim)
    )


def name_of_length(tensor: str, axis: int, given: str) -> str:
    """Return what an open length is called: as in the model, or after its place where it has no name."""
    return f"{tensor}.{axis}" if given in _NAMELESS else given


def open_lengths(inputs: Iterable[ValueInfoProto]) -> dict[str, tuple[str, int]]:
    """Return the open lengths of a model, and the input and the axis where each stands first.

    Parameters
    ----------
    inputs : iterable of ValueInfoProto

    Returns
    -------
    dict of str to (str, int)
    """
    places: dict[str, tuple[str, int]] = {}
    for info in inputs:
        for axis, length in enumerate(declared_shape(info) or ()):
            if isinstance(length, str):
                places.setdefault(length, (info.name, axis))
    return places


def name_open_lengths(graph: GraphProto) -> None:
    """Give a name to each length that a graph declares as 0 or less: exporters mean that it is open.

    Parameters
    ----------
    graph : GraphProto
        It is changed.
    """
    for info in (*graph.input, *graph.output, *graph.value_info):
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.dim_param = name_of_length(info.name, axis, "")


# -- what a user says --------------------------------------------------------------------------------


def input_shapes(
    inputs: Sequence[ValueInfoProto], hints: Hints | None = None, *, batch: int | None = 1
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all inputs, from what the model declares and a user says.

    Parameters
    ----------
    inputs : sequence of ValueInfoProto
        What a caller of the model has to give.
    hints : str, sequence, or mapping, optional
        What is open: lengths by the model's own names, "batch=1,height=48", or whole shapes of inputs,
        "x:1,3,48,320"; several such texts; a mapping of either; one shape where there is one input.
    batch : int or None, optional
        What the first axis of an input is where nothing says so. None: it has to be said.

    Returns
    -------
    dict of str to tuple of int

    Raises
    ------
    TypeError, ValueError
        If a hint is no length, names nothing that is open, or contradicts the model or another hint; if
        lengths stay open: all of them are named.
    """
    declared = {info.name: declared_shape(info) for info in inputs}
    known = _SaidLengths(declared)
    for name, numbers in _items(hints):
        known.add(name, numbers)
    if batch is not None:
        for shape in declared.values():
            for length in (shape or ())[:1]:
                if isinstance(length, str):
                    known.lengths.setdefault(length, (batch, ""))
        known.add_states()
    shapes = {name: known.shape(name) for name in declared}
    _check_none_is_open(declared, shapes)
    return {name: tuple(n for n in shape or () if isinstance(n, int)) for name, shape in shapes.items()}


class _SaidLengths:
    """Lengths as far as they have been said, and by what."""

    def __init__(self, declared: Mapping[str, OpenShape | None]) -> None:
        self._declared = declared
        lengths = [length for shape in declared.values() for length in shape or ()]
        self._names = list(dict.fromkeys(length for length in lengths if isinstance(length, str)))
        self._whole: dict[str, tuple[int, ...]] = {}  # shapes of inputs that declare none
        self.lengths: dict[str, tuple[int, str]] = {}

    def add(self, name: str, numbers: int | Sequence[int]) -> None:
        """Take in a length, or the shape of an input; "" is the only input."""
        if not name and len(self._declared) == 1:
            name = next(iter(self._declared))
        elif not name:
            raise ValueError(f"`shapes` is one shape, but the model has inputs {_listed(self._declared)}.")
        if isinstance(numbers, int) and name in self._names:
            self._set(name, whole(numbers, f"shapes[{name!r}]"), f"`{name}={numbers}`")
        elif name in self._declared:
            self._add_shape(name, (numbers,) if isinstance(numbers, int) else numbers)
        else:
            said = f" and open lengths {_listed(self._names)}" if self._names else ""
            raise ValueError(
                f"`shapes` names {name!r}; the model has inputs {_listed(self._declared)}{said}."
            )

    def _add_shape(self, name: str, given: Sequence[int]) -> None:
        shape = tuple(whole(n, f"shapes[{name!r}][{axis}]") for axis, n in enumerate(given))
        declared = self._declared[name]
        if declared is None:
            self._whole[name] = shape
            return
        if len(declared) != len(shape) or any(
            isinstance(want, int) and want != got for want, got in zip(declared, shape, strict=True)
        ):
            raise ValueError(f"`shapes` gives input `{name}` {shape}; the model takes {_shown(declared)}.")
        for length, number in zip(declared, shape, strict=True):
            if isinstance(length, str):
                self._set(length, number, f"input `{name}`, {shape}")

    def _set(self, name: str, number: int, by: str) -> None:
        before, said = self.lengths.setdefault(name, (number, by))
        if before != number:
            raise ValueError(
                f"`shapes` contradicts itself: length {name!r} is {before} by {said} and {number} by {by}; "
                "one name is one length, in all inputs."
            )

    def add_states(self) -> None:
        """Let recurrent state, (layers, batch, width), have as many samples as the other inputs.

        That is: the second length, where it is open without a name and the only one that is not known.
        """
        firsts = [shape[0] for shape in self._declared.values() if shape]
        samples = [
            self.lengths[first][0] for first in firsts if isinstance(first, str) and first in self.lengths
        ]
        for name, shape in self._declared.items():
            known = [isinstance(n, int) or n in self.lengths for n in shape or ()]
            if samples and known == [True, False, True] and shape is not None and shape[1] == f"{name}.1":
                self._set(shape[1], samples[0], "the batch")

    def shape(self, name: str) -> OpenShape | None:
        """Return the shape of an input as far as it is known."""
        declared = self._declared[name]
        if declared is None:
            return self._whole.get(name)
        return tuple(self.lengths.get(n, (n, ""))[0] if isinstance(n, str) else n for n in declared)


def _check_none_is_open(
    declared: Mapping[str, OpenShape | None], shapes: Mapping[str, OpenShape | None]
) -> None:
    missing = {
        name: shape
        for name, shape in shapes.items()
        if shape is None or any(isinstance(length, str) for length in shape)
    }
    if not missing:
        return
    said = "; ".join(
        f"input `{name}` has " + ("no shape" if shape is None else f"open lengths, {_shown(declared[name])}")
        for name, shape in missing.items()
    )
    names = [length for shape in missing.values() for length in shape or () if isinstance(length, str)]
    examples = [",".join(f"{name}=224" for name in dict.fromkeys(names))] if names else []
    name, shape = next(iter(missing.items()))
    lengths = ("1", "3", "224", "224") if shape is None else shape
    examples.append(f"{name}={','.join('224' if n in names else str(n) for n in lengths)}")
    choice = ", or ".join(f"shapes={example!r}" for example in examples)
    raise ValueError(f"{said}; say which they are: {choice}.")


def _shown(shape: OpenShape | None) -> str:
    lengths = [str(length) for length in shape or ()]
    return f"({', '.join(lengths)}{',' if len(lengths) == 1 else ''})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _items(hints: Hints | None) -> Iterator[tuple[str, int | Sequence[int]]]:
    """Yield each length, or shape, that is said, with its name; "" where it has none."""
    if hints is None:
        return
    if isinstance(hints, str):
        yield from _parsed([hints])
    elif isinstance(hints, Mapping):
        for name, numbers in hints.items():
            if isinstance(numbers, Iterable) and not isinstance(numbers, (str, bytes)):
                yield name, tuple(numbers)
            else:
                yield name, whole(numbers, f"shapes[{name!r}]")
    elif isinstance(hints, bytes) or not isinstance(hints, Iterable):
        raise TypeError(f"`shapes={hints!r}` is no shape; expected one such as (1, 3, 224, 224).")
    else:
        given: tuple[Any, ...] = tuple(hints)
        texts = [text for text in given if isinstance(text, str)]
        if texts and len(texts) == len(given):
            yield from _parsed(texts)
        else:
            yield "", given


def _parsed(texts: Iterable[str]) -> Iterator[tuple[str, int | Sequence[int]]]:
    """Yield what texts such as "batch=1,height=48" and "x:1,3,48,320" say; a bare number goes on a shape."""
    said: dict[str, list[int]] = {}
    for text in texts:
        name: str | None = None
        for part in text.split(","):
            found = _LENGTH.fullmatch(part.strip())
            if found is None:
                raise ValueError(
                    f"`shapes={text!r}`: {part.strip()!r} is no length; expected such as "
                    "'batch=1,height=48', or 'x:1,3,48,320'."
                )
            if name is None or found["name"] is not None:
                name = (found["name"] or "").strip()
                if name in said:
                    raise ValueError(f"`shapes={text!r}` says {name or 'a shape'!r} twice; say it once.")
                said[name] = []
            said[name].append(int(found["number"]))
    for name, numbers in said.items():
        yield name, numbers[0] if name and len(numbers) == 1 else numbers
