"""Run one filter work: build the contenders, prove that they do the same work, time them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import libraries, machine, peers
from benchmarks.peers import Contender
from benchmarks.results import SCIPY, SEPARABLE, FilterRecord, Measurement
from benchmarks.timing import Effort, Stopwatch, interleave
from benchmarks.works import Array, Job, Variant, Work, difference, make_job

Progress = Callable[[str], None]


class WrongResultError(AssertionError):
    """A contender that should do the same work as SciPy does not."""


def measure(
    work: Work,
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> FilterRecord:
    """Measure `work` with all contenders interleaved, and return the record.

    Parameters
    ----------
    only
        Beginnings of peers' names to measure besides SciPy, the reference; empty: all of them.

    Raises
    ------
    WrongResultError
        If a contender that claims to do the same work differs from SciPy by more than rounding.
    """
    effort = effort or Effort()
    work = fitted(work, quick)
    progress(f"{work.name}: preparing")
    job = make_job(work, quick)
    stream = machine.stream_gb_s()
    with libraries.threads_restored(), _instruction_set_restored():
        contenders = _contenders(job, only)
        watches = [Stopwatch(c.prepare, c.call) for c in contenders]
        differences = []
        for contender, watch in zip(contenders, watches, strict=True):
            progress(f"{work.name}: {contender.who} {contender.variant} first call")
            job.out.fill(np.nan)  # what stands there is right already: a call that does nothing must not pass
            watch.first()
            differences.append(_checked_difference(job, contender))
        interleave(watches, effort, lambda n, of: progress(f"{work.name}: round {n} of {of}"))
        peaks = {variant.label: machine.fma_gflop_s(variant.target) for variant in work.variants}
    measurements = [_measurement(*each) for each in zip(contenders, watches, differences, strict=True)]
    return FilterRecord(
        name=work.name,
        group=work.group,
        title=work.title(quick),
        dtype=work.dtype,
        samples=job.x.size,
        macs=work.macs,
        run=run,
        quick=quick,
        stream_gb_s=max(stream, machine.stream_gb_s()),  # before and after the rounds
        fma_gflop_s=peaks,
        measurements=measurements,
        targets=list(work.targets),
    )


def fitted(work: Work, quick: bool) -> Work:
    """Return `work` without what this machine lacks, and without targets if it is only tried out."""
    import separable

    core, cores = separable.core_info(), machine.usable_cores()
    others = set(core["targets"]) - {core["target"]}
    variants = tuple(v for v in work.variants if v.target is None or v.target in others)
    threads = tuple(n for n in work.threads if n <= cores)
    labels = {v.label for v in variants}
    targets = tuple(t for t in work.targets if t.variant in labels and t.threads in threads and not quick)
    return dataclasses.replace(work, variants=variants, threads=threads, targets=targets)


def _contenders(job: Job, only: tuple[str, ...]) -> list[Contender]:
    """Return SciPy first: its result is what the others are compared with."""
    others = [*peers.opencv(job), *peers.scipy_fft(job), *peers.simpleitk(job), *peers.torch(job)]
    named = [contender for contender in others if libraries.chosen(contender.who, only)]
    return [*peers.scipy(job), *_ours(job), *peers.copies(job), *named]


def _ours(job: Job) -> list[Contender]:
    import separable
    from separable import _core

    work = job.work
    kernel: Any = work.weights
    if kernel is None:
        kernel = separable.SeparableKernel([work.taps])

    def contender(variant: Variant, threads: int) -> Contender:
        call, result = _our_call(job, variant, kernel, threads)
        return Contender(SEPARABLE, threads, lambda: _core.force(variant.target), call, result, variant.label)

    return [contender(variant, threads) for variant in work.variants for threads in work.threads]


def _our_call(
    job: Job, variant: Variant, kernel: Any, threads: int
) -> tuple[Callable[[], object], Callable[[], Array]]:
    import separable
    from separable import _core

    x, out, axes = job.x, job.out, job.work.axes
    common: dict[str, Any] = {"mode": "reflect", "axes": axes, "method": variant.method, "threads": threads}
    common["tol"] = job.work.tol
    correlate = separable.correlate
    if variant.style == "plan" or variant.target is not None:
        # a plan of its own: one that is remembered may be bound to another instruction set
        _core.force(variant.target)
        plan = separable.plan(kernel, x.shape, x.dtype, **common)
        return lambda: plan(x, output=out), lambda: out
    if variant.style == "new":
        return lambda: correlate(x, kernel), lambda: np.asarray(correlate(x, kernel))
    return lambda: correlate(x, kernel, output=out, **common), lambda: out


def _checked_difference(job: Job, contender: Contender) -> float | None:
    if contender.result is None:
        return None
    result = contender.result()
    if contender.who == SCIPY:
        job.reference[...] = result
        return 0.0
    found = difference(result, job.reference, contender.margins)
    allowed = job.tolerance + (job.work.tol or 0.0) * (contender.who == SEPARABLE)
    if not found <= (allowed if contender.exact else math.inf):  # written so that NaN does not pass
        raise WrongResultError(
            f"{job.work.name}: {contender.who} {contender.variant} differs from SciPy by {found:g}, "
            f"more than {allowed:g}: it does other work"
        )
    return found


def _measurement(contender: Contender, watch: Stopwatch, found: float | None) -> Measurement:
    timing = watch.timing()
    return Measurement(
        who=contender.who,
        variant=contender.variant,
        threads=contender.threads,
        median=timing.median,
        low=timing.low,
        high=timing.high,
        rounds=timing.rounds,
        cores=round(timing.cores, 2),
        difference=found,
        note=contender.note,
    )


@contextlib.contextmanager
def _instruction_set_restored() -> Iterator[None]:
    from separable import _core

    try:
        yield
    finally:
        _core.force(None)
