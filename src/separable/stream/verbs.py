"""The verbs: plan a filter of an array larger than memory, or run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy.typing as npt

from .._base.numbers import as_whole
from .._base.words.messages import shown
from ..arrays import arguments
from ..arrays.masks import Nan
from ..arrays.output import Overflow, Rounding, check_names
from ..kernel.value import SeparableKernel
from .parted import plan_in_parts, request_of
from .places.table import open_source
from .stream_plan import Resume, Storage, StreamPlan, planned

__all__ = ["filter", "plan", "size_of"]

_UNITS: Final = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B?)\s*", re.IGNORECASE)


def plan(
    source: Any,
    kernel: SeparableKernel | npt.ArrayLike,
    *,
    target: Any = None,
    memory: str | int = "1GiB",
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    dtype: npt.DTypeLike | None = None,
    mask: Any = None,
    nan: Nan = "propagate",
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: Rounding = "nearest",
    overflow: Overflow = "saturate",
) -> StreamPlan:
    """Plan the correlation of an array that is read and written slab by slab.

    Nothing is filtered: print the plan to see what it reads, holds and writes, and `run` it.

    Parameters
    ----------
    source : path or array
        A path that ends in ``.npy``, ``.zarr``, ``.h5`` (``scan.h5/raw`` for one of several data sets),
        ``.nii``, ``.nii.gz``, ``.tif`` or ``.tiff``, or any object with ``shape``, ``dtype`` and slicing: of
        zarr, h5py, NumPy, Dask.
    kernel : SeparableKernel or array_like
        As in `sp.correlate`, with one axis for each filtered axis.
    target : path or array, optional
        Where the result goes: a path as above, or an array of its shape and dtype that takes slices. Slabs
        end where its chunks do. A folder of zarr gets the source's chunks and shards, an image what its
        format holds of the source's metadata.
    memory : str or int, optional
        What the process may take at most, with the interpreter: bytes, or ``"300MiB"``.
    mode, cval, origin, axes, tol, threads, rounding, overflow, nan : optional
        As in `sp.correlate`.
    dtype : dtype, optional
        Of the result; as `sp.correlate` gives it by default.
    mask : path or array of bool, optional
        True where the source is known, of uint8 what is not 0: of the source's shape.
    method : optional
        As in `sp.correlate`. By default the fastest for the whole array among those by which slabs have the
        bits of the whole: transforms do not, nor sums of cosines, cascades, and shapes of floats by running
        sums.

    Returns
    -------
    StreamPlan

    Raises
    ------
    ValueError
        An argument is out of its range; `memory` is too small; slabs by `method` would have other bits;
        source and target lie along different axes. `FileError`, of this kind, where a file is damaged, or
        cannot hold the result.
    TypeError
        `source` or `target` is no path and no array.
    FileNotFoundError
        There is no such source, or no folder for the target.
    MissingExtraError
        What reads or writes the format is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> volume = np.zeros((200, 64, 64), np.float32)  # or "scan.zarr"
    >>> p = sp.stream.plan(volume, sp.families.gaussian([2.0, 2.0, 2.0]), memory="4GiB")
    >>> p.method, p.bytes_read == p.bytes_written == volume.nbytes
    ('separable', True)
    """
    limit = size_of(memory)
    check_names(rounding, overflow)
    opened = open_source(source)
    shape, samples = opened.shape, opened.dtype
    opened.close()
    stored, request = request_of(
        shape, samples, dtype, (mode, cval, origin, axes, tol, method), mask, nan, rounding
    )
    chosen, passed_over = plan_in_parts(kernel, request, threads)
    result = chosen.dtype if stored is None else stored
    clips = stored is not None and chosen.clips((samples, stored, rounding), request.masked)
    storage = Storage(result, mask, nan, rounding, overflow, clips)
    return planned(source, target, chosen, storage, limit, threads, passed_over)


def filter(
    source: Any,
    target: Any,
    kernel: SeparableKernel | npt.ArrayLike,
    *,
    memory: str | int = "1GiB",
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    dtype: npt.DTypeLike | None = None,
    mask: Any = None,
    nan: Nan = "propagate",
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: Rounding = "nearest",
    overflow: Overflow = "saturate",
    resume: Resume = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Correlate an array that is read and written slab by slab, in memory that is bounded.

    Parameters
    ----------
    source, target, kernel, memory, mode, cval, origin, axes, dtype, mask, nan, tol, method : optional
        As in `plan`.
    threads, rounding, overflow : optional
        As in `sp.correlate`.
    resume, progress : optional
        As in `StreamPlan.run`.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, MissingExtraError
        As `plan`.
    FileExistsError, JournalError, OSError
        As `StreamPlan.run`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> volume = np.random.default_rng(0).random((100, 32, 32), np.float32)
    >>> smooth = np.empty_like(volume)
    >>> kernel = sp.families.gaussian([2.0, 2.0, 2.0])
    >>> sp.stream.filter(volume, smooth, kernel, memory="4GiB")
    >>> bool((smooth == sp.correlate(volume, kernel)).all())
    True
    """
    asked: dict[str, Any] = {"mode": mode, "cval": cval, "origin": origin, "axes": axes, "dtype": dtype}
    asked |= {"mask": mask, "nan": nan, "tol": tol, "method": method, "threads": threads}
    asked |= {"rounding": rounding, "overflow": overflow}
    plan(source, kernel, target=target, memory=memory, **asked).run(resume=resume, progress=progress)


def size_of(memory: str | int) -> int:
    """Return a size in bytes: a whole number, or text such as ``"1GiB"``, with powers of 1024 for all units.

    Raises
    ------
    ValueError
        It is neither.
    """
    if isinstance(memory, str) and (match := _SIZE.fullmatch(memory)):
        return int(float(match[1]) * _UNITS[match[2].upper()])
    number = as_whole(memory)
    if number is None or number <= 0:
        raise ValueError(f"`memory={shown(memory)}` is no size; expected bytes, or text such as '300MiB'.")
    return number
