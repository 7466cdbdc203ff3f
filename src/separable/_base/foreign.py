"""Arrays of other libraries: read and written without a copy where possible, results in the input's type.

No library is imported: an array is known by its attributes, or by a module that is loaded already.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from .types import Array
from .words.messages import kind, shown

Wrap: TypeAlias = Callable[[Array], Any]

# Maximum share of the free memory for an array that is not in memory (on disk, chunked, lazy) and read whole:
# the result takes as much again, and so may a copy in another dtype.
_PART_OF_FREE: Final = 1 / 4
_SMALL: Final = 1 << 26  # bytes below which free memory is not checked

# Protocols by which an array exposes its memory.
_IN_MEMORY: Final = ("__array_interface__", "__array_struct__", "__dlpack__")


def read(name: str, value: Any) -> Array:
    """Return the numbers of an argument as a plain ndarray, without a copy where they lie in memory.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : array_like
        Arrays of other libraries, too, where NumPy can read them.

    Raises
    ------
    TypeError
        It is no array, hides numbers behind a mask, or lies where NumPy cannot read it.
    ValueError
        Rows differ in length.
    MemoryError
        It is not in memory, and would take more than a quarter of what is free.
    """
    if type(value) is np.ndarray:
        return value
    if type(value) is list:  # a few taps, mostly
        return _converted(name, value)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` is a masked array, and a filter would read what the mask hides; "
            + ("pass x.data with mask=~x.mask, or x.filled(value)." if name in "xy" else "pass .filled(0).")
        )
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(
            f"`{name}` is {shown(value)}; expected an array of numbers. A file has to be read first: "
            f"{name} = separable.files.read(path).data, or np.asarray(PIL.Image.open(path))."
        )
    if not isinstance(value, (tuple, np.ndarray)):
        _check_readable(name, value)
        _check_size(name, value)
    array = _converted(name, value)
    if array.dtype.hasobject and array.ndim == 0:
        what = "None" if value is None else f"a {kind(value)}"
        raise TypeError(f"`{name}` is {what}; expected an array of numbers.")
    return array


def _converted(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        wrong = ValueError if isinstance(error, ValueError) else TypeError
        fix = f"; pass {name}.float()" if hasattr(value, "bfloat16") else ""
        raise wrong(f"`{name}` is {_described(value)} that NumPy does not read: {error}{fix}") from error


def _described(value: object) -> str:
    dtype = getattr(value, "dtype", None)
    return f"a {kind(value)}" if dtype is None else f"a {kind(value)} of {dtype}"


def _check_readable(name: str, value: Any) -> None:
    """Raise TypeError for tensors that require grad or lie on a device, with the call that fixes it."""
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(
            f"`{name}` requires grad, and a filter's result would carry none; pass {name}.detach(), "
            "or filter by separable.nn.functional inside a network."
        )
    place = getattr(getattr(value, "device", None), "type", "cpu")
    if place != "cpu" and hasattr(value, "cpu"):
        raise TypeError(f"`{name}` lies on {value.device}; filters run on the CPU: pass {name}.cpu().")


def _check_size(name: str, value: Any) -> None:
    """Raise MemoryError for an array outside memory that would take too much of it."""
    size = _size(value)
    if not size > _SMALL or _lies_in_memory(value):
        return
    free = _free_memory()
    if free is None or size <= _PART_OF_FREE * free:
        return
    raise MemoryError(
        f"`{name}` is a {kind(value)} of {size / 2**30:.3g} GiB, which would be read whole, but only "
        f"{free / 2**30:.3g} GiB are free and a quarter of them may be used. {_way_of(name, value)}; "
        f"np.asarray({name}) reads it whole all the same."
    )


def is_large(size: float) -> bool:
    """Tell whether an array of so many bytes would take more than a quarter of the free memory."""
    free = _free_memory() if size > _SMALL else None
    return free is not None and size > _PART_OF_FREE * free


def _way_of(name: str, value: Any) -> str:
    """Return how an array that does not fit into memory is filtered."""
    slabs = "sp.stream.filter(source, target, kernel)"
    if _is_labelled(value) and hasattr(value, "coords"):
        lazily = "" if getattr(value, "chunks", None) else ".chunk()"
        call = f"{name}{lazily}.separable.gaussian(sigma)"
        return f"Filter it chunk by chunk: import separable.xarray, then {call}, say"
    if hasattr(value, "map_overlap"):
        return f"Filter it chunk by chunk: sp.dask.gaussian({name}, sigma), say, or slab by slab: {slabs}"
    return f"Filter it slab by slab: {slabs}, or chunk by chunk: sp.dask of dask.array.from_array({name})"


def _size(value: Any) -> float:
    """Return the bytes that an array takes in memory; 0 if unknown."""
    itemsize = getattr(getattr(value, "dtype", None), "itemsize", 0)
    shape = getattr(value, "shape", ())
    if not isinstance(shape, tuple) or not isinstance(itemsize, int):
        return 0
    return float(math.prod(shape) * itemsize)


def _lies_in_memory(value: Any) -> bool:
    if _is_labelled(value):  # chunked, still in its file, or around an array
        return getattr(value, "chunks", None) is None and getattr(value, "_in_memory", True) is True
    return _is_table(value) or any(hasattr(value, way) for way in _IN_MEMORY)


def _free_memory() -> float | None:
    """Return the bytes that this process may still take without swapping; None if unknown."""
    limits = []
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            limits += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        pass
    try:
        with (
            open("/sys/fs/cgroup/memory.max", encoding="ascii") as most,
            open("/sys/fs/cgroup/memory.current", encoding="ascii") as used,
        ):
            limits.append(float(int(most.read()) - int(used.read())))
    except (OSError, ValueError):  # no such group, or no limit: "max"
        pass
    if not limits:
        try:
            limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
        except (AttributeError, ValueError, OSError):
            return None
    return min(limits)


def _is_labelled(value: Any) -> bool:
    """Tell whether this is an array with names of axes, as xarray has them.

    Its values are not asked for: one that is still in its file would read them.
    """
    has_values = hasattr(type(value), "values") or "values" in getattr(value, "__dict__", ())
    return has_values and hasattr(value, "dims") and hasattr(value, "copy")


def _is_table(value: Any) -> bool:
    """Tell whether this is a table or a column of one, as pandas has them."""
    return hasattr(value, "iloc") and hasattr(value, "index")


def wrap_of(x: Any) -> Wrap | None:
    """Return the function that turns a result into an array of `x`'s type and labels; None: an ndarray.

    Tensors of torch become tensors; arrays with labels as in xarray keep dimensions, coordinates and
    attributes; tables as in pandas keep index and columns; others go by ``__array_wrap__`` or the namespace
    of the array API standard. Results of several kernels are labelled ``"kernel"`` along their first axis.
    """
    if type(x) is np.ndarray or isinstance(x, (list, tuple, np.generic, np.memmap)):
        return None
    if isinstance(x, np.ndarray):
        return lambda result: x.__array_wrap__(result) if result.shape == x.shape else result
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch.from_numpy  # type: ignore[no-any-return]
    if _is_labelled(x):
        return lambda result: _labelled(x, result)
    if _is_table(x):
        return lambda result: _table(x, result)
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__().asarray  # type: ignore[no-any-return]
    if hasattr(x, "__array_wrap__"):
        return lambda result: x.__array_wrap__(result) if result.shape == x.shape else result
    return None


def _labelled(x: Any, result: Array) -> Any:
    if result.shape == tuple(x.shape):
        return x.copy(deep=False, data=result)
    if not hasattr(x, "coords"):
        return result
    return type(x)(result, coords=x.coords, dims=("kernel", *x.dims), name=x.name, attrs=x.attrs)


def _table(x: Any, result: Array) -> Any:
    if result.shape != tuple(x.shape):
        return result
    if result.ndim == 1:
        return type(x)(result, index=x.index, name=x.name)
    return type(x)(result, index=x.index, columns=x.columns)


def through(call: Callable[[Array, Any], Array], x: Any, output: Any, name: str = "x") -> Any:
    """Call a filter on an array that may be another library's.

    Parameters
    ----------
    call : callable
        Takes a plain ndarray and an output: None, a dtype or an ndarray. Returns the result, in the output if
        that is an array.
    x : array_like
    output : ndarray, other array, dtype, dtype name or None
    name : str, optional
        That of `x`, for messages.

    Returns
    -------
    array
        `output` itself if that is an array, else the kind that `x` is (see `wrap_of`).
    """
    source = read(name, x)
    target = output if output is None or isinstance(output, np.ndarray) else output_of(output)
    result = call(source, target)
    if result is target:
        return output
    wrap = wrap_of(x)
    return result if wrap is None else wrap(result)


def output_of(output: Any) -> Array | np.dtype[Any]:
    """Return the memory of an output array as an ndarray, or the dtype named.

    Raises
    ------
    TypeError
        It is an array without memory that NumPy can write into, or no array and no dtype at all.
    """
    if isinstance(output, np.ndarray):
        return output
    if isinstance(output, (str, bytes, type, np.dtype)) or not _is_array(output):
        return dtype_of("output", output)
    memory = _memory_of(output)
    if memory is None:
        raise TypeError(
            f"`output` is a {kind(output)}, whose memory NumPy cannot write into: the result would be lost. "
            "Pass a NumPy array or leave `output` out, and assign what is returned: "
            "out[...] = sp.gaussian(x, 1), say."
        )
    return memory


def dtype_of(name: str, dtype: Any) -> np.dtype[Any]:
    """Return the dtype of a dtype, its name, a scalar type, or a torch dtype of the same name."""
    named = str(dtype).removeprefix("torch.") if type(dtype).__name__ == "dtype" else dtype
    try:
        return np.dtype(named)
    except TypeError:
        fix = "pass a NumPy array to write into, or for example " if name == "output" else "pass for example "
        what = "neither an array, nor a dtype, nor the name of one" if name == "output" else "not a dtype"
        raise TypeError(f"`{name}={shown(dtype)}` is {what} ({fix}{name}='float32').") from None


def _is_array(value: Any) -> bool:
    if any(hasattr(value, way) for way in ("__array__", "shape", *_IN_MEMORY)):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _memory_of(output: Any) -> Array | None:
    """Return an ndarray over the memory of another library's array; None if it is not writeable.

    Whether it is that memory, and not a copy of it, is seen from reading twice: first from one corner, since
    what lies on disk or is still to be computed may be large.
    """
    try:
        return np.asarray(output) if _is_shared(_corner(output)) and _is_shared(output) else None
    except (TypeError, ValueError, RuntimeError):  # it has no numbers for NumPy
        return None


def _corner(output: Any) -> Any:
    """Return a corner of an array, or all of it where it has none."""
    axes = len(getattr(output, "shape", ()))
    if axes == 0 or _is_table(output):
        return output
    try:
        return output[(slice(0, 1),) * axes]
    except (TypeError, ValueError, LookupError):
        return output


def _is_shared(output: Any) -> bool:
    first, second = np.asarray(output), np.asarray(output)
    return first.flags.writeable and (first.size == 0 or np.shares_memory(first, second))
