"""The verbs: plan a filter of an array larger than memory, or run it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .._base.numbers import as_whole
from .._base.words.messages import shown
from ..arrays import arguments
from ..arrays.masks import Nan
from ..arrays.output import Overflow, Rounding, check_names
from ..kernel.value import SeparableKernel
from .ome.geometry import Pyramid, Reduction
from .parted import plan_in_parts, request_of
from .places.table import open_source
from .stream_plan import Resume, Storage, StreamPlan, planned

__all__ = ["filter", "plan", "pyramid", "size_of"]

_UNITS: Final = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?B?)\s*", re.IGNORECASE)


def plan(
    source: Any,
    kernel: SeparableKernel | npt.ArrayLike | None,
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
    pyramid: int | None = 0,
    reduction: Reduction = "mean",
    isotropic: bool = False,
) -> StreamPlan:
    """Plan the correlation of an array that is read and written slab by slab.

    Nothing is filtered: print the plan to see what it reads, holds and writes, and `run` it.

    Parameters
    ----------
    source : path or array
        A path that ends in ``.npy``, ``.zarr``, ``.h5`` (``scan.h5/raw`` for one of several data sets),
        ``.nii``, ``.nii.gz``, ``.tif`` or ``.tiff``, or any object with ``shape``, ``dtype`` and slicing: of
        zarr, h5py, NumPy, Dask. Of an OME-Zarr picture the largest level is read.
    kernel : SeparableKernel, array_like or None
        As in `sp.correlate`, with one axis for each filtered axis; None: samples stay as they are.
    target : path or array, optional
        Where the result goes: a path as above, or an array of its shape and dtype that takes slices. Slabs
        end where its chunks do. A folder of zarr gets the source's chunks and shards, an image what its
        format holds of the source's metadata. ``.ome.zarr`` is a picture (OME-NGFF 0.5) with axes, units,
        scale and translation of the source.
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
    pyramid : int or None, optional
        How many smaller levels are made with the result, which is then an OME-Zarr picture; None: until the
        smallest fits into a chunk.
    reduction, isotropic : optional
        As in `pyramid`.

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
    asked = mode, cval, origin, axes, tol, method
    levels = _levels(pyramid, reduction, isotropic)
    return _plan(
        source, kernel, target, memory, asked, dtype, threads, (mask, nan, rounding, overflow), levels
    )


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


def pyramid(
    source: Any,
    target: Any,
    *,
    levels: int | None = None,
    kernel: SeparableKernel | npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
    isotropic: bool = False,
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
    """Write an array of any size as an OME-Zarr picture with smaller levels, filtered first if asked for.

    The source is read once: all levels are made of a slab while it is in memory. Each level has half the
    samples of the one before along each axis of space that is longer than 1, and one more where their number
    is odd.

    Parameters
    ----------
    source : path or array
        As in `plan`.
    target : path
        A folder that is to be, ``.ome.zarr`` or ``.zarr``. It holds the levels as arrays ``0``, ``1`` and so
        on, and OME-NGFF 0.5 metadata with axes, units, scale and translation of the source.
    levels : int, optional
        With the whole picture; by default as many as it takes until the smallest fits into a chunk.
    kernel : SeparableKernel or array_like, optional
        What the samples are filtered by first; as they are by default, and in their dtype.
    reduction : {"mean", "sample"}, optional
        Samples of level k are means of those of level 0, as stored, that they stand for: of integers exact
        and rounded once, halves to even; of floats in float64. They lie in the middle of these, which the
        translation says. Or they are every 2**k-th sample of level 0, where these lie: for kernels that
        leave nothing finer than that.
    isotropic : bool, optional
        Leave axes alone whose samples lie twice as far apart as those of the finest axis, or farther, until
        the others have caught up.
    memory, mode, cval, origin, axes, dtype, mask, nan, tol, method : optional
        As in `plan`.
    threads, rounding, overflow : optional
        As in `sp.correlate`.
    resume, progress : optional
        As in `StreamPlan.run`.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError, MissingExtraError
        As `plan`; there are not so many levels.
    FileExistsError, JournalError, OSError
        As `StreamPlan.run`.

    See Also
    --------
    plan : With ``pyramid=``, says before what all of it takes.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import separable as sp
    >>> folder = tempfile.TemporaryDirectory()
    >>> target = Path(folder.name) / "scan.ome.zarr"
    >>> scan = np.random.default_rng(0).integers(0, 900, (96, 64, 50), np.uint16)
    >>> sp.stream.pyramid(scan, target, levels=3, memory="4GiB")
    >>> import zarr
    >>> [zarr.open(target / name, mode="r").shape for name in "012"]
    [(96, 64, 50), (48, 32, 25), (24, 16, 13)]
    >>> folder.cleanup()
    """
    made, asked = Pyramid(levels, reduction, isotropic), (mode, cval, origin, axes, tol, method)
    made.check()
    known = mask, nan, rounding, overflow
    planned = _plan(source, kernel, target, memory, asked, dtype, threads, known, made)
    planned.run(resume=resume, progress=progress)


def _plan(
    source: Any,
    kernel: SeparableKernel | npt.ArrayLike | None,
    target: Any,
    memory: str | int,
    asked: tuple[Any, ...],
    dtype: npt.DTypeLike | None,
    threads: int | None,
    known: tuple[Any, ...],
    levels: Pyramid | None,
) -> StreamPlan:
    """Return the plan of a filter, or of a copy where there is no kernel."""
    mask, nan, rounding, overflow = known
    limit = size_of(memory)
    check_names(rounding, overflow)
    opened = open_source(source)
    shape, samples = opened.shape, opened.dtype
    opened.close()
    copied = kernel is None
    if kernel is None:
        if mask is not None or nan != "propagate":
            raise ValueError("masks and nan='omit' go with a kernel, and there is none; pass one.")
        kernel, asked = SeparableKernel([[np.ones(1)]]), ("reflect", 0.0, 0, 0, None, "auto")
        dtype = samples if dtype is None else dtype
    stored, request = request_of(shape, samples, dtype, asked, mask, nan, rounding)
    chosen, passed_over = plan_in_parts(kernel, request, threads)
    result = chosen.dtype if stored is None else stored
    clips = stored is not None and chosen.clips((samples, stored, rounding), request.masked)
    storage = Storage(result, mask, nan, rounding, overflow, clips and not copied, copied, levels)
    return planned(source, target, chosen, storage, limit, threads, passed_over)


def _levels(pyramid: int | None, reduction: Reduction, isotropic: bool) -> Pyramid | None:
    """Return the levels that a target is to have; None where it need not be a picture."""
    smaller = None if pyramid is None else as_whole(pyramid)
    if pyramid is not None and (smaller is None or smaller < 0):
        raise ValueError(f"`pyramid={shown(pyramid)}` is no number of smaller levels; expected 0 or more.")
    levels = Pyramid(None if smaller is None else smaller + 1, reduction, isotropic)
    levels.check()
    return None if smaller == 0 else levels


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
