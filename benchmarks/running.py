"""Long kernels: boxes by running sums and Gaussians by cosines, whose time must not grow with the kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import libraries, machine
from benchmarks.results import Quantity, Row, TableRecord
from benchmarks.tables import Way, at_places, timed, window_sums
from benchmarks.timing import Effort
from benchmarks.works import Array, Taps, aligned, gaussian_taps

BOXES = (3, 9, 33, 65, 129, 257, 513)
SIGMAS = (2, 4, 8, 16, 32, 64, 128)
TOLERANCES = (1e-3, 1e-5)
SIZES = (1024, 4096)
THREADS = (1, 2)
EFFORT = Effort(rounds=7, seconds=0.6)
TAPS, SUMS, OPENCV, ITK = "taps", "running sums", "OpenCV boxFilter", "SimpleITK recursive"
FLAT = 1.3  # the slowest kernel over the fastest


def boxes(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> TableRecord:
    """Time boxes of 3 to 513 samples along both axes of float32 images."""
    rows = _rows("box of {}", (3, 9) if quick else BOXES, quick, _box_ways, progress)
    title = "Boxes: by running sums, as passes of equal taps, and OpenCV's"
    quantities = list(_flatness(rows, (SUMS,), quick))
    return TableRecord("boxes", "Long kernels", title, run, quick, "image", TAPS, rows, quantities)


def gaussians(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> TableRecord:
    """Time Gaussians of sigma 2 to 128 along both axes of float32 images."""
    rows = _rows("sigma {}", (2, 4) if quick else SIGMAS, quick, _gaussian_ways, progress)
    title = "Gaussians: as sums of cosines within a relative error, and as passes of taps (reach 4 sigma)"
    columns = tuple(map(_cosines, TOLERANCES))
    quantities = [*_flatness(rows, columns, quick), *_errors(rows, quick)]
    return TableRecord("wide-gaussians", "Long kernels", title, run, quick, "image", TAPS, rows, quantities)


_Ways = Callable[[Array, Array, int, int], Iterator[Way]]


def _rows(
    name: str, kernels: tuple[int, ...], quick: bool, ways: _Ways, progress: Callable[[str], None]
) -> list[Row]:
    found: list[Row] = []
    with libraries.threads_restored():
        for size in (64,) if quick else SIZES:
            x, out = aligned((size, size), "float32"), aligned((size, size), "float32")
            np.random.default_rng(23).random(dtype=np.float32, out=x)
            for kernel in kernels:
                for threads in THREADS[: machine.usable_cores()]:
                    label = f"{size} x {size}, {name.format(kernel)}"
                    progress(f"{label}, {threads} threads")
                    effort = Effort(1, 0.0, 1) if quick else EFFORT
                    found.append(timed(label, threads, out, list(ways(x, out, kernel, threads)), effort))
    return found


def _box_ways(x: Array, out: Array, length: int, threads: int) -> Iterator[Way]:
    import separable

    kernel = separable.families.box(length)
    apart = _apart(x, out, np.full(length, 1 / length))
    yield _planned(TAPS, kernel, x, out, threads, apart, 0.0, method="separable")
    yield _planned(SUMS, kernel, x, out, threads, apart, 0.0, method="box")
    cv2 = libraries.load("cv2")
    if cv2 is not None:
        call = functools.partial(
            cv2.boxFilter, x, -1, (length, length), dst=out, borderType=cv2.BORDER_REFLECT
        )
        yield Way(
            OPENCV, call, apart, _rounding(length), functools.partial(libraries.set_opencv_threads, threads)
        )


def _gaussian_ways(x: Array, out: Array, sigma: int, threads: int) -> Iterator[Way]:
    import separable

    kernel = separable.families.gaussian(sigma)
    apart = _apart(x, out, gaussian_taps(sigma, int(4 * sigma + 0.5)))
    yield _planned(TAPS, kernel, x, out, threads, apart, 0.0, method="separable")
    for tol in TOLERANCES:
        yield _planned(_cosines(tol), kernel, x, out, threads, apart, tol, method="recursive", tol=tol)
    sitk = libraries.load("SimpleITK")
    if sitk is not None:
        image = sitk.GetImageFromArray(x)
        call = functools.partial(sitk.SmoothingRecursiveGaussian, image, float(sigma))
        prepare = functools.partial(libraries.set_simpleitk_threads, threads)
        yield Way(ITK, call, lambda: None, 0.0, prepare)  # another approximation, in an array of its own


def _planned(
    column: str,
    kernel: Any,
    x: Array,
    out: Array,
    threads: int,
    apart: Callable[[], float],
    allowed: float,
    **how: Any,
) -> Way:
    import separable

    plan = separable.plan(kernel, x.shape, x.dtype, threads=threads, **how)
    most = allowed + _rounding(max(kernel.shape))
    return Way(column, functools.partial(plan, x, output=out), apart, most)


def _cosines(tol: float) -> str:
    return f"cosines, 1e{round(np.log10(tol))}"


def _rounding(taps: int) -> float:
    """Bound on the rounding of two passes of float32 over inputs in [0, 1), and of the taps themselves."""
    return 2 * (taps + 2) * float(np.finfo(np.float32).eps)


def _apart(x: Array, out: Array, taps: Taps) -> Callable[[], float]:
    exact = window_sums(x, taps)
    return lambda: float(np.abs(at_places(out) - exact).max())


def _flatness(rows: list[Row], columns: tuple[str, ...], quick: bool) -> Iterator[Quantity]:
    """Yield, for each size of image, the slowest kernel over the fastest; and what a second thread gives."""
    for column in columns:
        for size in dict.fromkeys(row.label.split(",")[0] for row in rows):
            mine = [row for row in rows if row.label.startswith(f"{size},")]
            by_threads = {n: [row.seconds(column) for row in mine if row.threads == n] for n in THREADS}
            one, two = ([s for s in by_threads[n] if s is not None] for n in THREADS)
            bound = None if quick else FLAT
            ratio = max(one) / min(one)
            yield Quantity(f"{size}, {column}: slowest over fastest", ratio, ratio, ratio, "x", bound)
            if two:
                gains = [a / b for a, b in zip(one, two, strict=True)]
                name = f"{size}, {column}: one thread's time over two threads', median"
                yield Quantity(name, float(np.median(gains)), min(gains), max(gains), "x")


def _errors(rows: list[Row], quick: bool) -> Iterator[Quantity]:
    """Yield the largest error found of each tolerance."""
    for tol in TOLERANCES:
        found = [cell.apart or 0.0 for row in rows for cell in row.cells if cell.column == _cosines(tol)]
        name = f"{_cosines(tol)}: largest error found, over the largest sample"
        yield Quantity(name, max(found), min(found), max(found), "", None if quick else tol)
