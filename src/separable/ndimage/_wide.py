"""Filters in long double, which the compiled core does not compute in: one weighted sum per tap.

Right to the last bits, and slow: every tap is a pass over the array.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._base.types import Array
from ..arrays import arguments
from ..arrays.boundaries import continued
from ..kernel.value import SeparableKernel


def correlate(
    x: Array,
    kernel: SeparableKernel | Array,
    *,
    mode: str | Sequence[str],
    cval: complex,
    axes: int | Sequence[int] | None = None,
    origin: int | Sequence[int] = 0,
) -> Array:
    """Correlate `x` with a kernel in long double.

    Parameters
    ----------
    x : ndarray
        Real or complex.
    kernel : SeparableKernel or ndarray
        One axis for each filtered axis.
    mode, cval, axes, origin
        As in `separable.correlate`, valid.

    Returns
    -------
    ndarray
        longdouble or clongdouble, the shape of `x`.
    """
    where = arguments.filtered_axes(axes, x.ndim)
    modes = arguments.boundary_modes(mode, where)
    offsets = arguments.origins(origin, where, kernel.shape)
    values = x.astype(np.promote_types(x.dtype, np.longdouble))
    if not isinstance(kernel, SeparableKernel):
        return _sum(values, kernel, where, modes, offsets, cval)
    total = np.zeros_like(values)
    for term in kernel.terms:
        part, outside = values, cval
        for taps, axis, name, offset in zip(term, where, modes, offsets, strict=True):
            part = _sum(part, taps, (axis,), (name,), (offset,), outside)
            outside *= float(taps.sum())
        total += part
    return total


def _sum(
    x: Array,
    weights: Array,
    axes: Sequence[int],
    modes: Sequence[str],
    origins: Sequence[int],
    cval: complex,
) -> Array:
    """Return ``sum_k weights[k] x[i + k - n // 2 - origin]`` over the axes that `weights` has."""
    if x.size == 0:
        return np.zeros_like(x)
    extended = x
    for axis, count, mode, origin in zip(axes, weights.shape, modes, origins, strict=True):
        before = count // 2 + origin
        extended = continued(extended, axis, before, count - 1 - before, mode, cval)
    total = np.zeros_like(x)
    for place in itertools.product(*map(range, weights.shape)):
        if weights[place]:
            window: list[Any] = [slice(None)] * x.ndim
            for axis, start in zip(axes, place, strict=True):
                window[axis] = slice(start, start + x.shape[axis])
            total += weights[place] * extended[tuple(window)]
    return total
