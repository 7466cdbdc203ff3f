"""The arguments of a filter, checked and brought to one form.

Each function returns what the core understands, or raises an error that names the argument, what it
got, what it expected and the fix.
"""

from __future__ import annotations

import functools
import math
import operator
import os
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Mode: TypeAlias = str | Sequence[str]
Origin: TypeAlias = int | Sequence[int]
Axes: TypeAlias = int | Sequence[int] | None
Output: TypeAlias = npt.DTypeLike | npt.NDArray[Any] | None
Method: TypeAlias = Literal["auto", "separable", "direct", "box", "recursive", "cascade", "fft"] | None

# Name of a boundary mode -> (canonical name, code in the core). The grid-* names are SciPy's synonyms.
MODES: Final = {
    "reflect": ("reflect", 0),
    "constant": ("constant", 1),
    "nearest": ("nearest", 2),
    "mirror": ("mirror", 3),
    "wrap": ("wrap", 4),
    "grid-mirror": ("reflect", 0),
    "grid-constant": ("constant", 1),
    "grid-wrap": ("wrap", 4),
}
METHODS: Final = ("auto", "separable", "direct", "box", "recursive", "cascade", "fft")

# Steps NumPy may spend deciding whether two interleaved views overlap; past it they count as
# overlapping. 10**4 steps take well under a millisecond.
_OVERLAP_WORK: Final = 10_000

# Threads beyond the processors only take turns, and a system refuses thousands; where the processors are
# few, some more do no harm.
_MOST_THREADS: Final = max(64, os.cpu_count() or 1)


def input_array(x: npt.ArrayLike) -> Array:
    """Return `x` as a plain ndarray, without copying where it is one already."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "`x` is a masked array, and a filter would read what the mask hides; "
            "pass x.filled(value), or filter x.filled(0) and the mask's weights and divide."
        )
    return np.asarray(x)


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
    try:
        dtype = output.dtype if isinstance(output, np.ndarray) else np.dtype(output)
    except TypeError:
        raise TypeError(
            f"`output={output!r}` is neither an array, nor a dtype, nor the name of one "
            "(pass a NumPy array to write into, or for example output='float32')."
        ) from None
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise TypeError(
            f"`output` has dtype {dtype.name}; expected bool, an integer, float16, float32, float64, "
            "complex64 or complex128."
        )
    return dtype


def promoted_dtype(dtype: np.dtype[Any], output: npt.DTypeLike | Array) -> np.dtype[Any]:
    """Return the working dtype of a filter that reads `dtype` and stores into `output`.

    A wider output is computed in its own precision: rounding to float32 first would waste it.
    """
    wide = working_dtype(output_dtype(output)).char in "dD"
    if not wide:
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
    try:
        lengths = _whole_numbers(shape if np.iterable(shape) else (shape,))
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"`shape={shape!r}` is not a whole number or a sequence of them.") from None
    if any(length < 0 for length in lengths):
        raise ValueError(f"`shape={lengths}` holds a negative length.")
    if math.prod(max(length, 1) for length in lengths) * dtype.itemsize > np.iinfo(np.intp).max:
        raise ValueError(f"`shape={lengths}` of {dtype.name} needs more bytes than can be addressed.")
    return lengths


def _whole_numbers(values: Any) -> tuple[int, ...]:
    """Return the entries of `values` as ints; 1.0 counts as 1, as it does in every comparison."""
    found = tuple(int(value) for value in values)
    if any(whole != value for whole, value in zip(found, values, strict=True)):
        raise ValueError
    return found


def filtered_axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    """Return the axes to filter, each in ``0..ndim-1``, in the order given; None means all."""
    if axes is None:
        return tuple(range(ndim))
    given = tuple(axes) if np.iterable(axes) else (axes,)
    try:
        wanted = _whole_numbers(given)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"`axes={axes!r}` is not a whole number or a sequence of them.") from None
    for axis in wanted:
        if not -ndim <= axis < ndim:
            raise ValueError(f"`axes={axes!r}`: axis {axis} does not exist in {ndim} dimensions.")
    found = tuple(axis % ndim for axis in wanted)
    if len(set(found)) != len(found):
        raise ValueError(f"`axes={axes!r}` names an axis twice.")
    return found


def boundary_modes(mode: Mode, axes: tuple[int, ...]) -> tuple[str, ...]:
    """Return the canonical mode of each filtered axis."""
    given: tuple[object, ...] = (mode,)  # what it is remains to be seen
    if isinstance(mode, str):
        given = (mode,) * len(axes)
    elif np.iterable(mode):
        given = tuple(mode)
    if len(given) != len(axes):
        raise ValueError(f"`mode={mode!r}` {_count_mismatch(len(given), axes)}")
    return tuple(map(_boundary_mode, given))


def _boundary_mode(name: object) -> str:
    if isinstance(name, str) and name in MODES:
        return MODES[name][0]
    import difflib  # only an error needs it

    close = difflib.get_close_matches(str(name).lower(), MODES, 1)
    raise ValueError(
        f"`mode={name!r}` is not a boundary mode; expected one of {', '.join(map(repr, MODES))}."
        + (f" Did you mean {close[0]!r}?" if close else "")
    )


def _count_mismatch(count: int, axes: tuple[int, ...]) -> str:
    return f"has {count} entries for {len(axes)} filtered axes {axes}; pass one value, or one per axis."


def origins(origin: Origin, axes: tuple[int, ...], taps: tuple[int, ...]) -> tuple[int, ...]:
    """Return the origin of each filtered axis, checked against the taps it has there."""
    given = tuple(origin) if np.iterable(origin) else (origin,) * len(axes)
    if len(given) != len(axes):
        raise ValueError(f"`origin={origin!r}` {_count_mismatch(len(given), axes)}")
    try:
        found = _whole_numbers(given)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"`origin={origin!r}` is not a whole number or a sequence of them.") from None
    for place, (axis, value, count) in enumerate(zip(axes, found, taps, strict=True)):
        low, high = -(count // 2), (count - 1) // 2
        if not low <= value <= high:
            name = f"origin[{place}]" if np.iterable(origin) else "origin"
            raise ValueError(
                f"`{name}={value}` lies outside axis {axis}'s {count} taps (allowed {low}..{high})."
            )
    return found


def constant_value(cval: complex, dtype: np.dtype[Any]) -> complex:
    """Return `cval` as a complex number, real where the array is."""
    try:
        value = complex(operator.pos(cval))  # refuses a string, which complex() would parse
    except TypeError:
        raise TypeError(f"`cval={cval!r}` is not a number.") from None
    if dtype.kind != "c" and value.imag != 0:
        raise TypeError(f"`cval={cval!r}` is complex, but the array is {dtype.name}; pass a real cval.")
    return value


def kernel_weights(weights: npt.ArrayLike) -> Array:
    """Return dense `weights` as a float64 array: real, finite, not empty, at least 1-D."""
    array = np.asarray(weights)
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


def method_name(method: str | None) -> str | None:
    """Return `method` if it is one; None is the fastest whose results have the signs and zeros of sums."""
    if method is not None and method not in METHODS:
        raise ValueError(f"`method={method!r}` is unknown; expected one of {', '.join(map(repr, METHODS))}.")
    return method


def tolerance(tol: float | None) -> float | None:
    """Return `tol` as a float >= 0, or None."""
    if tol is None:
        return None
    try:
        value = float(tol)
    except (TypeError, ValueError):
        raise TypeError(f"`tol={tol!r}` is not a number; expected one such as 1e-3.") from None
    if not 0.0 <= value < math.inf:
        raise ValueError(f"`tol={tol!r}` is not a relative l1 error; expected a number >= 0, such as 1e-3.")
    return value


def thread_count(threads: int | None) -> int:
    """Return how many threads to use at most; None asks SEPARABLE_NUM_THREADS, then the machine."""
    if threads is None:
        return min(default_threads(), _MOST_THREADS)
    try:
        count = operator.index(threads)
    except TypeError:
        raise TypeError(f"`threads={threads!r}` is not a whole number.") from None
    if count < 1:
        raise ValueError(f"`threads={count}` is too few; expected at least 1; leave it out for all cores.")
    return min(count, _MOST_THREADS)


@functools.lru_cache(maxsize=1)
def default_threads() -> int:
    """Return SEPARABLE_NUM_THREADS where it is set, else the cores this process may use.

    Read once per process, as OMP_NUM_THREADS is.
    """
    wanted = os.environ.get("SEPARABLE_NUM_THREADS", "").strip()
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"environment: SEPARABLE_NUM_THREADS={wanted!r} is not a whole number >= 1.")
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
