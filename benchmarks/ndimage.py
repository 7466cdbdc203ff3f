"""`separable.ndimage` beside `scipy.ndimage`: the same call with the same arguments, function by function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import libraries, machine
from benchmarks.results import Ratio, RatioRecord
from benchmarks.timing import Effort, Stopwatch, interleave
from benchmarks.works import Array, aligned

DTYPES = ("float32", "float64", "uint8", "uint16")
SIZES = {2: (32, 256, 1024, 4096), 3: (16, 64, 128, 256)}
QUICK_SIZES = {2: (32,), 3: (8,)}
LARGE = 1024 * 1024  # samples, from which on the median is promised
LEAST, MEDIAN = 1.0, 20.0
THREADS = (1, 2)
# The grid has hundreds of cells: a few rounds each, one where SciPy takes a second.
EFFORT = Effort(rounds=7, seconds=0.2, min_rounds=1)


@dataclass(frozen=True)
class Function:
    """A function of scipy.ndimage and what it is called with."""

    name: str
    positional: Callable[[int], tuple[Any, ...]]  # after the array; given its number of axes
    keywords: dict[str, Any] = field(default_factory=dict)
    integers: bool = True  # whether it is of any use on integers

    def call(self, library: Any, x: Array, out: Array, **more: Any) -> Callable[[], object]:
        """Return the call into `out`."""
        rest = [_own(library, a) if isinstance(a, str) else a for a in self.positional(x.ndim)]
        call = functools.partial(getattr(library, self.name), x, *rest, output=out, **self.keywords)
        return functools.partial(call, **more)


def _uneven(ndim: int, taps: int) -> Array:
    """Return weights without any structure: they do not separate."""
    weights = np.random.default_rng(7).uniform(-1, 1, (taps,) * ndim)
    return np.asarray(weights / np.abs(weights).sum())


FUNCTIONS = (
    Function("gaussian_filter", lambda ndim: (2.0,)),
    Function("gaussian_filter1d", lambda ndim: (2.0,), {"axis": 0}),
    Function("uniform_filter", lambda ndim: (9,)),
    Function("uniform_filter1d", lambda ndim: (9,)),
    Function("correlate1d", lambda ndim: (_uneven(1, 9),), {"axis": 0}),
    Function("convolve1d", lambda ndim: (_uneven(1, 9),)),
    Function("correlate", lambda ndim: (_uneven(ndim, 5 if ndim == 2 else 3),)),
    Function("convolve", lambda ndim: (np.ones((5,) * ndim) / 5**ndim,)),
    Function("sobel", lambda ndim: ()),
    Function("prewitt", lambda ndim: ()),
    Function("laplace", lambda ndim: ()),
    Function("gaussian_laplace", lambda ndim: (2.0,)),
    Function("gaussian_gradient_magnitude", lambda ndim: (2.0,)),
    Function("generic_laplace", lambda ndim: ("second difference",), integers=False),
    Function("generic_gradient_magnitude", lambda ndim: ("sobel",), integers=False),
)


def _own(library: Any, name: str) -> Callable[..., Any]:
    """Return a derivative that calls the library's functions, as that of a user who imports it does."""
    if name != "second difference":
        return getattr(library, name)  # type: ignore[no-any-return]

    def second_difference(x: Array, axis: int, output: Any, mode: str, cval: float) -> Any:
        return library.correlate1d(x, [1, -2, 1], axis, output, mode, cval, 0)

    return second_difference


def measure(
    run: str,
    quick: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> RatioRecord:
    """Time every function on every size and dtype, both libraries interleaved; check what ours returns."""
    ratios: list[Ratio] = []
    if libraries.load("scipy.ndimage") is not None:
        for ndim, sizes in (QUICK_SIZES if quick else SIZES).items():
            for function in FUNCTIONS:
                for dtype in DTYPES:
                    if function.integers or dtype.startswith("f"):
                        progress(f"ndimage: {function.name}, {ndim}-D {dtype}")
                        for size in sizes:
                            ratios += _ratios(function, (size,) * ndim, dtype, quick)
    title = "SciPy's time over ours, the same call, output given; one thread, then all"
    return RatioRecord("ndimage", "scipy.ndimage", title, run, quick, ratios, LARGE, LEAST, MEDIAN)


def _ratios(function: Function, shape: tuple[int, ...], dtype: str, quick: bool) -> Iterator[Ratio]:
    import scipy.ndimage

    import separable.ndimage

    x, out = _input(shape, dtype), aligned(shape, dtype)
    threads = [n for n in THREADS if n <= machine.usable_cores()]
    calls = [function.call(separable.ndimage, x, out, **_with(function, n)) for n in threads]
    watches = [Stopwatch(_nothing, call) for call in (*calls, function.call(scipy.ndimage, x, out))]
    for watch in watches[:-1]:
        out.fill(77)  # a call that does nothing must not pass
        watch.first()
        _check(function, x, out)
    watches[-1].first()
    interleave(watches, Effort(1, 0.0, 1) if quick else EFFORT)
    *ours, scipy_ndimage = (watch.timing().median for watch in watches)
    for count, seconds in zip(threads, ours, strict=True):
        yield Ratio(function.name, dtype, shape, count, seconds, scipy_ndimage)


def _with(function: Function, threads: int) -> dict[str, Any]:
    """Return how a function is told its threads; those that call a user's function take none."""
    return {} if function.name.startswith("generic") else {"threads": threads}


def _nothing() -> None:
    """Prepare nothing."""


@functools.lru_cache(maxsize=1)
def _input(shape: tuple[int, ...], dtype: str) -> Array:
    rng = np.random.default_rng(5)
    if dtype.startswith("f"):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, _levels(dtype), shape).astype(dtype)


def _levels(dtype: str) -> int:
    """Return how many values an unsigned integer has."""
    return 1 << 8 * np.dtype(dtype).itemsize


def _check(function: Function, x: Array, out: Array) -> None:
    """Compare with SciPy's result for float64 samples; integers have one rounding, and wrap around."""
    import scipy.ndimage

    if x.size > LARGE:
        return  # the same code has been looked at on smaller arrays
    exact = np.empty(x.shape)
    function.call(scipy.ndimage, x.astype(np.float64), exact)()
    if x.dtype.kind == "f":
        apart = float(np.abs(out - exact).max() / max(np.abs(exact).max(), 1e-300))
        most = 1e-4 if x.dtype == np.float32 else 1e-12
    else:
        levels = float(_levels(x.dtype.name))
        off = np.mod(out.astype(np.float64) - np.trunc(exact) + levels / 2, levels) - levels / 2
        apart, most = float(np.abs(off).max()), 1.0
    if not apart <= most:
        raise AssertionError(
            f"{function.name} of {x.shape} {x.dtype.name} is {apart:.2g} off, more than {most:g}"
        )
