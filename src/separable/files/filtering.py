"""A kernel applied to an image from a file: over space, frame by frame, with opacity respected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from separable._arguments import promoted_dtype, working_dtype
from separable._storing import store
from separable.kernel import SeparableKernel
from separable.plan import Plan, plan

from .image import Array, Image


@dataclass(frozen=True)
class Setting:
    """How a kernel is applied, as in `separable.correlate`."""

    axes: tuple[int, ...]
    mode: str | Sequence[str] = "reflect"
    cval: float = 0.0
    origin: int | Sequence[int] = 0
    tol: float | None = None
    threads: int | None = None

    def plan(self, kernel: SeparableKernel | Array, data: Array, dtype: np.dtype[Any], cval: float) -> Plan:
        """Prepare the correlation of arrays like `data`."""
        return plan(
            kernel,
            data.shape,
            dtype,
            mode=self.mode,
            cval=cval,
            origin=self.origin,
            axes=self.axes,
            tol=self.tol,
            threads=self.threads,
        )


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype a filtered image is stored in: integers stay what they are."""
    return dtype.newbyteorder("=") if dtype.kind in "iu" else working_dtype(dtype)


def filtered(
    image: Image,
    kernel: SeparableKernel | npt.ArrayLike,
    setting: Setting,
    dtype: np.dtype[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Image, Plan]:
    """Correlate an image with a kernel.

    Integer results are rounded and saturated. Where the image has opacity and the kernel is an
    average (no negative taps, sum 1), colours are weighted by it and it is filtered too, so that
    what is transparent does not bleed; with any other kernel opacity stays as it was.

    Parameters
    ----------
    image : Image
    kernel : SeparableKernel or array_like
        One axis for each of ``setting.axes``.
    setting : Setting
    dtype : dtype, optional
        Of the result; by default integers stay what they are and floats are filtered in float.
    progress : callable, optional
        Called with (frames done, frames in all) after each frame.

    Returns
    -------
    Image
        As `image`, with other samples.
    Plan
        How one frame was filtered.

    Raises
    ------
    ValueError, TypeError
        As `separable.correlate`.
    """
    weights = kernel if isinstance(kernel, SeparableKernel) else np.asarray(kernel)
    target = result_dtype(image.data.dtype) if dtype is None else dtype
    if image.alpha:
        data, made = _with_opacity(image.data, image.axes.index("S"), weights, setting, target)
    else:
        data, made = _frames(image.data, weights, setting, target, progress)
    return replace(image, data=data), made


def _frames(
    data: Array,
    kernel: SeparableKernel | Array,
    setting: Setting,
    dtype: np.dtype[Any],
    progress: Callable[[int, int], None] | None,
) -> tuple[Array, Plan]:
    outer = _outer_axis(data, setting.axes)
    result = np.empty_like(
        data, dtype=dtype
    )  # in the memory order of `data`: NIfTI's first axis is contiguous
    frames = np.moveaxis(data, outer, 0) if outer is not None else data[np.newaxis]
    results = np.moveaxis(result, outer, 0) if outer is not None else result[np.newaxis]
    inner = setting
    if outer is not None:
        inner = replace(setting, axes=tuple(axis - (axis > outer) for axis in setting.axes))
    run = inner.plan(kernel, frames[0], promoted_dtype(data.dtype, dtype), setting.cval)
    for done, (frame, place) in enumerate(zip(frames, results, strict=True), start=1):
        run(frame, output=place)
        if progress is not None:
            progress(done, len(frames))
    return result, run


def _outer_axis(data: Array, axes: tuple[int, ...]) -> int | None:
    """Return the axis to go along frame by frame: not filtered, and outermost in memory."""
    strides = [abs(step) if length > 1 else 0 for step, length in zip(data.strides, data.shape, strict=True)]
    outer = max(range(data.ndim), key=strides.__getitem__, default=None)
    return None if outer is None or outer in axes or data.size == 0 or data.shape[outer] == 1 else outer


def _with_opacity(
    data: Array, samples: int, kernel: SeparableKernel | Array, setting: Setting, dtype: np.dtype[Any]
) -> tuple[Array, Plan]:
    if samples in setting.axes:
        raise ValueError(
            f"`axes={setting.axes}`: axis {samples} holds colours and opacity, which do not mix."
        )
    values = data.astype(working_dtype(promoted_dtype(data.dtype, dtype)))
    colours, opacity = np.split(values, [data.shape[samples] - 1], axis=samples)
    full = np.iinfo(data.dtype).max if data.dtype.kind in "iu" else 1.0
    run = setting.plan(kernel, colours, colours.dtype, setting.cval)
    if _averages(kernel):
        # Outside the picture is opaque and has the colour cval.
        opacity_run = setting.plan(kernel, opacity, opacity.dtype, float(full))
        blurred = opacity_run(opacity)
        weighted = run(colours * (opacity / full)) * full
        colours = np.divide(weighted, blurred, out=np.zeros_like(weighted), where=blurred > 0)
        opacity = blurred
    else:
        colours = run(colours)
    result = np.empty_like(data, dtype=dtype)
    store(np.concatenate([colours, opacity], axis=samples), result)
    return result, run


def _averages(kernel: SeparableKernel | Array) -> bool:
    if isinstance(kernel, SeparableKernel):
        return all(np.all(taps >= 0) for term in kernel.terms for taps in term) and _is_one(
            weight_sum(kernel)
        )
    return bool(np.all(kernel >= 0)) and _is_one(weight_sum(kernel))


def weight_sum(kernel: SeparableKernel | Array) -> float:
    """Return the sum of a kernel's weights: what it makes of a constant image of ones."""
    if isinstance(kernel, SeparableKernel):
        return math.fsum(math.prod(float(taps.sum()) for taps in term) for term in kernel.terms)
    return float(np.sum(kernel))


def _is_one(total: float) -> bool:
    return math.isclose(total, 1.0, rel_tol=1e-6)
