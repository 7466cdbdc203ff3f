"""Run one convolution work: build the contenders, prove that they do the same work, time them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from benchmarks import conv_onnx, conv_torch, libraries, machine
from benchmarks.conv_works import ConvJob, ConvWork, make_block, make_dense
from benchmarks.filters import WrongResultError
from benchmarks.peers import Contender
from benchmarks.results import SEPARABLE, ConvRecord, Measurement
from benchmarks.timing import SLOW_CALL_SECONDS, Effort, Stopwatch, interleave
from benchmarks.works import Variant, difference

Progress = Callable[[str], None]

WARM_SECONDS = 3e-3  # of calls before each sample: waiting for others' threads has let the core rest

PEERS = {
    conv_onnx.ONNX_RUNTIME: conv_onnx.onnx_runtime,
    conv_onnx.OPENVINO: conv_onnx.openvino,
    conv_torch.EAGER: conv_torch.eager,
    conv_torch.COMPILED: conv_torch.compiled,
}


def measure(
    work: ConvWork,
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> ConvRecord:
    """Measure `work` and the dense convolution of its shape, all contenders interleaved.

    Parameters
    ----------
    only
        Beginnings of peers' names to measure; empty: all of them.

    Raises
    ------
    WrongResultError
        If a contender differs from the float64 reference by more than rounding.
    """
    effort = effort or Effort()
    work = fitted(work, quick)
    progress(f"{work.name}: reference")
    block = make_block(work, quick)
    dense = make_dense(work, block)
    with contextlib.ExitStack() as stack:
        restore_instruction_set(stack)
        stack.enter_context(libraries.threads_restored())
        stack.enter_context(conv_torch.freed_memory_kept())
        stack.callback(conv_torch.forget_compiled)
        progress(f"{work.name}: preparing")
        peaks = [fma_peaks(work)]  # before and after the rounds: other work on the machine lowers one
        contenders = [*_ours(block, work), *peers(block, work.threads, only)]
        if libraries.chosen(conv_onnx.ONNX_RUNTIME, only):
            contenders += conv_onnx.onnx_runtime_inside(block, work.threads)
        dense_contenders = peers(dense, work.threads, only)
        measurements = timed(
            work.name,
            [
                *((c, _check(work.name, block)) for c in contenders),
                *((c, _check(work.name, dense)) for c in dense_contenders),
            ],
            effort,
            progress,
        )
        peaks.append(fma_peaks(work))
    return ConvRecord(
        name=work.name,
        group=work.group,
        title=work.title(quick),
        run=run,
        quick=quick,
        fma_gflop_s={label: max(each[label] for each in peaks) for label in peaks[0]},
        measurements=measurements[: len(contenders)],
        targets=list(work.targets),
        flops=block.flops,
        dense_flops=dense.flops,
        dense=measurements[len(contenders) :],
    )


def fitted(work: ConvWork, quick: bool) -> ConvWork:
    """Return `work` without what this machine lacks, and without targets if it is only tried out."""
    import separable

    core, cores = separable.core_info(), machine.usable_cores()
    others = set(core["targets"]) - {core["target"]}
    variants = tuple(v for v in work.variants if v.target is None or v.target in others)
    threads = tuple(n for n in work.threads if n <= cores)
    targets = tuple(t for t in work.targets if t.threads in threads and not quick)
    return dataclasses.replace(work, variants=variants, threads=threads, targets=targets)


def peers(job: ConvJob, threads: Sequence[int], only: tuple[str, ...]) -> list[Contender]:
    """Return every installed peer in every arrangement; 1-D work also as 2-D work of height 1."""
    found = [
        contender
        for name, make in PEERS.items()
        if libraries.chosen(name, only)
        for contender in make(job, threads)
    ]
    if job.x.ndim == 3:
        lifted = peers(job.lifted(), threads, only)
        found += [dataclasses.replace(c, variant=f"2-D {c.variant}") for c in lifted]
    return found


def timed(
    name: str,
    contenders: Sequence[tuple[Contender, Callable[[Contender], float]]],
    effort: Effort,
    progress: Progress,
) -> list[Measurement]:
    """Time all contenders in the same rounds; each comes with what measures its difference."""
    watches = [Stopwatch(_warmed(contender), contender.call) for contender, _ in contenders]
    differences = []
    for (contender, check), watch in zip(contenders, watches, strict=True):
        progress(f"{name}: {contender.who} {contender.variant} first call")
        watch.first()
        differences.append(check(contender))
    interleave(watches, effort, lambda n, of: progress(f"{name}: round {n} of {of}"))
    measured = []
    for (contender, _), watch, found in zip(contenders, watches, differences, strict=True):
        timing = dataclasses.asdict(watch.timing())
        timing["cores"] = round(timing["cores"], 2)
        who, variant, threads = contender.who, contender.variant, contender.threads
        measured.append(Measurement(who, variant, threads, difference=found, note=contender.note, **timing))
    return measured


def fma_peaks(work: ConvWork) -> dict[str, float]:
    """Measure the FMA peak of one core for each of our variants, in GFLOP/s."""
    return {variant.label: machine.fma_gflop_s(variant.target) for variant in work.variants}


def refuse(name: str, contender: Contender, found: float, allowed: float) -> None:
    """Raise if a contender's difference to the reference is more than rounding."""
    if not found <= allowed:  # written so that NaN does not pass
        raise WrongResultError(
            f"{name}: {contender.who} {contender.variant} differs from float64 arithmetic by {found:g}, "
            f"more than {allowed:g}: it does other work"
        )


def restore_instruction_set(stack: contextlib.ExitStack) -> None:
    """Let the core choose its instruction set again when `stack` closes."""
    from separable import _core

    stack.callback(_core.force, None)


def _warmed(contender: Contender) -> Callable[[], None]:
    """Return what prepares `contender` and then calls it until caches and the core's clock have settled."""
    quick = True

    def prepare() -> None:
        nonlocal quick
        contender.prepare()
        start = time.perf_counter()
        while quick and time.perf_counter() - start < WARM_SECONDS:
            contender.call()
            quick = time.perf_counter() - start < SLOW_CALL_SECONDS  # a slow call needs no warmth

    return prepare


def _check(name: str, job: ConvJob) -> Callable[[Contender], float]:
    def check(contender: Contender) -> float:
        job.buffer.fill(math.nan)  # what stands there is right already: doing nothing must not pass
        contender.prepare()
        contender.call()
        assert contender.result is not None
        found = difference(contender.result().reshape(job.reference.shape), job.reference, ())
        refuse(name, contender, found, job.tolerance)
        return found

    return check


def _ours(job: ConvJob, work: ConvWork) -> list[Contender]:
    return [_our_contender(job, variant, n) for variant in work.variants for n in work.threads]


def _our_contender(job: ConvJob, variant: Variant, threads: int) -> Contender:
    from separable import _core, conv

    depthwise, pointwise = job.convs

    def prepare() -> None:
        libraries.settle()
        _core.force(variant.target)

    _core.force(variant.target)
    op = conv.FusedConv(
        depthwise.weights,
        pointwise.weights,
        depthwise_bias=depthwise.bias,
        bias=pointwise.bias,
        stride=depthwise.stride,
        padding=depthwise.padding,
        dilation=depthwise.dilation,
        depthwise_activation="relu",
        activation="relu",
    )
    x, out = job.x, job.out
    return Contender(
        SEPARABLE, threads, prepare, lambda: op(x, out=out, threads=threads), lambda: out, variant.label
    )
