"""Compiled jobs: prepared from a form and a setting, given arguments for storing results, and run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .._base.types import Array
from .._core import Overflow, Rounding, TermsJob, empty
from .._core import extent as core_extent
from ..arrays.masks import Known
from ..arrays.output import AS_IS, Storing
from ..kernel.value import SeparableKernel
from ..methods.method import Job, Runnable, Setting
from ..methods.terms import sweep

Jobs: TypeAlias = tuple[Job, ...]

# The core's enumerations by the names of their members.
_ROUNDINGS: Final[dict[str, Rounding]] = {member.name: member for member in Rounding}
_OVERFLOWS: Final[dict[str, Overflow]] = {member.name: member for member in Overflow}

# Chars of the dtypes that jobs read and write directly, by that of the dtype they compute in.
_CONVERTED: Final = {"f": "?bBhHf", "d": "?bBhHiIlLqQfd", "F": "F", "D": "D"}


def prepare(form: Runnable, setting: Setting) -> Jobs:
    """Return the prepared jobs: one, or two for complex arrays whose parts differ in padding.

    Real and imaginary parts are an additional axis of length 2, a stride to the core: a 1024x1024 Gaussian
    takes 3.1 ms, and 11.8 ms on one part after the other. Only different padding constants need two jobs.
    """
    form = form.flipped() if setting.flip else form
    name = setting.computed.name
    return tuple(form.job(setting, shape, name, cval) for shape, cval in _parts(setting))


def prepare_bank(kernels: Sequence[SeparableKernel], setting: Setting) -> Jobs:
    """Return the prepared jobs of kernels that run in one sweep; results are stacked along a first axis."""
    terms = [(kernel.adjoint() if setting.flip else kernel).terms for kernel in kernels]
    name = setting.computed.name
    return tuple(sweep(terms, setting, shape, name, cval) for shape, cval in _parts(setting))


def _parts(setting: Setting) -> list[tuple[tuple[int, ...], float]]:
    """Return the shape and the padding constant of the real arrays that jobs run on."""
    cval = setting.cval
    if setting.dtype.kind == "c" and cval != 0 and setting.padded:
        return [(setting.shape, cval.real), (setting.shape, cval.imag)]
    return [(setting.real_shape, cval.real if setting.dtype.kind != "c" else 0.0)]


def folds(jobs: Jobs) -> dict[int, str]:
    """Return how the core folds the taps of each axis that is filtered in a pass."""
    if not jobs or not isinstance(jobs[0], TermsJob):
        return {}
    kinds = {entry["axis"]: sorted(set(entry["folds"])) for entry in jobs[0].describe()}
    return {axis: "not folded" if kind == ["none"] else "/".join(kind) for axis, kind in kinds.items()}


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised C-contiguous array, aligned to 64 bytes."""
    real = "float32" if dtype.char in "fF" else "float64"
    if dtype.kind != "c":
        return empty(shape, real)
    return empty((*shape, 2), real).view(dtype).reshape(shape)


def pairs_of(z: Array) -> Array:
    """View complex `z` of shape (...,) as real (..., 2) without a copy, whatever its strides."""
    real = z.real
    return as_strided(real, (*z.shape, 2), (*z.strides, real.itemsize), writeable=z.flags.writeable)


def converts(array: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether jobs that compute in `dtype` read and write `array` directly."""
    stored = array.dtype
    return stored.char in _CONVERTED[dtype.char] and stored.isnative and array.flags.aligned


class StoreArguments(NamedTuple):
    """Storing arguments of jobs that divide internally, in the core's order."""

    rounding: int
    overflow: int
    snap: float
    low: float
    high: float


class SumArguments(NamedTuple):
    """Storing arguments of other jobs, in the core's order."""

    rounding: int
    overflow: int
    snap: float
    divisor: float
    low: float
    high: float


class MaskArguments(NamedTuple):
    """Storing arguments of jobs that normalise by the known weights, in the core's order."""

    rounding: int
    overflow: int
    snap: float
    divisor: float
    low: float
    high: float
    mask: Array | None
    nan_unknown: bool
    outside_unknown: bool
    normalised_snap: float
    least: float
    small: float


Told: TypeAlias = tuple[()] | StoreArguments | SumArguments | MaskArguments


def run(
    jobs: Jobs,
    dtype: np.dtype[Any],
    source: Array,
    result: Array,
    threads: int,
    how: Storing,
    known: Known | None,
    weak: tuple[float, float] = (0.0, 0.0),
    *,
    divides: bool = False,
) -> bool:
    """Filter `source` into `result`, both readable by jobs (`converts`); return whether a result is weak.

    A normalised result is weak if underflow may exceed its rounding error: the known weights are below
    `weak[0]`, or few are known and the sum is below `weak[1]`. Jobs that divide internally take neither a
    divisor nor a mask.
    """
    if dtype.kind != "c":
        parts = [(job, source, result) for job in jobs]
    elif len(jobs) == 2:
        parts = [(jobs[0], source.real, result.real), (jobs[1], source.imag, result.imag)]
    else:
        parts = [(job, pairs_of(source), pairs_of(result)) for job in jobs]
        known = known and known.paired()
    weakened = [_run(job, x, y, threads, how, known, weak, divides) for job, x, y in parts]
    return any(weakened)


def bounded(how: Storing, source: Array, dtype: np.dtype[Any], threads: int, known: Known | None) -> Storing:
    """Return `how` with the bounds that the known samples of `source` imply for results of `dtype`."""
    if how.bounds is None or dtype.kind not in "biu":
        return how
    mask = None if known is None else known.mask
    return how.within(extent_of(source, threads, mask), source.dtype, dtype)


def extent_of(x: Array, threads: int, mask: Array | None = None) -> tuple[float, float]:
    """Return the least and the largest sample where `mask` is True; infinities where there is none."""
    if not converts(x, np.dtype(np.float64)):  # float16, another byte order
        x = x.astype(np.promote_types(x.dtype.newbyteorder("="), np.float32))
    return core_extent(x.shape, x, threads, mask)


class WatchedRun(NamedTuple):
    """A run of a job: its storing arguments and its arrays.

    Where the arguments depend on the samples, `telling` returns them for a source array.
    """

    job: Job
    threads: int
    told: Told
    source: Array
    result: Array
    telling: Callable[[Array], Told] | None


_WATCHED: ContextVar[list[WatchedRun] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[list[WatchedRun]]:
    """Collect the jobs that run inside the block, in this thread."""
    runs: list[WatchedRun] = []
    token = _WATCHED.set(runs)
    try:
        yield runs
    finally:
        _WATCHED.reset(token)


def _run(
    job: Job,
    source: Array,
    result: Array,
    threads: int,
    how: Storing,
    known: Known | None,
    weak: tuple[float, float],
    divides: bool,
) -> bool:
    plain = known is None and (how is AS_IS or (result.dtype.kind == "f" and how.divisor == 1))
    told: Told = () if plain else _told(result.dtype, how, known, weak, divides)
    telling = None
    if told and how.bounds is not None and result.dtype.kind in "biu":
        mask = None if known is None else known.mask
        telling = functools.partial(_bounded, told, threads, result.dtype, how, mask)
        told = telling(source)
    weakened = job.run(source, result, threads, *told)
    runs = _WATCHED.get()
    if runs is not None:
        runs.append(WatchedRun(job, threads, told, source, result, telling))
    return bool(weakened)


def _bounded(
    told: StoreArguments | SumArguments | MaskArguments,
    threads: int,
    dtype: np.dtype[Any],
    how: Storing,
    mask: Array | None,
    source: Array,
) -> Told:
    """Return storing arguments with bounds from the samples of `source`."""
    extent = core_extent(source.shape, source, threads, mask)
    low, high, overflow = how.limits(extent, source.dtype, dtype)
    return told._replace(overflow=_OVERFLOWS[overflow], low=low, high=high)


def _told(
    dtype: np.dtype[Any], how: Storing, known: Known | None, weak: tuple[float, float], divides: bool
) -> StoreArguments | SumArguments | MaskArguments:
    codes = _ROUNDINGS[how.rounding], _OVERFLOWS[how.overflow]
    if divides:
        return StoreArguments(*codes, how.snap, how.low, how.high)
    summed = SumArguments(*codes, how.snap, how.divisor, how.low, how.high)
    if known is None:
        return summed
    # Normalised results are not exact.
    truncated = how.exact and how.rounding == "truncate" and dtype.kind != "f"
    snap = how.error if truncated else 0.0
    return MaskArguments(*summed, known.mask, known.omit_nan, not known.outside, snap, *weak)
