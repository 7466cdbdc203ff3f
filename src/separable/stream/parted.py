"""The plan of an array in parts: what the verb asks in memory, by a method whose parts have its bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import arguments
from ..arrays.output import Rounding
from ..filters.plan import Plan, build
from ..filters.request import Request
from ..kernel.value import SeparableKernel


def request_of(
    shape: tuple[int, ...],
    samples: np.dtype[Any],
    dtype: npt.DTypeLike | None,
    asked: tuple[Any, ...],
    mask: Any,
    nan: str,
    rounding: Rounding,
) -> tuple[np.dtype[Any] | None, Request]:
    """Return the dtype of the result, if it was named, and the request that the verb in memory would make."""
    working = arguments.working_dtype(samples)
    stored = None if dtype is None else arguments.dtype_of("dtype", dtype)
    if stored is not None:
        working = arguments.stored_in(working, stored)
    mode, cval, origin, axes, tol, method = asked
    mode, cval, origin, axes, tol = arguments.plain(mode, cval, origin, axes, tol, working)
    masked = mask is not None or (nan == "omit" and (samples.kind in "fc" or cval != cval))
    integers = (samples, stored, rounding) if stored is not None and stored.kind in "biu" else None
    return stored, Request(
        *(shape, working, mode, cval, origin, axes, tol, method, False),
        whole=samples.kind in "biu",
        masked=masked,
        integers=integers,
    )


def plan_in_parts(
    kernel: SeparableKernel | npt.ArrayLike, request: Request, threads: int | None
) -> tuple[Plan, str | None]:
    """Return the plan by a method for arrays in parts, and what is said of the one passed over."""
    if not isinstance(kernel, SeparableKernel):
        kernel = arguments.input_array(kernel, "kernel")
        if kernel.dtype.kind == "c":
            raise ValueError("`kernel` is complex; filter by its real and its imaginary part.")
    alone = build(kernel, request, threads)
    reason = alone.differs_in_parts
    if reason is None or request.method not in (None, "auto"):
        return build(kernel, request, threads, parted=True), None
    return build(kernel, request, threads, parted=True), f"not {alone.method}, which {reason}"
