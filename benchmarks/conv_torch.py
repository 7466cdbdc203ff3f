"""Torch's ways to run convolutions: eager in three layouts, and compiled with frozen weights."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.conv_reference import Conv
from benchmarks.conv_works import ConvJob
from benchmarks.peers import Contender
from benchmarks.works import Array

EAGER = "torch eager"
COMPILED = "torch.compile"
ALLOCATES = "allocates its output"
# glibc's M_TRIM_THRESHOLD and M_MMAP_MAX (malloc.h): never give memory back, ask for none elsewhere; defaults
KEEP, GIVE_BACK = {-1: 2**31 - 1, -4: 0}, {-1: 128 * 1024, -4: 65536}
MOST_COMPILED = 64  # all compiled networks of a work count as versions of one function


def eager(job: ConvJob, threads: Sequence[int]) -> list[Contender]:
    """Contiguous and channels_last tensors, and oneDNN's own tensors, which keep its blocked layout."""
    torch = libraries.load("torch")
    if torch is None:
        return []
    calls = [
        (layout, _inference(torch, *_arranged(torch, job, layout)), ALLOCATES) for layout in _layouts(job)
    ]
    if job.x.ndim == 4 and torch.backends.mkldnn.is_available():
        net, x = _arranged(torch, job, "contiguous")
        opaque = libraries.load("torch.utils.mkldnn").to_mkldnn(net)
        calls.append(("mkldnn", _inference(torch, opaque, x.to_mkldnn()), f"opaque result; {ALLOCATES}"))
    return [
        Contender(EAGER, n, threads_setter(n), call, _result(call), layout, note=note)
        for layout, call, note in calls
        for n in threads
    ]


def compiled(job: ConvJob, threads: Sequence[int]) -> list[Contender]:
    """``torch.compile`` with freezing, which packs the weights for oneDNN; each is compiled here."""
    torch = libraries.load("torch")
    if torch is None or libraries.cpp_compiler() is None:
        return []
    found = []
    for layout in _layouts(job):
        for n in threads:
            torch.set_num_threads(n)  # the compiled code is for so many threads
            net, x = _arranged(torch, job, layout)
            fast = torch.compile(net, dynamic=False, options={"freezing": True})
            call = _inference(torch, fast, x, compiles=True)
            with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED):
                call()
            found.append(
                Contender(COMPILED, n, threads_setter(n), call, _result(call), layout, note=ALLOCATES)
            )
    return found


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let malloc keep what is freed: torch allocates every result, and pages new to a process are slow.

    Without this its convolutions take 7 to 11 % longer at 64 -> 128 channels, 224 x 224. Where the C library
    is not glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in KEEP.items():
        mallopt(option, value)
    try:
        yield
    finally:
        for option, value in GIVE_BACK.items():
            mallopt(option, value)


def forget_compiled() -> None:
    """Drop what was compiled for earlier works."""
    torch = libraries.load("torch")
    if torch is not None:
        torch._dynamo.reset()


def layers(torch: Any, convs: Sequence[Conv]) -> Any:
    """Return the convolutions as a torch module, each followed by a ReLU in place."""
    modules = []
    for conv in convs:
        per_group, kernel = conv.weights.shape[1], conv.kernel
        kind = getattr(torch.nn, f"Conv{len(kernel)}d")
        module = kind(
            per_group * conv.groups,
            len(conv.weights),
            kernel,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(conv.weights))
            module.bias.copy_(torch.from_numpy(conv.bias))
        modules += [module, torch.nn.ReLU(inplace=True)]
    return torch.nn.Sequential(*modules)


def memory_format(torch: Any, layout: str, axes: int) -> Any:
    """Return torch's name of a layout for images or volumes."""
    if layout == "contiguous":
        return torch.contiguous_format
    return {2: torch.channels_last, 3: torch.channels_last_3d}[axes]


def threads_setter(count: int) -> Callable[[], None]:
    """Return what prepares a measurement of torch on `count` threads."""

    def prepare() -> None:
        libraries.set_torch_threads(count)
        libraries.settle()

    return prepare


def _layouts(job: ConvJob) -> list[str]:
    return ["contiguous", "channels_last"] if job.x.ndim > 3 else ["contiguous"]


def _arranged(torch: Any, job: ConvJob, layout: str) -> tuple[Any, Any]:
    form = memory_format(torch, layout, job.x.ndim - 2)
    net = layers(torch, job.convs).eval().to(memory_format=form)
    if layout == "contiguous":
        return net, torch.from_numpy(job.x_first)
    return net, torch.from_numpy(job.x).movedim(-1, 1)


def _inference(torch: Any, net: Any, x: Any, compiles: bool = False) -> Callable[[], Any]:
    mode = torch.no_grad if compiles else torch.inference_mode  # freezing is for no_grad alone

    def call() -> Any:
        with mode():
            return net(x)

    return call


def _result(call: Callable[[], Any]) -> Callable[[], Array]:
    def result() -> Array:
        y = call()
        plain: Array = (y.to_dense() if y.is_mkldnn else y).numpy()
        return np.moveaxis(plain, 1, -1)

    return result
