"""Arrays that callers give: checked against what a network declares, and as native steps take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..._base.foreign import read
from ..._base.types import Array
from ..graph.ir import Shape, TensorType

__all__ = ["Targets", "feeds_of", "lengths_of", "shown"]

_FLOAT: Final = np.dtype(np.float32)
_HALF: Final = np.dtype(np.float16)


# -- in ----------------------------------------------------------------------------------------------


def feeds_of(declared: Mapping[str, TensorType], given: Any) -> list[Array]:
    """Return the inputs of a call, in order: C-contiguous, aligned, in the byte order of this machine.

    Parameters
    ----------
    declared : mapping of str to TensorType
    given : array_like, or mapping of str to array_like
        One array where there is one input, or all by name.

    Returns
    -------
    list of ndarray
        Those that are in order as they are, copies of the others. Half precision is turned into float32,
        which holds all of its numbers; nothing else is cast.

    Raises
    ------
    TypeError
        If something is no array, or has another type of elements.
    ValueError
        If an input is missing or unknown. Shapes are looked at by `lengths_of`.
    """
    arrays = _by_name(declared, given)
    return [_in_order(name, arrays[name], kind) for name, kind in declared.items()]


def _by_name(declared: Mapping[str, TensorType], given: Any) -> Mapping[str, Any]:
    # Most calls pass one array; to ask an abstract class takes longer than all the rest.
    if type(given) is np.ndarray or not isinstance(given, Mapping):
        if len(declared) == 1:
            return {next(iter(declared)): given}
        raise TypeError(
            f"`x` is one array, but the network has {len(declared)} inputs; pass a dict: "
            f"{{{', '.join(f'{name!r}: ...' for name in declared)}}}."
        )
    unknown = [name for name in given if name not in declared]
    if unknown:
        raise ValueError(f"`x` names {_quoted(unknown)}; the network has inputs {_quoted(declared)}.")
    missing = [name for name in declared if name not in given]
    if missing:
        raise ValueError(f"`x` lacks {_quoted(missing)}; the network has inputs {_quoted(declared)}.")
    return given


def _in_order(name: str, value: Any, kind: TensorType) -> Array:
    array = value if type(value) is np.ndarray else read(f"x[{name!r}]", value)
    if array.dtype is not kind.dtype:
        array = _typed(name, array, kind.dtype)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.array(array, order="C", copy=True)
    return array


def _typed(name: str, array: Array, wanted: np.dtype[Any]) -> Array:
    if array.dtype == wanted or array.dtype.newbyteorder("=") == wanted:
        return array.astype(wanted, copy=False)
    if array.dtype.newbyteorder("=") == _HALF and wanted == _FLOAT:
        return array.astype(wanted)
    raise TypeError(
        f"input `{name}` is of {array.dtype}; expected {wanted}. Nothing is cast that could lose digits: "
        f"pass x.astype('{wanted}')."
    )


def lengths_of(declared: Mapping[str, TensorType], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Return the open lengths of a network, from the shapes of its inputs.

    Parameters
    ----------
    declared : mapping of str to TensorType
    shapes : sequence of tuple of int
        In the order of the inputs.

    Returns
    -------
    dict of str to int

    Raises
    ------
    ValueError
        If a shape is not what the network takes, or two lengths of one name differ.
    """
    found: dict[str, tuple[int, str]] = {}
    for (name, kind), shape in zip(declared.items(), shapes, strict=True):
        if len(shape) != len(kind.shape):
            raise ValueError(
                f"input `{name}` has {len(shape)} axes, shape {shape}; expected {shown(kind.shape)}."
            )
        for want, got in zip(kind.shape, shape, strict=True):
            if isinstance(want, int):
                if want != got:
                    raise ValueError(f"input `{name}` has shape {shape}; expected {shown(kind.shape)}.")
                continue
            first, where = found.setdefault(want, (got, name))
            if first != got:
                raise ValueError(
                    f"input `{name}` has shape {shape}, length `{want}` = {got}, and input `{where}` has "
                    f"{first} there; one name is one length."
                )
    return {name: length for name, (length, _) in found.items()}


def shown(shape: Shape) -> str:
    """Return a shape as it is declared, open lengths by their names."""
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


# -- out ---------------------------------------------------------------------------------------------


class Targets:
    """Where the outputs of a call go: new arrays, or those of a caller.

    Parameters
    ----------
    outputs : mapping of str to TensorType
    out : ndarray, sequence or mapping of ndarray, or None
        As a caller gave it.
    feeds : iterable of ndarray
        What is read: no step may write there.

    Attributes
    ----------
    written : dict of str to ndarray
        What native steps may write.

    Raises
    ------
    TypeError, ValueError
        If a caller's array cannot take an output.
    """

    def __init__(self, outputs: Mapping[str, TensorType], out: Any, feeds: Iterable[Array]) -> None:
        self._theirs = {} if out is None else _named_targets(outputs, out)
        self.written: dict[str, Array] = {}
        for name, array in self._theirs.items():
            _check_target(name, array, outputs[name])
        if len(self._theirs) > 1:
            _check_apart(self._theirs)
        read_from = list(feeds)
        for name, kind in outputs.items():
            theirs = self._theirs.get(name)
            if theirs is not None and _is_writable_in_place(theirs, kind, read_from):
                self.written[name] = theirs
            else:
                self.written[name] = np.empty(tuple(int(length) for length in kind.shape), kind.dtype)

    def finish(self) -> dict[str, Array]:
        """Return the outputs by name, a caller's arrays where they were given."""
        for name, array in self._theirs.items():
            if self.written[name] is not array:
                array[...] = self.written[name]
        return {name: self._theirs.get(name, array) for name, array in self.written.items()}


def _named_targets(outputs: Mapping[str, TensorType], out: Any) -> dict[str, Array]:
    if type(out) is np.ndarray and len(outputs) == 1:
        return {next(iter(outputs)): out}
    if isinstance(out, Mapping):
        unknown = [name for name in out if name not in outputs]
        if unknown:
            raise ValueError(f"`out` names {_quoted(unknown)}; the network has outputs {_quoted(outputs)}.")
        return {name: array for name, array in out.items() if array is not None}
    given = list(out) if isinstance(out, (list, tuple)) else [out]
    if len(given) != len(outputs):
        raise ValueError(
            f"`out` holds {len(given)} arrays, and the network has {len(outputs)} outputs, "
            f"{_quoted(outputs)}; pass one for each, None where you have none."
        )
    return {name: array for name, array in zip(outputs, given, strict=True) if array is not None}


def _check_target(name: str, array: Any, kind: TensorType) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"`out` for output `{name}` is a {type(array).__name__}; expected an ndarray.")
    if array.dtype is not kind.dtype and array.dtype.newbyteorder("=") != kind.dtype:
        raise TypeError(f"`out` for output `{name}` is of {array.dtype}; expected {kind.dtype}.")
    if array.shape != kind.shape:
        raise ValueError(f"`out` for output `{name}` has shape {array.shape}; expected {shown(kind.shape)}.")
    if not array.flags.writeable:
        raise ValueError(f"`out` for output `{name}` is read-only; pass an array that can be written.")


def _check_apart(theirs: Mapping[str, Array]) -> None:
    names = list(theirs)
    for number, name in enumerate(names):
        for other in names[:number]:
            if np.may_share_memory(theirs[name], theirs[other]):
                raise ValueError(
                    f"`out` for outputs `{other}` and `{name}` is the same memory; pass two arrays."
                )


def _is_writable_in_place(array: Array, kind: TensorType, feeds: Sequence[Array]) -> bool:
    return (
        array.dtype == kind.dtype
        and array.flags.c_contiguous
        and array.flags.aligned
        and not any(np.may_share_memory(array, feed) for feed in feeds)
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
