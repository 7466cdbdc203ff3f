"""SciPy's conventions for arguments: sequences per axis, axes, modes, `output`; and the errors it raises.

Each function returns one checked form or raises what `scipy.ndimage` raises there, in a sentence that
also says what was expected.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from .._arguments import MODES, input_array, working_dtype
from .._caches import budget

Array: TypeAlias = npt.NDArray[Any]
Output: TypeAlias = npt.DTypeLike | Array | None

# From the call of `warnings.warn` through `target`, the public function and `repeated` to its caller.
_CALLER = 4


P = ParamSpec("P")
T = TypeVar("T")


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function made of its last few hundred arguments, those that hash.

    On small arrays, reading the arguments costs as much as filtering.
    """
    quick = functools.lru_cache(maxsize=256, typed=True)(function)
    budget.add_shortcut(quick.cache_clear)  # few bytes each, but the caller's own
    cached = cast("Callable[P, T]", quick)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return cached(*args, **kwargs)
        except TypeError:  # a list does not hash; a wrong argument fails again
            return function(*args, **kwargs)

    return call


class ArgumentError(ValueError, RuntimeError):
    """A wrong argument: a RuntimeError in SciPy, a ValueError in the rest of this package."""


class Target(NamedTuple):
    """Where a result goes: the dtype it has, and the caller's array if there is one."""

    dtype: np.dtype[Any]
    array: Array | None

    def allocated(self, shape: tuple[int, ...]) -> Array:
        """Return the caller's array or a new one, uninitialised."""
        return np.empty(shape, self.dtype) if self.array is None else self.array


def samples(values: npt.ArrayLike) -> Array:
    """Return the input as an array of numbers; a masked array is refused."""
    array = values if type(values) is np.ndarray else input_array(values)
    if not is_wide(array.dtype):
        working_dtype(array.dtype)  # raises what an array of no numbers deserves
    return array


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds more than float64 does: long double, real or complex."""
    return dtype.char in "gG" and dtype.itemsize > (16 if dtype.kind == "c" else 8)


def each(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each of `count` axes; a string counts as one value."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    given = list(value)
    if len(given) != count:
        raise ArgumentError(
            f"`{name}` has {len(given)} entries for {count} filtered axes: "
            "sequence argument must have length equal to input rank, or to that of `axes`."
        )
    return given


def filtered_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter, each in ``0..ndim-1``, in the order given; None means all."""
    if axes is None:
        return tuple(range(ndim))
    if isinstance(axes, Iterable) and not isinstance(axes, str):
        wanted = tuple(operator.index(axis) for axis in axes)
    else:
        wanted = (operator.index(axes),)
    for axis in wanted:
        if not -ndim <= axis < ndim:
            raise ValueError(f"specified axis: {axis} is out of range for {ndim} dimensions.")
    found = tuple(axis % ndim for axis in wanted)
    if len(set(found)) != len(found):
        raise ValueError(f"`axes` is {axes!r}: axes must be unique.")
    return found


def one_axis(axis: Any, ndim: int) -> int:
    """Return an axis in ``0..ndim-1``."""
    place = operator.index(axis)
    if not -ndim <= place < ndim:
        raise np.exceptions.AxisError(place, ndim)
    return place % ndim


def one_mode(mode: Any) -> str:
    """Return a boundary mode's name."""
    if isinstance(mode, str) and mode in MODES:
        return mode
    if not isinstance(mode, str) and np.iterable(mode):
        raise ArgumentError(f"`mode` is {mode!r}: A sequence of modes is not supported; pass one name.")
    raise ArgumentError(
        f"`mode` is {mode!r}: boundary mode not supported; expected one of {', '.join(map(repr, MODES))}."
    )


def modes(mode: Any, count: int) -> tuple[str, ...]:
    """Return the boundary mode of each of `count` axes."""
    return tuple(one_mode(name) for name in each("mode", mode, count))


def check_origin(origin: Any, taps: int) -> int:
    """Return an origin that keeps the centre inside a kernel of `taps` taps."""
    place = operator.index(origin)
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
    elif isinstance(output, (type, np.dtype, str)):
        dtype = np.dtype(output)
        if promote and is_complex and dtype.kind != "c" and not isinstance(output, str):
            warnings.warn("promoting specified output dtype to complex", stacklevel=_CALLER)
            dtype = np.promote_types(dtype, np.complex64)
    else:
        array = np.asarray(output)
        dtype = array.dtype
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
