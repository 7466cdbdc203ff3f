"""The arguments of a filter, checked and brought to one form.

Each function returns the argument in the form that the core takes, or raises an error that names the
argument, what it got, what it expected and the fix.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.foreign import dtype_of as dtype_of
from .._base.foreign import output_of, read
from .._base.numbers import as_number, as_real, as_whole, each_of, entries, instead
from .._base.schedulers import in_task
from .._base.types import Array
from .._base.words.messages import meant_mode, shown
from .boundaries import MODES, ModeName

Mode: TypeAlias = ModeName | str | Sequence[str]  # the literal names are for `help`; any str is checked
Origin: TypeAlias = int | Sequence[int]
Axes: TypeAlias = int | Sequence[int] | None
Output: TypeAlias = npt.DTypeLike | npt.NDArray[Any] | None
Method: TypeAlias = Literal["auto", "separable", "direct", "box", "recursive", "cascade", "fft"] | None

# Maximum steps for NumPy to decide whether two interleaved views overlap; beyond, they count as overlapping.
# 10**4 steps take well under a millisecond.
_OVERLAP_WORK: Final = 10_000

_INTS: Final = frozenset([int])
_FLOATS: Final = frozenset([float])

# Maximum axes of an array: a longer `shape` is an array passed by mistake.
_MOST_AXES: Final = 64

# Maximum threads: more than there are processors gain nothing, and a system refuses thousands; up to 64 do no
# harm.
_MOST_THREADS: Final = max(64, os.cpu_count() or 1)


def input_array(x: npt.ArrayLike, name: str = "x") -> Array:
    """Return `x` as a plain ndarray, without a copy if it is one."""
    return read(name, x)


@functools.lru_cache(maxsize=128)
def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which an array of `dtype` is filtered, and in which the result comes back.

    bool, 8- and 16-bit integers, float16 and float32 -> float32; 32- and 64-bit integers and
    float64 -> float64; complex64 and complex128 stay. The byte order is always the machine's.
    """
    kind, size = dtype.kind, dtype.itemsize
    if kind in "biu":
        return np.dtype(np.float32 if size <= 2 else np.float64)
    if kind == "f" and size <= 8:
        return np.dtype(np.float32 if size <= 4 else np.float64)
    if kind == "c" and size <= 16:
        return np.dtype(np.complex64 if size <= 8 else np.complex128)
    if kind in "fc":
        raise TypeError(
            f"dtype {dtype.name} is wider than float64, the widest the core computes in; "
            f"pass x.astype({'float' if kind == 'f' else 'complex'})."
        )
    raise TypeError(f"dtype {dtype} does not hold numbers; expected bool, integer, float or complex.")


def output_dtype(output: npt.DTypeLike | Array) -> np.dtype[Any]:
    """Return the dtype that `output`, an array, a dtype or a dtype's name, asks for."""
    if type(output) is np.ndarray:
        dtype = output.dtype
    else:
        wanted = output_of(output)
        dtype = wanted if isinstance(wanted, np.dtype) else wanted.dtype
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise TypeError(
            f"`output` has dtype {dtype.name}; expected bool, an integer, float16, float32, float64, "
            "complex64 or complex128."
        )
    return dtype


def promoted_dtype(dtype: np.dtype[Any], output: npt.DTypeLike | Array) -> np.dtype[Any]:
    """Return the working dtype of a filter that reads `dtype` and stores into `output`."""
    return stored_in(dtype, output_dtype(output))


def stored_in(dtype: np.dtype[Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the working dtype of a filter that reads `dtype` and stores into elements of `stored`.

    A wider output is computed in its own precision: rounding to float32 first would waste it.
    """
    if working_dtype(stored).char not in "dD":
        return dtype
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def output_array(
    output: npt.DTypeLike | Array, x: Array, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """Return the array to store into: `output` itself, or a new one of the dtype it names.

    Parameters
    ----------
    output : ndarray, dtype or dtype name
    x : ndarray
        The filter's input; an output that shares memory with it is refused.
    shape : tuple of int
        The shape the result has.
    dtype : dtype
        The working dtype; complex results are not stored into real arrays.
    """
    target = output_dtype(output)
    if dtype.kind == "c" and target.kind != "c":
        raise TypeError(
            f"`output` is {target.name}, but the result is {dtype.name}; "
            f"pass output='{dtype.name}', or filter x.real and x.imag apart."
        )
    if not isinstance(output, np.ndarray):
        return np.empty(shape, target)
    if type(output) is not np.ndarray and isinstance(output, np.ma.MaskedArray):
        raise TypeError(
            "`output` is a masked array, whose mask would hide results; pass output.data, or a plain array."
        )
    if output.shape != shape:
        raise ValueError(f"`output` has shape {output.shape}, but the result has shape {shape}.")
    if not output.flags.writeable:
        raise ValueError("`output` is read-only; pass a writeable array, or a dtype to get a new one.")
    if 0 in output.strides and _repeats(output):
        raise ValueError("`output` stores several elements in one place (a stride is 0); pass a full array.")
    if _overlap(x, output):
        raise ValueError(
            "`output` shares memory with `x`, which would be overwritten while it is still read; "
            "pass another array, or leave `output` out."
        )
    return output


def _repeats(array: Array) -> bool:
    steps = zip(array.strides, array.shape, strict=True)
    return array.size > 0 and any(step == 0 and length > 1 for step, length in steps)


def _overlap(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]  # any int will do
    except RuntimeError:  # TooHardError, which NumPy moved about
        return True


def shape_tuple(shape: int | Sequence[int], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return `shape` as a tuple of non-negative ints whose bytes can be counted in a signed word."""
    shape_of_array = getattr(shape, "shape", ())
    sequence = None if len(shape_of_array) > 1 else entries(shape)
    lengths = each_of((shape,) if sequence is None else sequence, as_whole)
    if lengths is None or len(lengths) > _MOST_AXES:
        fix = "; pass x.shape." if shape_of_array else f"{instead(shape)}."
        raise TypeError(f"`shape={shown(shape)}` is not a whole number or a sequence of them{fix}")
    if any(length < 0 for length in lengths):
        raise ValueError(f"`shape={lengths}` holds a negative length.")
    if math.prod(max(length, 1) for length in lengths) * dtype.itemsize > np.iinfo(np.intp).max:
        raise ValueError(f"`shape={lengths}` of {dtype.name} needs more bytes than can be addressed.")
    return lengths


def plain(
    mode: Mode, cval: complex, origin: Origin, axes: Axes, tol: float | None, dtype: np.dtype[Any]
) -> tuple[str | tuple[str, ...], complex, int | tuple[int, ...], int | tuple[int, ...] | None, float | None]:
    """Return these arguments of a filter of `dtype` as built-in Python values, of one type each.

    They are keys of the plan cache, to which 1, 1.0 and True are equal: their types are checked before.
    """
    names: Any = mode
    if type(mode) is not str and (sequence := entries(mode)) is not None:
        names = tuple(map(_boundary_mode, sequence))
    value = cval if type(cval) is float else _cval(cval, dtype)
    place = origin if type(origin) is int else _wholes("origin", origin)
    where = axes if axes is None or type(axes) is int else _wholes("axes", axes)
    return names, value, place, where, None if tol is None else tolerance(tol)


def _wholes(name: str, value: Any) -> int | tuple[int, ...]:
    """Return a whole number, or a sequence of them as a tuple."""
    if type(value) is tuple and _INTS.issuperset(map(type, value)):  # five times as fast as the general case
        return value
    sequence = entries(value)
    checked = as_whole(value) if sequence is None else each_of(sequence, as_whole)
    if checked is None:
        raise TypeError(
            f"`{name}={shown(value)}` is not a whole number or a sequence of them{instead(value)}."
        )
    return checked


def reals(name: str, value: Any, count: int) -> tuple[float, ...]:
    """Return a tuple of `count` real numbers, one per filtered axis, from one for all or a sequence."""
    kind = type(value)
    if kind is float or kind is int:
        return (float(value),) * count
    if kind is tuple and len(value) == count and _FLOATS.issuperset(map(type, value)):
        return value  # type: ignore[no-any-return]
    return _numbers(name, value, count, as_real, "a number or a sequence of them; pass one such as 1.5")


def wholes(name: str, value: Any, count: int) -> tuple[int, ...]:
    """Return a tuple of `count` whole numbers, one per filtered axis, from one for all or a sequence."""
    if type(value) is int:
        return (value,) * count
    if type(value) is tuple and len(value) == count and _INTS.issuperset(map(type, value)):
        return value
    return _numbers(name, value, count, as_whole, f"a whole number or a sequence of them{instead(value)}")


def _numbers(name: str, value: Any, count: int, one: Any, expected: str) -> tuple[Any, ...]:
    sequence = entries(value)
    if sequence is not None and len(sequence) != count:
        raise ValueError(
            f"`{name}={shown(value)}` has {len(sequence)} entries for {count} filtered axes; "
            "pass one number, or one for each."
        )
    if sequence is not None and any(entries(entry) is not None for entry in sequence):
        raise ValueError(f"`{name}={shown(value)}` is nested; expected one number for each filtered axis.")
    checked = each_of((value,) * count if sequence is None else sequence, one)
    if checked is None:
        raise TypeError(f"`{name}={shown(value)}` is not {expected}.")
    return checked


def filtered_axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter, each in ``0..ndim-1``, in the order given; None means all."""
    if axes is None:
        return tuple(range(ndim))
    checked = _wholes("axes", axes)
    wanted = (checked,) if isinstance(checked, int) else checked
    for axis in wanted:
        if not -ndim <= axis < ndim:
            raise ValueError(f"`axes={shown(axes)}`: axis {axis} does not exist in {ndim} dimensions.")
    places = tuple(axis % ndim for axis in wanted)
    if len(set(places)) != len(places):
        raise ValueError(f"`axes={shown(axes)}` names an axis twice.")
    return places


def axes_beside(channel_axis: int, axes: Axes, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter, in ``0..ndim-1``, of an array with an axis of channels."""
    channel = as_whole(channel_axis)
    if channel is None:
        raise TypeError(
            f"`channel_axis={shown(channel_axis)}` is not a whole number, nor None{instead(channel_axis)}."
        )
    if not -ndim <= channel < ndim:
        raise ValueError(f"`channel_axis={channel}` does not exist in {ndim} dimensions.")
    wanted = filtered_axes(axes, ndim)
    if axes is not None and channel % ndim in wanted:
        raise ValueError(
            f"`axes={shown(axes)}` holds the axis of `channel_axis={channel}`; leave it out of one."
        )
    beside = tuple(axis for axis in wanted if axis != channel % ndim)
    if not beside:
        raise ValueError(f"`channel_axis={channel}` leaves no axis to filter in {ndim} dimensions.")
    return beside


def boundary_modes(mode: Mode, axes: tuple[int, ...]) -> tuple[str, ...]:
    """Return the canonical mode of each filtered axis."""
    names: tuple[object, ...] | None = entries(mode)
    if names is None:
        names = (mode,) * (len(axes) if isinstance(mode, str) else 1)  # checked below
    if len(names) != len(axes):
        raise ValueError(f"`mode={shown(mode)}` {_count_mismatch(len(names), axes)}")
    return tuple(map(_boundary_mode, names))


def _boundary_mode(name: object) -> str:
    if isinstance(name, str) and name in MODES:
        return MODES[name]
    raise ValueError(
        f"`mode={shown(name)}` is not a boundary mode; expected one of {', '.join(map(repr, MODES))}."
        + meant_mode(name, MODES)
    )


def _count_mismatch(count: int, axes: tuple[int, ...]) -> str:
    return f"has {count} entries for {len(axes)} filtered axes {axes}; pass one value, or one per axis."


def origins(origin: Origin, axes: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Return the origin of each filtered axis, checked against its number of taps."""
    checked = _wholes("origin", origin)
    values = (checked,) * len(axes) if isinstance(checked, int) else checked
    if len(values) != len(axes):
        raise ValueError(f"`origin={shown(origin)}` {_count_mismatch(len(values), axes)}")
    for place, (axis, value, count) in enumerate(zip(axes, values, taps, strict=True)):
        low, high = -(count // 2), (count - 1) // 2
        if not low <= value <= high:
            name = "origin" if isinstance(checked, int) else f"origin[{place}]"
            raise ValueError(
                f"`{name}={value}` lies outside axis {axis}'s {count} taps (allowed {low}..{high})."
            )
    return values


def _cval(cval: Any, dtype: np.dtype[Any]) -> complex:
    value = as_number(cval)
    if value is None:
        raise TypeError(f"`cval={shown(cval)}` is not a number; pass one such as 0.0.")
    if dtype.kind != "c" and isinstance(value, complex):
        raise TypeError(f"`cval={shown(cval)}` is complex, but the array is {dtype.name}; pass a real cval.")
    return value


def constant_value(cval: complex, dtype: np.dtype[Any]) -> complex:
    """Return `cval` as a complex number, of a real type where the array is real."""
    return complex(_cval(cval, dtype))


def kernel_weights(weights: npt.ArrayLike) -> Array:
    """Return dense `weights` as a float64 array: real, finite, not empty, at least 1-D."""
    array = input_array(weights, "kernel_or_weights")
    if array.dtype.kind == "c":
        raise TypeError("kernel weights are complex; plan for weights.real and for weights.imag.")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"kernel weights have dtype {array.dtype}; expected real numbers.")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"kernel of shape {array.shape} holds no taps; expected at least one on each axis.")
    finite = array.astype(np.float64)
    if not np.isfinite(finite).all():
        raise ValueError("kernel weights hold NaN or infinity; expected finite numbers.")
    return finite


def tolerance(tol: float | None) -> float | None:
    """Return `tol` as a float >= 0, or None."""
    if tol is None:
        return None
    value = as_real(tol)
    if value is None:
        raise TypeError(f"`tol={shown(tol)}` is not a number; expected one such as 1e-3.")
    if not 0.0 <= value < math.inf:
        raise ValueError(f"`tol={tol}` is not a relative l1 error; expected a number >= 0, such as 1e-3.")
    return value


def thread_count(threads: int | None) -> int:
    """Return the maximum threads to use; None takes `default_threads`, and one in a task of Dask."""
    if threads is None:
        return 1 if shares_cores() else min(default_threads(), _MOST_THREADS)
    count = as_whole(threads)
    if count is None:
        raise TypeError(f"`threads={shown(threads)}` is not a whole number{instead(threads)}.")
    if count < 1:
        raise ValueError(f"`threads={count}` is too few; expected at least 1; leave it out for all cores.")
    return min(count, _MOST_THREADS)


def shares_cores() -> bool:
    """Return whether other tasks of Dask have the other cores, unless SEPARABLE_NUM_THREADS says how many."""
    return in_task() and _wanted_threads() is None


@functools.lru_cache(maxsize=1)
def _wanted_threads() -> int | None:
    """Return SEPARABLE_NUM_THREADS if set; read once per process, as OMP_NUM_THREADS is."""
    wanted = os.environ.get("SEPARABLE_NUM_THREADS", "").strip()
    if not wanted:
        return None
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"environment: SEPARABLE_NUM_THREADS={wanted!r} is not a whole number >= 1.")
    return int(wanted)


@functools.lru_cache(maxsize=1)
def default_threads() -> int:
    """Return SEPARABLE_NUM_THREADS if set, else the number of cores this process may use."""
    wanted = _wanted_threads()
    return usable_cores() if wanted is None else wanted


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
