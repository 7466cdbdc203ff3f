"""Each peer's best way to do a given job, as something to time.

Every function takes a :class:`~benchmarks.works.Job` and returns contenders, or none where the peer is not
installed or cannot do the work. Outputs are preallocated wherever the peer has an argument for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.results import COPY, SCIPY
from benchmarks.torch_peer import TorchFilter
from benchmarks.works import Array, Job

SCIPY_FFT = "SciPy FFT"
OPENCV = "OpenCV sepFilter2D"
OPENCV_BLUR = "OpenCV GaussianBlur"
OPENCV_SLICES = "OpenCV sepFilter2D by slices"
OPENCV_DIRECT = "OpenCV filter2D"
ITK_GAUSSIAN = "SimpleITK DiscreteGaussian"
ITK_RECURSIVE = "SimpleITK SmoothingRecursiveGaussian"
ITK_CONVOLUTION = "SimpleITK Convolution"
TORCH = "torch conv"


@dataclass
class Contender:
    """Something to time, and how to look at what it computed.

    `exact` contenders must agree with SciPy within the job's tolerance (away from the borders by
    `margins`); others do similar work, which their note describes.
    """

    who: str
    threads: int
    prepare: Callable[[], None]
    call: Callable[[], object]
    result: Callable[[], Array] | None = None
    variant: str = ""
    exact: bool = True
    margins: tuple[int, ...] = ()
    note: str = ""


def copies(job: Job) -> list[Contender]:
    """``np.copyto`` into the output, whole or one share per thread."""

    def contender(threads: int) -> Contender:
        pool = ThreadPoolExecutor(threads)
        shares = list(zip(np.array_split(job.out, threads), np.array_split(job.x, threads), strict=True))

        def shared() -> None:
            for _ in pool.map(lambda pair: np.copyto(*pair), shares):
                pass

        call = shared if threads > 1 else lambda: np.copyto(job.out, job.x)
        return Contender(COPY, threads, _nothing, call, note="np.copyto")

    return [contender(threads) for threads in job.work.threads]


def scipy(job: Job) -> list[Contender]:
    """``scipy.ndimage.correlate1d`` per axis (what its gaussian_filter runs), or ``correlate``."""
    ndimage = libraries.load("scipy.ndimage")
    work = job.work

    def separable() -> None:
        source = job.x
        for axis, taps in zip(work.axes, work.taps, strict=True):
            ndimage.correlate1d(source, taps, axis=axis, output=job.out, mode="reflect")
            source = job.out

    def direct() -> None:
        ndimage.correlate(job.x, work.weights, output=job.out, mode="reflect")

    if work.weights is not None:
        return [Contender(SCIPY, 1, _nothing, direct, lambda: job.out, note="correlate; has no threads")]
    note = "correlate1d per axis, as gaussian_filter does; has no threads"
    return [Contender(SCIPY, 1, _nothing, separable, lambda: job.out, note=note)]


def scipy_fft(job: Job) -> list[Contender]:
    """``scipy.signal`` by Fourier transforms over a mirrored copy, for dense weights that cover all axes.

    Both of its ways, of the whole array and by overlap-add; transforms are told their threads.
    """
    signal, fft = libraries.load("scipy.signal"), libraries.load("scipy.fft")
    work = job.work
    if signal is None or work.weights is None or work.tol is None:
        return []
    flipped = np.ascontiguousarray(np.flip(work.weights)).astype(work.dtype)
    sides = [(n // 2, (n - 1) // 2) for n in work.weights.shape]
    last: list[Array] = []

    def contender(name: str, threads: int) -> Contender:
        convolve = getattr(signal, name)

        def call() -> None:
            with fft.set_workers(threads):
                last[:] = [convolve(np.pad(job.x, sides, "symmetric"), flipped, "valid")]

        note = "pads, allocates its output"
        return Contender(SCIPY_FFT, threads, _nothing, call, lambda: last[0], name, note=note)

    return [contender(name, n) for name in ("fftconvolve", "oaconvolve") for n in work.threads]


def opencv(job: Job) -> list[Contender]:
    """OpenCV in 2-D, and in 3-D what its users write: every slice, then all rows of slices."""
    cv2 = libraries.load("cv2")
    if cv2 is None:
        return []
    work, border = job.work, {"borderType": cv2.BORDER_REFLECT}
    calls: list[tuple[str, Callable[[], object], str]] = []
    if work.weights is not None and work.weights.ndim != 2:
        return []
    if work.weights is not None:
        weights = work.weights.astype(work.dtype)
        note = "by DFT" if weights.size > 11 * 11 else ""  # its documentation: "11 x 11 or larger"
        calls.append((OPENCV_DIRECT, lambda: cv2.filter2D(job.x, -1, weights, dst=job.out, **border), note))
    elif len(work.taps) == 2:
        down, along = (taps.astype(work.dtype) for taps in work.taps)
        calls.append((OPENCV, lambda: cv2.sepFilter2D(job.x, -1, along, down, dst=job.out, **border), ""))
        if work.sigma is not None:
            size, sigma = (len(along), len(down)), work.sigma
            blur = lambda: cv2.GaussianBlur(job.x, size, sigma, dst=job.out, **border)  # noqa: E731
            calls.append((OPENCV_BLUR, blur, ""))
    else:
        note = "2-D only: each slice, then the volume as a matrix of slices"
        calls.append((OPENCV_SLICES, _opencv_slices(job, cv2), note))
    return [
        Contender(who, n, _with(libraries.set_opencv_threads, n), call, lambda: job.out, note=note)
        for who, call, note in calls
        for n in work.threads
    ]


def _opencv_slices(job: Job, cv2: Any) -> Callable[[], None]:
    through, down, along = (taps.astype(job.work.dtype) for taps in job.work.taps)
    one = np.ones(1, job.work.dtype)
    between = np.zeros_like(job.x)
    flat = (len(job.x), -1)
    border = {"borderType": cv2.BORDER_REFLECT}

    def call() -> None:
        for source, target in zip(job.x, between, strict=True):
            cv2.sepFilter2D(source, -1, along, down, dst=target, **border)
        cv2.sepFilter2D(between.reshape(flat), -1, one, through, dst=job.out.reshape(flat), **border)

    return call


def simpleitk(job: Job) -> list[Contender]:
    """DiscreteGaussian with as many taps and the recursive filter for Gaussians, Convolution otherwise."""
    sitk = libraries.load("SimpleITK")
    work = job.work
    if sitk is None or work.tol is not None:  # its dense convolution is slower than SciPy's
        return []
    colour = job.x.ndim > len(work.axes)
    image = sitk.GetImageFromArray(job.x, isVector=colour)
    margins = tuple(length // 2 for length in work.lengths())
    last: list[Any] = []  # the image computed last

    def keep(compute: Callable[[], Any]) -> Callable[[], None]:
        def call() -> None:
            last[:] = [compute()]

        return call

    def result() -> Array:
        view: Array = sitk.GetArrayViewFromImage(last[0])
        return view

    allocates = "allocates its output"
    calls: list[tuple[str, Callable[[], Any], bool, str]] = []
    if work.sigma is None:
        note = f"compared inside, its border is nearest; {allocates}"
        calls.append((ITK_CONVOLUTION, _itk_convolution(job, sitk, image), True, note))
    else:
        sigma = float(work.sigma)
        note = f"recursive approximation, any sigma at one cost; {allocates}"
        calls.append((ITK_RECURSIVE, lambda: sitk.SmoothingRecursiveGaussian(image, sigma), False, note))
    if work.sigma is not None and not colour:
        error = _itk_error(sigma, margins[0])
        note = f"as many taps of a discrete (Bessel) Gaussian, border nearest; {allocates}"
        blur = lambda: sitk.DiscreteGaussian(image, sigma * sigma, 1000, error, False)  # noqa: E731
        calls.append((ITK_GAUSSIAN, blur, False, note))
    return [
        Contender(
            who, n, _with(libraries.set_simpleitk_threads, n), keep(call), result, "", exact, margins, note
        )
        for who, call, exact, note in calls
        for n in work.threads
    ]


def _itk_error(sigma: float, radius: int) -> float:
    """Return the `maximumError` at which DiscreteGaussian uses ``2 * radius + 1`` taps."""
    ive = libraries.load("scipy.special").ive  # its taps are exp(-t) I_n(t), t = sigma**2 (Lindeberg 1990)

    def tail(reach: int) -> float:
        return 1.0 - float(ive(np.abs(np.arange(-reach, reach + 1)), sigma**2).sum())

    return math.sqrt(tail(radius - 1) * tail(radius))


def _itk_convolution(job: Job, sitk: Any, image: Any) -> Callable[[], Any]:
    work = job.work
    if work.weights is not None:
        kernels = [work.weights]
    else:
        ndim = len(work.taps)
        kernels = [
            taps.reshape([-1 if a == axis else 1 for a in range(ndim)]) for axis, taps in enumerate(work.taps)
        ]
    images = [sitk.GetImageFromArray(np.flip(kernel).astype(work.dtype)) for kernel in kernels]
    border = sitk.ConvolutionImageFilter.ZERO_FLUX_NEUMANN_PAD

    def compute() -> Any:
        result = image
        for kernel in images:
            result = sitk.Convolution(result, kernel, False, border)
        return result

    return compute


def torch(job: Job) -> list[Contender]:
    """Convolutions over a padded buffer; the padding is part of the work."""
    library = libraries.load("torch")
    if library is None:
        return []
    call = TorchFilter(job, library)
    note = "grouped conv, one line per channel" if job.work.weights is None else "conv2d"
    note += "; pads into a kept buffer, allocates its output"
    return [
        Contender(TORCH, n, _with(libraries.set_torch_threads, n), call, call.result, note=note)
        for n in job.work.threads
    ]


def _nothing() -> None:
    """Prepare nothing."""


def _with(action: Callable[[int], None], count: int) -> Callable[[], None]:
    return lambda: action(count)
