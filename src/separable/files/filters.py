"""A kernel applied to an image from a file: frame by frame, with opacity and unknown samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .._base.types import Array
from ..arrays.arguments import Method, promoted_dtype, working_dtype
from ..arrays.masks import Nan
from ..arrays.output import store
from ..filters.plan import Plan, plan
from ..kernel.value import SeparableKernel
from . import unknown
from .image import Image
from .unknown import Knowledge


@dataclass(frozen=True, eq=False)
class FilterOptions:
    """How a kernel is applied, as in `separable.correlate`; `mask` broadcasts to the image.

    Examples
    --------
    >>> from separable.files import FilterOptions
    >>> FilterOptions(axes=(0, 1), mode="nearest").nan
    'propagate'
    """

    axes: tuple[int, ...]
    mode: str | Sequence[str] = "reflect"
    cval: float = 0.0
    origin: int | Sequence[int] = 0
    tol: float | None = None
    threads: int | None = None
    mask: Array | None = None
    nan: Nan = "propagate"

    def plan(
        self,
        kernel: SeparableKernel | Array,
        data: Array,
        dtype: np.dtype[Any],
        cval: float,
        complete: bool = True,
    ) -> Plan:
        """Prepare the correlation of arrays like `data`; where not `complete`, some samples are unknown."""
        made = self._plan(kernel, data, dtype, cval, "auto")
        if complete or made.method == "direct" or (made.terms == 1 and made.method != "recursive"):
            return made
        # With unknown samples a plan would change to this method when it runs; chosen here, its description
        # shows it.
        one = isinstance(kernel, SeparableKernel) and kernel.rank == 1
        runs: Method = "separable" if one or made.method == "recursive" else "direct"
        return self._plan(kernel, data, dtype, cval, runs)

    def _plan(
        self,
        kernel: SeparableKernel | Array,
        data: Array,
        dtype: np.dtype[Any],
        cval: float,
        method: Method,
    ) -> Plan:
        return plan(
            kernel,
            data.shape,
            dtype,
            mode=self.mode,
            cval=cval,
            origin=self.origin,
            axes=self.axes,
            tol=self.tol,
            method=method,
            threads=self.threads,
        )


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a filtered image: integers keep theirs.

    Examples
    --------
    >>> import numpy as np
    >>> from separable import files
    >>> files.result_dtype(np.dtype("uint8")), files.result_dtype(np.dtype("float16"))
    (dtype('uint8'), dtype('float32'))
    """
    return dtype.newbyteorder("=") if dtype.kind in "iu" else working_dtype(dtype)


def filtered(
    image: Image,
    kernel: SeparableKernel | npt.ArrayLike,
    setting: FilterOptions,
    dtype: np.dtype[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Image, Plan]:
    """Correlate an image with a kernel.

    Integer results are rounded and saturated. Where the image has opacity and the kernel is an
    average (no negative taps, sum 1), colours are weighted by it and it is filtered too, so that
    what is transparent does not bleed; with any other kernel opacity stays as it was.

    What is unknown is left out, as in `separable.correlate`: where ``setting.mask`` is False, NaN if
    ``setting.nan`` is "omit", and samples that are ``image.nodata``. A pixel with opacity is unknown as a
    whole: if one of its samples is masked or NaN, or if all its colours are the no-data value. Where nothing
    in reach is known the result is ``image.nodata``; without it NaN, and in integers 0. Opacity is 0 there.

    Parameters
    ----------
    image : Image
    kernel : SeparableKernel or array_like
        One axis for each of ``setting.axes``.
    setting : FilterOptions
    dtype : dtype, optional
        Of the result; by default integers stay what they are and floats are filtered in float.
    progress : callable, optional
        Called with (frames done, frames in all) before the first and after each; colours and the opacity
        that weights them are two.

    Returns
    -------
    Image
        As `image`, with other samples, and notes on what is unknown in them.
    Plan
        How one frame was filtered.

    Raises
    ------
    ValueError, TypeError
        As `separable.correlate`; ValueError if the result's dtype has no such value as ``image.nodata``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> import separable as sp
    >>> smooth, plan = files.filtered(files.read(path), sp.families.box(3), files.FilterOptions(axes=(0, 1)))
    >>> smooth.data.shape, plan.taps
    ((3, 4), (3, 3))
    >>> folder.cleanup()
    """
    weights = kernel if isinstance(kernel, SeparableKernel) else np.asarray(kernel)
    target = result_dtype(image.data.dtype) if dtype is None else dtype
    known = unknown.knowledge(image, setting.mask, setting.nan)
    if not known.complete and image.nodata is not None and not unknown.representable(image.nodata, target):
        raise ValueError(
            f"`dtype={target.name}` has no value {image.nodata:g}, which is what unknown samples are; "
            "choose a dtype that has."
        )
    if image.alpha:
        data, made, empty = _with_opacity(image, weights, setting, target, known, progress)
    else:
        data, made, empty = _frames(image, weights, setting, target, known, progress)
    # Colours with opacity are unknown together, or not at all: one of them may be any value.
    notes = unknown.notes(data, None if image.alpha else image.nodata, 0 if image.alpha else empty)
    return replace(image, data=data, notes=(*image.notes, *notes)), made


def _frames(
    image: Image,
    kernel: SeparableKernel | Array,
    setting: FilterOptions,
    dtype: np.dtype[Any],
    known: Knowledge,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Plan, int]:
    """Return the image filtered frame by frame, the plan, and the number of results without known samples."""
    data = image.data
    outer = _outer_axis(data, setting.axes)
    result = np.empty_like(data, dtype=dtype)  # in memory order of `data`: NIfTI's first axis is contiguous

    def split(array: Array) -> Array:
        return np.moveaxis(array, outer, 0) if outer is not None else array[np.newaxis]

    frames, results = split(data), split(result)
    masks = None if known.mask is None else split(np.broadcast_to(known.mask, data.shape))
    inner = setting
    if outer is not None:
        inner = replace(setting, axes=tuple(axis - (axis > outer) for axis in setting.axes))
    run = inner.plan(
        kernel, frames[0], promoted_dtype(data.dtype, dtype), setting.cval, complete=known.complete
    )
    empty = 0
    if progress is not None:
        progress(0, len(frames))
    for number, (frame, place) in enumerate(zip(frames, results, strict=True)):
        here = known._replace(mask=None if masks is None else masks[number])
        empty += unknown.filter_known(run, frame, place, here, image.nodata)
        if progress is not None:
            progress(number + 1, len(frames))
    return result, run, empty


def _outer_axis(data: Array, axes: tuple[int, ...]) -> int | None:
    """Return the axis of the frames: outermost in memory, if it is not filtered; else None."""
    strides = [abs(step) if length > 1 else 0 for step, length in zip(data.strides, data.shape, strict=True)]
    outer = max(range(data.ndim), key=strides.__getitem__, default=None)
    return None if outer is None or outer in axes or data.size == 0 or data.shape[outer] == 1 else outer


def _with_opacity(
    image: Image,
    kernel: SeparableKernel | Array,
    setting: FilterOptions,
    dtype: np.dtype[Any],
    known: Knowledge,
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Plan, int]:
    data, samples = image.data, image.axes.index("S")
    if samples in setting.axes:
        raise ValueError(
            f"`axes={setting.axes}`: axis {samples} holds colours and opacity, which do not mix."
        )
    values = data.astype(working_dtype(promoted_dtype(data.dtype, dtype)))
    colours, opacity = np.split(values, [data.shape[samples] - 1], axis=samples)
    full = np.iinfo(data.dtype).max if data.dtype.kind in "iu" else 1.0
    run = setting.plan(kernel, colours, colours.dtype, setting.cval, complete=known.complete)
    averages = _averages(kernel)
    done = progress or (lambda done, total: None)
    done(0, 1 + averages)
    source = colours * (opacity / full) if averages else colours
    filtered_colours = run(source, mask=known.mask)
    unknown_results = unknown.without_known(run, source, filtered_colours, known)
    colours = filtered_colours
    done(1, 1 + averages)
    if averages:
        # Padding is opaque and has the colour cval.
        opacity_run = setting.plan(kernel, opacity, opacity.dtype, float(full), complete=known.complete)
        opacity = opacity_run(opacity, mask=known.mask)
        colours = np.divide(
            filtered_colours * full, opacity, out=np.zeros_like(filtered_colours), where=opacity > 0
        )
    if unknown_results is not None:
        colours[unknown_results] = np.nan if image.nodata is None else image.nodata
        opacity[np.take(unknown_results, [0], axis=samples)] = 0
    result = np.empty_like(data, dtype=dtype)
    store(np.concatenate([colours, opacity], axis=samples), result)
    return result, run, 0 if unknown_results is None else int(np.count_nonzero(unknown_results))


def _averages(kernel: SeparableKernel | Array) -> bool:
    if isinstance(kernel, SeparableKernel):
        return all(np.all(taps >= 0) for term in kernel.terms for taps in term) and _is_one(
            weight_sum(kernel)
        )
    return bool(np.all(kernel >= 0)) and _is_one(weight_sum(kernel))


def weight_sum(kernel: SeparableKernel | Array) -> float:
    """Return the sum of a kernel's weights: its result on a constant image of ones.

    Examples
    --------
    >>> import separable as sp
    >>> from separable import files
    >>> round(files.weight_sum(sp.families.gaussian(2)), 12), files.weight_sum(sp.families.sobel())
    (1.0, 0.0)
    """
    if isinstance(kernel, SeparableKernel):
        return math.fsum(math.prod(float(taps.sum()) for taps in term) for term in kernel.terms)
    return float(np.sum(kernel))


def _is_one(total: float) -> bool:
    return math.isclose(total, 1.0, rel_tol=1e-6)
