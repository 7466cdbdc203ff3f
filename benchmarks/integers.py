"""Small integers: Gaussians of images beside OpenCV's, and how far off the mean of a filtered volume is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import libraries, machine
from benchmarks.results import Quantity, Row, TableRecord
from benchmarks.tables import Way, at_places, timed, window_sums
from benchmarks.timing import Effort
from benchmarks.works import Array, Taps, aligned, gaussian_taps

SIGMAS = (1, 2, 4)
DTYPES = ("uint8", "uint16")
THREADS = (1, 2)
EFFORT = Effort(rounds=15, seconds=1.5)
OURS, OPENCV = "separable", "OpenCV GaussianBlur"
MOST_OVER_OPENCV = 1.3
MOST_BIAS = 0.02  # grey levels; the mean of so many rounding errors scatters by less than half of it


def measure(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> TableRecord:
    """Time Gaussians of uint8 and uint16 images; compare the mean of uint8 volumes with long double."""
    size = 48 if quick else 4096
    rows: list[Row] = []
    with libraries.threads_restored():
        for dtype in DTYPES:
            x, out = _image(size, dtype), aligned((size, size), dtype)
            for sigma in SIGMAS:
                exact = window_sums(x, _taps(sigma))
                for threads in THREADS[: machine.usable_cores()]:
                    label = f"{size} x {size} {dtype}, sigma {sigma}"
                    progress(f"integers: {label}, {threads} threads")
                    ways = list(_ways(x, out, sigma, threads, exact))
                    rows.append(timed(label, threads, out, ways, Effort(1, 0.0, 1) if quick else EFFORT))
    progress("integers: means of volumes")
    quantities = [*_over_opencv(rows, quick), *_biases(24 if quick else 96, quick)]
    title = "Gaussians of integers, into integers, as many taps on both sides (reach 4 sigma)"
    return TableRecord("integers", "Small integers", title, run, quick, "image", OPENCV, rows, quantities)


def _image(size: int, dtype: str) -> Array:
    levels = 1 << 8 * np.dtype(dtype).itemsize
    return np.random.default_rng(11).integers(0, levels, (size, size), dtype=dtype)


def _taps(sigma: float) -> Taps:
    return gaussian_taps(sigma, int(4 * sigma + 0.5))


def _ways(x: Array, out: Array, sigma: int, threads: int, exact: Taps) -> Iterator[Way]:
    import separable

    def apart() -> float:
        return float(np.abs(at_places(out) - exact).max())

    ours = functools.partial(separable.gaussian, x, sigma, output=out, threads=threads)
    # float32 sums are off by less than 1e-3 of a level of 8 bits; of 16, by a fraction of one
    slack = 1e-3 if x.dtype == np.uint8 else 0.05
    yield Way(OURS, ours, apart, 0.5 + slack)
    cv2 = libraries.load("cv2")
    if cv2 is not None:
        blur = functools.partial(
            cv2.GaussianBlur, x, (len(_taps(sigma)),) * 2, sigma, dst=out, borderType=cv2.BORDER_REFLECT
        )
        # its sums are in fixed point: taps are rounded to as many bits as the samples have
        most = 2 if x.dtype == np.uint8 else 4
        yield Way(OPENCV, blur, apart, most, functools.partial(libraries.set_opencv_threads, threads))


def _over_opencv(rows: list[Row], quick: bool) -> Iterator[Quantity]:
    """Yield the slowest row beside OpenCV for each dtype and number of threads."""
    for dtype in DTYPES:
        for threads in THREADS:
            mine = [row for row in rows if dtype in row.label and row.threads == threads]
            ratios = {row.label: row.over(OURS, OPENCV) for row in mine}
            known = {label: ratio for label, ratio in ratios.items() if ratio is not None}
            if known:
                worst = max(known, key=lambda label: known[label])
                name = f"{dtype}, {threads} thr.: our time over OpenCV's, the slowest"
                bound = None if quick else MOST_OVER_OPENCV
                yield Quantity(name, known[worst], known[worst], known[worst], "x", bound, worst)


def _biases(size: int, quick: bool) -> Iterator[Quantity]:
    """Yield how far the mean of a filtered volume is from that of the same sums in long double."""
    import separable
    import separable.ndimage

    volume = np.random.default_rng(13).integers(0, 256, (size,) * 3, dtype=np.uint8)
    ndimage = libraries.load("scipy.ndimage")
    for sigma in SIGMAS:
        exact = _long_double(volume, sigma)
        yield _bias("separable.gaussian", sigma, separable.gaussian(volume, sigma), exact, quick)
        ours = separable.ndimage.gaussian_filter(volume, sigma)
        yield _bias("separable.ndimage (truncates, as SciPy)", sigma, ours, exact)
        if ndimage is not None:
            yield _bias("SciPy", sigma, ndimage.gaussian_filter(volume, sigma), exact)


def _bias(
    who: str, sigma: float, result: NDArray[Any], exact: NDArray[np.longdouble], quick: bool = True
) -> Quantity:
    off = float(np.mean(result - exact))
    label = f"uint8 volume {' x '.join(map(str, result.shape))}, sigma {sigma}: mean error of {who}"
    sign = "" if off == 0 else "too bright" if off > 0 else "too dark"
    return Quantity(label, abs(off), abs(off), abs(off), "levels", None if quick else MOST_BIAS, sign)


def _long_double(volume: NDArray[np.uint8], sigma: float) -> NDArray[np.longdouble]:
    """Filter by plain sums of shifted slices, in long double."""
    places = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1).astype(np.longdouble)
    taps = np.exp(-((places / sigma) ** 2) / 2)
    taps /= taps.sum()
    result: NDArray[np.longdouble] = volume.astype(np.longdouble)
    for axis, count in enumerate(volume.shape):
        padded = np.pad(
            result, [(len(taps) // 2,) * 2 if a == axis else (0, 0) for a in range(3)], "symmetric"
        )
        lines = np.moveaxis(padded, axis, 0)
        total = sum(tap * lines[shift : shift + count] for shift, tap in enumerate(taps))
        result = np.moveaxis(np.asarray(total), 0, axis)
    return result
