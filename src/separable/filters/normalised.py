"""Normalised convolution: unknown samples are left out, and sums divided by the known weights.

Where few samples are known, weights may underflow: such results are computed again in float64, or with
separate exponents (`hardly_known`).
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
    """The part of a plan that normalised convolution uses."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _setting: Setting
    _form: Runnable
    _jobs: Jobs
    _levels: Levels
    _task: Any

    def normaliser(self, dtype: np.dtype[Any], cval: complex) -> Callable[..., Array]:
        """Return the plan that sums samples, or masks, in `dtype`."""

    def _other(self, **changes: Any) -> Normalisable: ...


def normalise(plan: Any, source: Array, result: Array, threads: int, how: Storing, known: Known) -> None:
    """Filter the known samples of `source` into `result`; compute results again where weights underflow.

    Parameters
    ----------
    plan : Plan
        A plan for unknown samples.
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
    """Return the samples (0 where unknown) filtered by the plan's jobs, and both masks filtered."""
    accumulator = np.promote_types(plan.dtype, plan._setting.computed)
    samples = np.where(known.of(source), source, 0).astype(accumulator)
    jobs = (plan if known.outside else plan._other(cval=0j))._jobs
    values = new_array(plan.shape, accumulator)
    run(jobs, accumulator, samples, values, threads, AS_IS, None, divides=plan._form.divides)
    return MaskedSums(values, *_weights(plan, source, known, accumulator, threads))


def _sums(plan: Normalisable, source: Array, known: Known, dtype: np.dtype[Any], threads: int) -> MaskedSums:
    """Return the samples (0 where unknown) and both masks filtered in `dtype`."""
    samples = np.where(known.of(source), source, 0).astype(dtype)
    cval = plan._setting.cval if known.outside else 0.0
    values = plan.normaliser(dtype, cval)(samples, threads=threads)
    return MaskedSums(values, *_weights(plan, source, known, dtype, threads))


def _weights(
    plan: Normalisable, source: Array, known: Known, dtype: np.dtype[Any], threads: int
) -> tuple[Array, Array]:
    """Return the sums of the weights of known and of unknown samples at each result."""
    mask, real = known.of(source), np.dtype(dtype.char.lower())
    return (
        plan.normaliser(real, float(known.outside))(mask.astype(real), threads=threads),
        plan.normaliser(real, float(not known.outside))((~mask).astype(real), threads=threads),
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
    """Compute again the results whose known weights underflow: in float64, or with separate exponents."""
    levels, mask, setting = plan._levels, known.of(source), plan._setting
    cval = setting.cval if known.outside and setting.padded else 0.0
    least = smallest(source, mask, cval)
    if not floors.least and least * levels.least >= floors.small:  # sums below the threshold are 0
        return
    double = np.dtype(np.complex128 if plan.dtype.kind == "c" else np.float64)
    sums = _sums(plan, source, known, double, threads)
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
