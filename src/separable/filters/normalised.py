"""Normalised convolution: what is unknown is left out, and sums divided by the weights of what is known.

Where little is known weights underflow: results are then computed again in float64, or in numbers that
have an exponent of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from .._base.types import Array
from ..arrays.masks import Known, MaskedSums, smallest
from ..arrays.output import AS_IS, Storing, store
from ..methods.method import Runnable, Setting
from .core import Jobs, bounded, converts, new_array, run
from .hardly_known import normalised
from .levels import Floors, Levels


class Normalisable(Protocol):
    """A plan, as far as normalising needs it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _setting: Setting
    _form: Runnable
    _jobs: Jobs
    _levels: Levels
    _task: Any

    def normaliser(self, dtype: np.dtype[Any], cval: complex) -> Callable[..., Array]:
        """Return the plan that sums samples, or what is known of them, in `dtype`."""

    def _other(self, **changes: Any) -> Normalisable: ...


def normalise(plan: Any, source: Array, result: Array, threads: int, how: Storing, known: Known) -> None:
    """Filter what is known of `source` into `result`; where little of it is known, more carefully.

    Parameters
    ----------
    plan : Plan
        Made for samples that are unknown.
    source, result : ndarray
        Of the plan's shape; its jobs read `source`.
    threads : int
    how : Storing
    known : Known
    """
    filtered: Normalisable = plan
    floors = filtered._levels.floors(filtered._setting.computed.itemsize)
    direct = converts(result, filtered.dtype)
    if not filtered._form.takes_masks:
        sums = _sums_apart(filtered, source, known, threads)
        exact = how.exact and how.rounding == "truncate" and result.dtype.kind in "biu"
        values = sums.normalised(filtered._levels.total, how.error if exact else 0.0)
        weak = bool(sums.weak(filtered._levels.total, *floors).any())
        direct = False
    else:
        values = result if direct else new_array(filtered.shape, filtered.dtype)
        weak = run(filtered._jobs, filtered.dtype, source, values, threads, how, known, floors)
        if not direct:
            how = how._replace(divisor=1.0, exact=False)
    if not direct:
        store(values, result, bounded(how, source, result.dtype, threads, known))
    if weak:
        _mend(filtered, source, result, threads, how._replace(divisor=1.0, exact=False), known, floors)


def _sums_apart(plan: Normalisable, source: Array, known: Known, threads: int) -> MaskedSums:
    """Filter samples, 0 where unknown, by the plan's own jobs, and what is known and what is not."""
    wide = np.promote_types(plan.dtype, plan._setting.computed)
    samples = np.where(known.of(source), source, 0).astype(wide)
    jobs = (plan if known.outside else plan._other(cval=0j))._jobs
    values = new_array(plan.shape, wide)
    run(jobs, wide, samples, values, threads, AS_IS, None, divides=plan._form.divides)
    return MaskedSums(values, *_weights(plan, source, known, wide, threads))


def _sums(plan: Normalisable, source: Array, known: Known, dtype: np.dtype[Any], threads: int) -> MaskedSums:
    """Filter samples with 0 for what is unknown, what is known and what is not, all in `dtype`."""
    samples = np.where(known.of(source), source, 0).astype(dtype)
    cval = plan._setting.cval if known.outside else 0.0
    values = plan.normaliser(dtype, cval)(samples, threads=threads)
    return MaskedSums(values, *_weights(plan, source, known, dtype, threads))


def _weights(
    plan: Normalisable, source: Array, known: Known, dtype: np.dtype[Any], threads: int
) -> tuple[Array, Array]:
    """Return the weights of what is known in reach of each result, and of what is not."""
    there, real = known.of(source), np.dtype(dtype.char.lower())
    return (
        plan.normaliser(real, float(known.outside))(there.astype(real), threads=threads),
        plan.normaliser(real, float(not known.outside))((~there).astype(real), threads=threads),
    )


def _mend(
    plan: Normalisable,
    source: Array,
    result: Array,
    threads: int,
    how: Storing,
    known: Known,
    floors: Floors,
) -> None:
    """Put right results of which so little is known that it underflows: in float64, or beyond that."""
    levels, there, setting = plan._levels, known.of(source), plan._setting
    cval = setting.cval if known.outside and setting.padded else 0.0
    least = smallest(source, there, cval)
    if not floors.least and least * levels.least >= floors.small:  # samples are 0, and so are results
        return
    wide = np.dtype(np.complex128 if plan.dtype.kind == "c" else np.float64)
    sums = _sums(plan, source, known, wide, threads)
    weak = sums.weak(levels.total, *floors)
    better = sums.normalised(levels.total)
    further = levels.floors(8)
    if further.least or least * levels.least < further.small:
        poor = weak & sums.weak(levels.total, *further)
        if poor.any():
            mean = normalised(source, known, plan._task.kernel, setting)
            better[poor] = (levels.total * mean)[poor]
    mended = np.empty(int(np.count_nonzero(weak)), result.dtype)
    store(better[weak], mended, bounded(how, source, result.dtype, threads, known))
    result[weak] = mended
