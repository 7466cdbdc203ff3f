"""Run one training step of a block, forward and backward: torch's own layers against ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import conv_torch, libraries, machine
from benchmarks.conv_blocks import Progress, fitted, refuse, restore_instruction_set, timed
from benchmarks.conv_reference import Conv, block
from benchmarks.conv_works import ConvWork, make_block
from benchmarks.peers import Contender
from benchmarks.results import SEPARABLE, ConvRecord
from benchmarks.timing import Effort
from benchmarks.works import Array, aligned

# Relative, in the l2 norm. A ReLU passes the gradient where rounding has lifted a sample above zero and not
# where it has not: about one sample in a million, which is 1e-3 in this norm.
TOLERANCE = 5e-3

BACKWARD = 2  # times the arithmetic of the forward pass: gradients of the input and of the weights


@dataclass
class Step:
    """A block, its input, the gradient of its result, and by name what float64 arithmetic gives."""

    convs: tuple[Conv, ...]
    x: Array  # (N, *sizes, C_in)
    grad: Array  # (N, *sizes, C_out)
    reference: dict[str, Array]


def measure(
    work: ConvWork,
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> ConvRecord:
    """Measure forward and backward of `work`, all contenders interleaved.

    Raises
    ------
    WrongResultError
        If a result or a gradient differs from the float64 reference by more than rounding.
    """
    effort = effort or Effort()
    work = fitted(work, quick)
    progress(f"{work.name}: reference")
    step, flops = make_step(work, quick)
    torch = libraries.load("torch")
    measurements = []
    if torch is not None:
        with contextlib.ExitStack() as stack:
            restore_instruction_set(stack)
            stack.enter_context(libraries.threads_restored())
            stack.enter_context(conv_torch.freed_memory_kept())
            contenders = _contenders(torch, step, work, only)
            checked = [(c, _check(work.name, step, results)) for c, results in contenders]
            measurements = timed(work.name, checked, effort, progress)
    return ConvRecord(
        name=work.name,
        group=work.group,
        title=work.title(quick),
        run=run,
        quick=quick,
        fma_gflop_s={variant.label: machine.fma_gflop_s(variant.target) for variant in work.variants},
        measurements=measurements,
        targets=list(work.targets),
        flops=flops * (1 + BACKWARD),
        dense_flops=flops * (1 + BACKWARD),
        dense=[],
    )


def make_step(work: ConvWork, quick: bool) -> tuple[Step, int]:
    """Return the step with its reference, and the FLOPs of its forward pass."""
    job = make_block(work, quick)
    grad = aligned(job.reference.shape, "float32")
    np.random.default_rng(7).standard_normal(dtype=np.float32, out=grad)
    result, gradients = block(job.x, job.convs, grad)
    return Step(job.convs, job.x, grad, {"result": result, **gradients._asdict()}), job.flops


def torch_block(torch: Any, convs: Sequence[Conv], layout: str) -> Any:
    """Return the block as torch's own layers."""
    axes = len(convs[0].kernel)
    return conv_torch.layers(torch, convs).to(memory_format=conv_torch.memory_format(torch, layout, axes))


def our_block(torch: Any, convs: Sequence[Conv]) -> Any:
    """Return the block as one layer of :mod:`separable.nn`."""
    from separable import nn

    depthwise, pointwise = convs
    kind = getattr(nn, f"DepthwiseSeparableConv{len(depthwise.kernel)}d")
    layer = kind(
        depthwise.groups,
        len(pointwise.weights),
        depthwise.kernel,
        stride=depthwise.stride,
        padding=depthwise.padding,
        dilation=depthwise.dilation,
        activation="relu",
        output_activation="relu",
    )
    with torch.no_grad():
        for conv, module in ((depthwise, layer.conv_dw), (pointwise, layer.conv_pw)):
            module.weight.copy_(torch.from_numpy(conv.weights))
            module.bias.copy_(torch.from_numpy(conv.bias))
    return layer


def _contenders(
    torch: Any, step: Step, work: ConvWork, only: tuple[str, ...]
) -> list[tuple[Contender, Callable[[], dict[str, Array]]]]:
    """Return each contender with what gives all its results by name."""
    from separable import _core

    modules: list[tuple[str, str, str | None, Any, list[Any]]] = []
    if libraries.chosen(conv_torch.EAGER, only):
        for layout in ("contiguous", "channels_last"):
            module = torch_block(torch, step.convs, layout)
            parameters = [p for conv in (module[0], module[2]) for p in (conv.weight, conv.bias)]
            modules.append((conv_torch.EAGER, layout, None, module, parameters))
    for variant in work.variants:
        _core.force(variant.target)
        module = our_block(torch, step.convs)
        parameters = [p for conv in (module.conv_dw, module.conv_pw) for p in (conv.weight, conv.bias)]
        modules.append((SEPARABLE, variant.label, variant.target, module, parameters))
    found = []
    for who, label, target, module, parameters in modules:
        call = _step(
            torch, module, parameters, step, "contiguous" if label == "contiguous" else "channels_last"
        )
        for n in work.threads:
            contender = Contender(who, n, _preparation(n, target), call, variant=label)
            found.append((contender, _results(call)))
    return found


def _preparation(threads: int, target: str | None) -> Callable[[], None]:
    from separable import _core

    settle = conv_torch.threads_setter(threads)

    def prepare() -> None:
        settle()
        _core.force(target)

    return prepare


def _step(
    torch: Any, module: Any, parameters: Sequence[Any], step: Step, layout: str
) -> Callable[[], tuple[Any, ...]]:
    """Return a call that computes the block's result and all gradients, nothing accumulated."""
    form = conv_torch.memory_format(torch, layout, step.x.ndim - 2)

    def tensor(values: Array) -> Any:
        return torch.from_numpy(values).movedim(-1, 1).contiguous(memory_format=form)

    x, grad = tensor(step.x).requires_grad_(), tensor(step.grad)

    def call() -> tuple[Any, ...]:
        y = module(x)
        return (y.detach(), *torch.autograd.grad(y, [x, *parameters], grad))

    return call


def _results(call: Callable[[], tuple[Any, ...]]) -> Callable[[], dict[str, Array]]:
    def results() -> dict[str, Array]:
        y, x, *parameters = (np.asarray(tensor) for tensor in call())
        names = ("depthwise", "depthwise_bias", "pointwise", "pointwise_bias")
        ends = {"result": np.moveaxis(y, 1, -1), "x": np.moveaxis(x, 1, -1)}
        return {**ends, **dict(zip(names, parameters, strict=True))}

    return results


def _check(name: str, step: Step, results: Callable[[], dict[str, Array]]) -> Callable[[Contender], float]:
    def check(contender: Contender) -> float:
        contender.prepare()
        found = results()
        each = [_relative(found[key], expected) for key, expected in step.reference.items()]
        worst = float(np.max(each))  # unlike max(), this lets NaN through
        refuse(name, contender, worst, TOLERANCE)
        return worst

    return check


def _relative(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"result has shape {found.shape}, expected {expected.shape}")
    return float(np.linalg.norm(found.ravel() - expected.ravel()) / np.linalg.norm(expected.ravel()))
