"""Whether calls leave memory behind: `python tests/leaks.py`, or `make leaks` (a million small calls and a
thousand large ones: minutes).

Prints what the process holds after each part, and ends with 1 if that grows beyond the budget of what is
remembered. Needs Linux, whose /proc says what a process holds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import separable as sp
import separable.ndimage as ndi
from separable._base.caches import LIMIT, budget

PAGE = 4096
MIB = 2**20

# What an allocator keeps in spite of that, and what libraries load when they are first used.
SLACK = 24 * MIB


def held() -> int:
    """Bytes that the process holds, without those that the C library keeps for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def small_calls(count: int) -> None:
    """Filter small arrays, of some shapes and dtypes, in every way, also in ways that fail."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.random(shape).astype(dtype) for shape in ((7,), (8, 9), (5, 6, 7)) for dtype in ("f4", "f8", "u1")
    ]
    taps, out = np.array([1.0, 2.0, 1.0]), np.empty((8, 9))
    calls: list[Callable[[int], object]] = [
        lambda n: ndi.gaussian_filter(arrays[n % 9], 1.0),
        lambda n: ndi.uniform_filter(arrays[n % 9], 3),
        lambda n: ndi.correlate1d(arrays[n % 9], taps),
        lambda n: ndi.sobel(arrays[4], output=out),
        lambda n: sp.gaussian(arrays[n % 9], 0.5 + n % 50),
        lambda n: sp.correlate(arrays[n % 9], np.ones((3,) * arrays[n % 9].ndim), nan="omit"),
        lambda n: sp.uniform(arrays[n % 9], 3, mode="constant", cval=float(n)),  # another plan every time
        lambda n: refused(n),
    ]
    for n in range(count):
        calls[n % len(calls)](n)


def refused(n: int) -> None:
    """Ask for what is refused."""
    try:
        sp.gaussian(np.ones(5), -1.0 - n)
    except ValueError:
        return
    raise AssertionError("a negative sigma was taken")


def large_calls(count: int, side: int = 500) -> None:
    """Filter images of `count` different shapes with a kernel that runs by transforms or directly."""
    rng = np.random.default_rng(1)
    image, weights = rng.random((side + 40, side + 40)).astype(np.float32), rng.random((41, 41))
    for n in range(count):
        x = image[: side - n // 40, : side + n % 40]
        sp.convolve(x, weights, method="fft")
        if n % 10 == 0:
            ndi.convolve(x, weights)


def report(calls: int, large: int) -> Iterator[tuple[str, int, int]]:
    """Yield after each part its name, the growth since its first calls, and what may remain."""
    small_calls(min(calls, 4000))  # what is loaded and made once
    large_calls(4)
    sp.clear_caches()
    before = held()
    small_calls(calls)
    yield f"{calls:,} small calls", held() - before, LIMIT + SLACK
    sp.clear_caches()
    yield "  and forgotten", held() - before, SLACK
    large_calls(large)
    yield f"{large:,} large calls", held() - before, LIMIT + SLACK
    sp.clear_caches()
    assert budget.bytes == 0
    yield "  and forgotten", held() - before, SLACK


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=1_000_000, help="small calls")
    parser.add_argument("--large", type=int, default=1_000, help="large calls")
    given = parser.parse_args()
    good = True
    for name, growth, most in report(given.small, given.large):
        good &= growth <= most
        print(f"{name:22s}  {growth / MIB:+7.1f} MiB, at most {most / MIB:.0f}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
