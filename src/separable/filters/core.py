"""Compiled jobs: prepared from a chosen kernel and a setting, run on arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from .._core import DirectJob, Job, RunningJob, SumsJob, empty
from .._core import extent as core_extent
from ..arrays import arguments
from ..arrays.masks import Known
from ..arrays.output import AS_IS, OVERFLOWS, ROUNDINGS, Storing
from ..kernel.means import as_run, is_mean
from ..kernel.passes import SWEPT_AXES, indexed
from ..kernel.value import SeparableKernel, Term
from ..methods.cascade import Cascade
from ..methods.fft import FourierForm, FourierJob
from ..methods.piecewise import ShapeForm
from ..methods.rounding import GAIN, magnitude, moved, placed
from ..methods.running import RunningForm
from ..methods.sequence import FOLLOWING, Margin, SequenceJob
from .planner import Choice, Setting

Array: TypeAlias = npt.NDArray[Any]
AnyJob: TypeAlias = Job | DirectJob | RunningJob | SumsJob | FourierJob | SequenceJob
Jobs: TypeAlias = tuple[AnyJob, ...]

# What jobs read and write themselves, by the dtype they compute in.
_CONVERTED: Final = {"f": "?bBhHf", "d": "?bBhHiIlLqQfd", "F": "F", "D": "D"}

# Samples of 1 that a dense sweep is tried on: as many as decide how it goes; and how often.
_TRIED_ROWS: Final = 16
_TRIED_COLUMNS: Final = 64
_TRIALS: Final = 6


def prepare(choice: Choice, setting: Setting, flip: bool) -> Jobs:
    """Prepare the compiled jobs: one, or for complex arrays sometimes one for each part.

    Real and imaginary parts are a further axis of two, which the core takes in its stride: a 1024x1024
    Gaussian takes 3.1 ms so, and 11.8 ms on parts taken one by one. Only parts padded with different
    constants need two jobs.
    """
    name, cval = setting.computed.name, setting.cval
    if setting.dtype.kind != "c":
        return (_job(choice, setting, flip, setting.shape, name, cval.real),)
    if cval == 0 or "constant" not in setting.modes:
        return (_job(choice, setting, flip, (*setting.shape, 2), name, 0.0),)
    return tuple(_job(choice, setting, flip, setting.shape, name, part) for part in (cval.real, cval.imag))


def with_mean_kept(choice: Choice, setting: Setting, flip: bool) -> Choice:
    """Return a dense sweep over a mean (weights >= 0 that sum to 1) that makes samples of 1 no larger than 1.

    The order in which a sweep adds depends on the instruction set and on the array, so it is tried on ones.
    """
    kernel = choice.kernel
    if (
        choice.method != "direct"
        or not isinstance(kernel, (SeparableKernel, np.ndarray))
        or 0 in setting.shape
    ):
        return choice
    given = np.asarray(kernel.dense() if isinstance(kernel, SeparableKernel) else kernel, np.float64)
    if not is_mean(given):
        return choice
    few = [min(n, _TRIED_ROWS) for n in setting.shape[:-1]]
    trial = setting._replace(shape=(*few, min(setting.shape[-1], _TRIED_COLUMNS)), cval=1.0)
    name = setting.computed.name
    ones = np.ones(trial.real_shape, name)
    weights = given
    for _ in range(_TRIALS):
        filtered = np.empty_like(ones)
        _job(choice._replace(kernel=weights), trial, flip, trial.real_shape, name, 1.0).run(ones, filtered, 1)
        over = float(filtered.max()) - 1
        if over <= 0:
            break
        weights = weights * (1 - over)
    if weights is given:
        return choice
    return choice._replace(kernel=weights, error=moved(choice.error, given, weights))


def prepare_bank(kernels: Sequence[SeparableKernel], setting: Setting, flip: bool) -> Jobs:
    """Prepare sums of terms that run in one sweep; the results lie along a first axis of their own."""
    terms = [(kernel.adjoint() if flip else kernel).terms for kernel in kernels]
    name = setting.computed.name
    parts = [setting.cval.real]
    if setting.dtype.kind == "c" and setting.cval != 0 and "constant" in setting.modes:
        parts.append(setting.cval.imag)
    shape = setting.real_shape if len(parts) == 1 else setting.shape
    return tuple(_sum(shape, name, terms, setting, part) for part in parts)


def _job(
    choice: Choice, setting: Setting, flip: bool, shape: tuple[int, ...], dtype: str, cval: float
) -> AnyJob:
    kernel = choice.kernel
    if isinstance(kernel, RunningForm):
        form = kernel.flipped() if flip else kernel
        passes = form.passes(setting.axes, setting.shifts, [_code(mode) for mode in setting.modes])
        job = RunningJob(shape, passes, cval, form.factor, form.divisor)
        # Its passes leave their results in the array they filter into: in float64 next to float32's ends.
        double = setting.double or (dtype == "float32" and form.gain > GAIN)
        return SequenceJob.of_one(shape, "float64", job) if double else job
    if isinstance(kernel, ShapeForm):
        turned = kernel.flipped() if flip else kernel
        weights, shifts, modes = _everywhere(turned.weights, setting, len(shape))
        along, codes = setting.axes[turned.axis], tuple(map(_code, modes))
        return SumsJob(shape, weights, along, shifts, codes, cval, turned.divisor, turned.fixed_point)
    if isinstance(kernel, Cascade):
        return _in_sequence(kernel, choice, setting, flip, shape, dtype, cval)
    if isinstance(kernel, FourierForm):
        return _transforms(kernel, choice, setting, flip, shape, dtype, cval)
    if choice.method == "separable" and isinstance(kernel, SeparableKernel):
        return _sum(shape, dtype, [(kernel.adjoint() if flip else kernel).terms], setting, cval)
    weights, shifts, modes = _dense(kernel, setting, flip, len(shape))
    return DirectJob(shape, dtype, weights, shifts, tuple(map(_code, modes)), cval)


def _transforms(
    form: FourierForm,
    choice: Choice,
    setting: Setting,
    flip: bool,
    shape: tuple[int, ...],
    dtype: str,
    cval: float,
) -> FourierJob:
    """Prepare transforms, and the dense sweep for blocks that hold what is not finite."""
    swept = choice._replace(method="direct", kernel=form.kernel)
    dtype = "float64" if setting.whole else dtype  # as they were planned
    axes = len(setting.axes)
    inside = setting._replace(shifts=(0,) * axes, modes=("constant",) * axes)
    weights, shifts, modes = _dense(form.kernel, setting, flip, len(shape))
    return FourierJob(
        shape,
        dtype,
        weights,
        shifts,
        modes,
        cval,
        form.geometry.leading(len(shape)),
        lambda block: _job(swept, inside, flip, block, dtype, 0.0),
        as_summed=setting.as_summed,
    )


def _in_sequence(
    cascade: Cascade,
    choice: Choice,
    setting: Setting,
    flip: bool,
    shape: tuple[int, ...],
    dtype: str,
    cval: float,
) -> SequenceJob:
    """Prepare both kernels of a cascade, between margins where the boundary modes ask for them."""
    radii = [n // 2 for n in cascade.smooth.shape]
    rest = cascade.sparse.shape
    after = [shift - radius for shift, radius in zip(setting.shifts, radii, strict=True)]
    inside = all(0 <= shift < n for shift, n in zip(after, rest, strict=True))
    margins = None
    if not inside or any(
        n > 1 and m not in FOLLOWING for n, m in zip(setting.taps, setting.modes, strict=True)
    ):
        after = [n // 2 for n in rest]
        margins = [Margin(0, 0, 0, "reflect")] * len(shape)
        for axis, n, shift, mode, radius, second in zip(
            setting.axes, setting.taps, setting.shifts, setting.modes, radii, after, strict=True
        ):
            margins[axis] = Margin(shift, n - 1 - shift, radius + second, mode)
        setting = setting._replace(modes=("reflect",) * len(setting.modes))
    wide = (
        shape
        if margins is None
        else tuple(n + m.before + m.after for n, m in zip(shape, margins, strict=True))
    )
    gain = magnitude(cascade.sparse)
    if gain > GAIN:
        cascade = cascade.moved(gain)
    smooth = setting._replace(taps=cascade.smooth.shape, shifts=tuple(radii))
    first = _sum(wide, dtype, [cascade.smooth.terms], smooth, 0.0, means=False)
    sparse = choice._replace(method="direct", kernel=cascade.sparse)
    second_job = _job(sparse, setting._replace(taps=rest, shifts=tuple(after)), flip, wide, dtype, 0.0)
    return SequenceJob(shape, dtype, first, second_job, margins, cval)


def _dense(
    kernel: SeparableKernel | Array, setting: Setting, flip: bool, ndim: int
) -> tuple[Array, tuple[int, ...], tuple[str, ...]]:
    dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
    return _everywhere(np.flip(dense) if flip else dense, setting, ndim)


def _everywhere(
    weights: Array, setting: Setting, ndim: int
) -> tuple[Array, tuple[int, ...], tuple[str, ...]]:
    """Return weights, shifts and modes with one entry for every axis of the array, in order."""
    order = np.argsort(setting.axes)
    place = {axis: n for n, axis in enumerate(setting.axes)}
    every = [place.get(axis) for axis in range(ndim)]
    lengths = [1 if n is None else setting.taps[n] for n in every]
    return (
        np.ascontiguousarray(weights.transpose(order)).reshape(lengths),
        tuple(0 if n is None else setting.shifts[n] for n in every),
        tuple("reflect" if n is None else setting.modes[n] for n in every),
    )


def _code(mode: str) -> int:
    return arguments.MODES[mode][1]


def _sum(
    shape: tuple[int, ...],
    dtype: str,
    kernels: Sequence[Sequence[Term]],
    setting: Setting,
    cval: float,
    *,
    means: bool = True,
) -> Job:
    """Prepare the sums of terms of one or several kernels; `means` run as such.

    Outside the array a pass sees what the passes before it made of `cval`.
    """
    running = [[tuple(as_run(term, dtype)) if means else term for term in terms] for terms in kernels]
    passed = placed(running, setting.axes)
    terms, distinct = indexed(passed.kernels)
    passes = [
        (setting.axes[n], setting.shifts[n], _code(setting.modes[n]), taps)
        for n, taps in zip(passed.axes, distinct, strict=True)
    ]
    return Job(shape, dtype, passes, terms, cval)


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
    """Return whether jobs that compute in `dtype` read and write `array` as it is."""
    own = array.dtype
    return own.char in _CONVERTED[dtype.char] and own.isnative and array.flags.aligned


def takes_masks(jobs: Jobs) -> bool:
    """Return whether `jobs` normalise by what is known in the same sweep."""
    return all(isinstance(job, DirectJob) or (isinstance(job, Job) and _takes_masks(job)) for job in jobs)


def _takes_masks(job: Job) -> bool:
    passes = job.describe()
    return len(passes) <= SWEPT_AXES and all(nodes == [[(0, 0)]] for nodes in (p["nodes"] for p in passes))


def run(
    jobs: Jobs,
    dtype: np.dtype[Any],
    source: Array,
    result: Array,
    threads: int,
    how: Storing,
    known: Known | None,
    weak: tuple[float, float] = (0.0, 0.0),
) -> bool:
    """Filter `source` into `result`, both of which jobs `converts`; return whether a result is weak.

    That is a result that was normalised, and for which more may have underflowed than its rounding: less
    than `weak[0]` is known, or little and the sum is smaller than `weak[1]`.
    """
    if dtype.kind != "c":
        parts = [(job, source, result) for job in jobs]
    elif len(jobs) == 2:
        parts = [(jobs[0], source.real, result.real), (jobs[1], source.imag, result.imag)]
    else:
        parts = [(job, pairs_of(source), pairs_of(result)) for job in jobs]
        known = known and known.paired()
    found = [_run(job, x, y, threads, how, known, weak) for job, x, y in parts]
    return any(found)


def bounded(how: Storing, source: Array, dtype: np.dtype[Any], threads: int, known: Known | None) -> Storing:
    """Return `how` with the bounds that the known samples of `source` set to results of `dtype`."""
    if how.bounds is None or dtype.kind not in "biu":
        return how
    mask = None if known is None else known.mask
    return how.within(core_extent(source.shape, source, threads, mask), source.dtype, dtype)


class Run(NamedTuple):
    """A job that was run, what it was told, and the arrays it went from and to.

    What it is to be told of other samples, `telling` says where that depends on them.
    """

    job: AnyJob
    told: tuple[Any, ...]
    source: Array
    result: Array
    telling: Callable[[Array], tuple[Any, ...]] | None


_WATCHED: ContextVar[list[Run] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[list[Run]]:
    """Collect the jobs that run inside the block, in this thread."""
    runs: list[Run] = []
    token = _WATCHED.set(runs)
    try:
        yield runs
    finally:
        _WATCHED.reset(token)


def _run(
    job: AnyJob,
    source: Array,
    result: Array,
    threads: int,
    how: Storing,
    known: Known | None,
    weak: tuple[float, float],
) -> bool:
    plain = known is None and (how is AS_IS or (result.dtype.kind == "f" and how.divisor == 1))
    told = (threads,) if plain else _told(job, result.dtype, threads, how, known, weak)
    telling = None
    if how.bounds is not None and result.dtype.kind in "biu":
        mask = None if known is None else known.mask
        telling = functools.partial(_telling, told, _place_of_bounds(job), result.dtype, how, mask)
        told = telling(source)
    found = job.run(source, result, *told)
    runs = _WATCHED.get()
    if runs is not None:
        runs.append(Run(job, told, source, result, telling))
    return bool(found)


def _telling(
    told: tuple[Any, ...], at: int, dtype: np.dtype[Any], how: Storing, mask: Array | None, source: Array
) -> tuple[Any, ...]:
    """Return what a job is told of the samples of `source`, which set the bounds at place `at`."""
    extent = core_extent(source.shape, source, told[0], mask)
    low, high, overflow = how.limits(extent, source.dtype, dtype)
    return (*told[:2], OVERFLOWS.index(overflow), *told[3:at], low, high, *told[at + 2 :])


def _place_of_bounds(job: AnyJob) -> int:
    """Return where the bounds stand in what a job is told: behind the snap, or a divisor."""
    return 4 if isinstance(job, (RunningJob, SumsJob)) else 5


def _told(
    job: AnyJob,
    dtype: np.dtype[Any],
    threads: int,
    how: Storing,
    known: Known | None,
    weak: tuple[float, float],
) -> tuple[Any, ...]:
    codes = ROUNDINGS.index(how.rounding), OVERFLOWS.index(how.overflow)
    if isinstance(job, (RunningJob, SumsJob)):  # it divides by itself, and takes no mask
        return threads, *codes, how.snap, how.low, how.high
    stored = (threads, *codes, how.snap, how.divisor, how.low, how.high)
    if known is None:
        return stored
    # What is normalised is not exact any more.
    mended = how.error if how.exact and how.rounding == "truncate" and dtype.kind != "f" else 0.0
    return *stored, known.mask, known.omit_nan, not known.outside, mended, *weak
