"""SciPy's conventions for arguments: sequences per axis, axes, modes, `output`; and the errors it raises.

Each function returns one checked form or raises what `scipy.ndimage` raises there, in a sentence that
also says what was expected.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from .._base.caches import budget
from .._base.foreign import output_of
from .._base.numbers import as_number, as_real, as_whole, entries, instead
from .._base.types import Array
from .._base.words.messages import meant_mode, shown
from ..arrays.arguments import input_array, working_dtype
from ..arrays.boundaries import MODES

Output: TypeAlias = npt.DTypeLike | Array | None

# `stacklevel` of warnings: `target`, the public function, `through` and `call` of `repeated`, the caller.
_CALLER = 5


P = ParamSpec("P")
T = TypeVar("T")


# Immutable types whose values compare by value, so that they may be in keys.
_NUMPYS: Final = (np.float64, np.float32, np.int64, np.int32)
_PLAIN: Final = frozenset([type(None), bool, int, float, complex, str, type, FunctionType, *_NUMPYS])


def is_plain(value: Any) -> bool:
    """Return whether a value may be in a key: a number, a string, a function, a type or a dtype."""
    return type(value) in _PLAIN or isinstance(value, (type, np.dtype))


def types_of(values: tuple[Any, ...]) -> tuple[type, ...] | None:
    """Return the types of a tuple's entries, for keys, because ``(1, 2) == (True, 2.0)``.

    None where an entry may not be in a key.
    """
    types = tuple(map(type, values))
    return types if _PLAIN.issuperset(types) else None


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Cache a function of plain values and tuples of them, for its last few hundred arguments.

    On small arrays, checking the arguments costs as much as filtering. Types are part of the key, within
    tuples too; calls with lists or arrays are not cached.
    """

    @functools.lru_cache(maxsize=256, typed=True)
    def cached(within: tuple[Any, ...], /, *args: Any) -> T:
        return cast("Callable[..., T]", function)(*args)

    budget.add_shortcut(cached.cache_clear)  # entries are small, but hold the caller's objects

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _PLAIN.issuperset(map(type, args)):
            return cached((), *args)
        within = tuple(types_of(value) for value in args if type(value) is tuple)
        if None in within or not all(type(value) is tuple or is_plain(value) for value in args):
            return function(*args, **kwargs)
        return cached(within, *args)

    return call


class ArgumentError(ValueError, RuntimeError):
    """A wrong argument: a RuntimeError in SciPy, a ValueError in the rest of this package."""


class Target(NamedTuple):
    """The output: its dtype, and the caller's array if there is one."""

    dtype: np.dtype[Any]
    array: Array | None

    def allocated(self, shape: tuple[int, ...]) -> Array:
        """Return the caller's array or a new one, uninitialised."""
        return np.empty(shape, self.dtype) if self.array is None else self.array


def samples(values: npt.ArrayLike) -> Array:
    """Return the input as an array of numbers; TypeError for a masked array."""
    array = values if type(values) is np.ndarray else input_array(values)
    if not is_wide(array.dtype):
        working_dtype(array.dtype)  # raises TypeError for other dtypes
    return array


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is wider than float64: long double, real or complex."""
    return dtype.char in "gG" and dtype.itemsize > (16 if dtype.kind == "c" else 8)


def each(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each of `count` axes; a string counts as one value."""
    sequence = entries(value)
    if sequence is None:
        return [value] * count
    if len(sequence) != count:
        raise ArgumentError(
            f"`{name}` has {len(sequence)} entries for {count} filtered axes: "
            "sequence argument must have length equal to input rank, or to that of `axes`."
        )
    return list(sequence)


def real(name: str, value: Any) -> float:
    """Return a real number, of which bool is one here: SciPy takes it."""
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    number = as_real(value)
    if number is None:
        raise TypeError(f"`{name}` is {shown(value)}; expected a real number.")
    return number


def whole(name: str, value: Any) -> int:
    """Return a whole number, of which True is one here: SciPy takes it."""
    number = int(value) if value is True or value is False else as_whole(value)
    if number is None:
        raise TypeError(
            f"`{name}` is {shown(value)}, which cannot be interpreted as an integer{instead(value)}."
        )
    return number


def one_cval(cval: Any, x: Array) -> complex:
    """Return the value beyond the ends: a real number, or any where the input is complex."""
    if type(cval) is float or isinstance(cval, (np.longdouble, np.clongdouble)):
        return cval  # type: ignore[return-value]  # of all its digits
    value = float(cval) if isinstance(cval, (bool, np.bool_)) else as_number(cval)
    if value is None:
        raise TypeError(f"`cval` is {shown(cval)}; expected a number.")
    if isinstance(value, complex) and x.dtype.kind != "c":
        raise TypeError(f"`cval` is {shown(cval)}, but the input is {x.dtype}; expected a real number.")
    return value


def filtered_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter, each in ``0..ndim-1``, in the order given; None means all."""
    if axes is None:
        return tuple(range(ndim))
    sequence = entries(axes)
    wanted = tuple(whole("axes", axis) for axis in ((axes,) if sequence is None else sequence))
    for axis in wanted:
        if not -ndim <= axis < ndim:
            raise ValueError(f"specified axis: {axis} is out of range for {ndim} dimensions.")
    places = tuple(axis % ndim for axis in wanted)
    if len(set(places)) != len(places):
        raise ValueError(f"`axes` is {shown(axes)}: axes must be unique.")
    return places


def one_axis(axis: Any, ndim: int) -> int:
    """Return an axis in ``0..ndim-1``."""
    place = whole("axis", axis)
    if not -ndim <= place < ndim:
        raise np.exceptions.AxisError(place, ndim)
    return place % ndim


def one_mode(mode: Any) -> str:
    """Return a boundary mode's name."""
    if isinstance(mode, str) and mode in MODES:
        return mode
    if not isinstance(mode, str) and np.iterable(mode):
        raise ArgumentError(f"`mode` is {shown(mode)}: A sequence of modes is not supported; pass one name.")
    raise ArgumentError(
        f"`mode` is {shown(mode)}: boundary mode not supported; expected one of "
        f"{', '.join(map(repr, MODES))}.{meant_mode(mode, MODES)}"
    )


def modes(mode: Any, count: int) -> tuple[str, ...]:
    """Return the boundary mode of each of `count` axes."""
    return tuple(one_mode(name) for name in each("mode", mode, count))


def check_origin(origin: Any, taps: int) -> int:
    """Return an origin that keeps the centre inside a kernel of `taps` taps."""
    place = whole("origin", origin)
    low, high = -(taps // 2), (taps - 1) // 2
    if not low <= place <= high:
        raise ValueError(f"invalid origin {place}: a kernel of {taps} taps allows {low} to {high}.")
    return place


def target(output: Output, x: Array, *, is_complex: bool, promote: bool = False) -> Target:
    """Return where the result goes.

    Parameters
    ----------
    output : ndarray, dtype, dtype name or None
        None asks for the dtype of `x`.
    x : ndarray
        The input.
    is_complex : bool
        The result is complex, so `output` has to be.
    promote : bool
        A real dtype for a complex result is made complex, with a warning; else it is refused.
    """
    if output is None:
        if is_complex and x.dtype.kind != "c":
            return Target(np.promote_types(x.dtype, np.complex64), None)
        return Target(x.dtype if x.dtype.isnative else x.dtype.newbyteorder("="), None)
    array = None
    if type(output) is np.ndarray:
        array, dtype = output, output.dtype
    else:
        wanted = output_of(output)
        if isinstance(wanted, np.dtype):
            dtype = wanted
            if promote and is_complex and dtype.kind != "c" and not isinstance(output, str):
                warnings.warn("promoting specified output dtype to complex", stacklevel=_CALLER)
                dtype = np.promote_types(dtype, np.complex64)
        else:
            array, dtype = wanted, wanted.dtype
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("`output` is a masked array, whose mask would hide results; pass output.data.")
    if array is not None and array.shape != x.shape:
        raise ArgumentError(
            f"output shape not correct: `output` has shape {array.shape}, the result {x.shape}."
        )
    if dtype.kind not in "biufc":
        raise ArgumentError(f"`output` is {dtype}: output must have numeric dtype.")
    if is_complex and dtype.kind != "c":
        raise ArgumentError(
            f"`output` is {dtype}, but the result is complex: output must have complex dtype."
        )
    return Target(dtype, array)
