"""What a filter benchmark computes: the kernel, the array, and how hard we try."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Target

Array = NDArray[np.floating]
Taps = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """One of our own ways to do the work."""

    label: str
    target: str | None = None  # the instruction set to force
    method: str = "auto"
    style: str = "output"  # "output": correlate into an array; "new": correlate; "plan": a plan made before


@dataclass(frozen=True)
class Work:
    """A filter over an array, mode reflect: separable by `taps`, or direct by `weights`.

    Attributes
    ----------
    taps
        One vector per filtered axis (the first ``len(taps)`` axes of the array); empty for direct work.
    weights
        Dense weights for direct work, as many dimensions as the array.
    sigma
        Standard deviation in samples where all taps are the same Gaussian.
    tol
        Relative l1 error allowed to us, for kernels with an l1 norm of 1.
    """

    name: str
    group: str
    kind: str  # the title without the size
    shape: tuple[int, ...]
    quick_shape: tuple[int, ...]
    variants: tuple[Variant, ...]
    targets: tuple[Target, ...] = ()
    dtype: str = "float32"
    taps: tuple[Taps, ...] = ()
    weights: Taps | None = None
    sigma: float | None = None
    threads: tuple[int, ...] = (1, 2)
    tol: float | None = None  # relative l1 error that we are allowed; peers are exact

    def title(self, quick: bool) -> str:
        """Say the work in words, with the size it has in this run."""
        size = " x ".join(map(str, self.quick_shape if quick else self.shape))
        return f"{size} {self.dtype}, {self.kind}"

    @property
    def macs(self) -> int:
        """MACs per sample: all taps, or all weights that are not zero."""
        if self.weights is not None:
            return int(np.count_nonzero(self.weights))
        return sum(len(taps) for taps in self.taps)

    @property
    def axes(self) -> tuple[int, ...]:
        """The filtered axes."""
        return tuple(range(self.weights.ndim if self.weights is not None else len(self.taps)))

    def lengths(self) -> tuple[int, ...]:
        """Kernel extent along each filtered axis."""
        if self.weights is not None:
            return self.weights.shape
        return tuple(len(taps) for taps in self.taps)


@dataclass
class Job:
    """A work made concrete: its input, one output shared by all contenders, SciPy's result."""

    work: Work
    x: Array
    out: Array
    reference: Array

    @property
    def tolerance(self) -> float:
        """Bound on the difference of two correct results: inputs lie in [0, 1), kernels have l1 norm 1."""
        # n MACs in sequence err by at most n eps * l1 * max|x| (Higham 2002, section 3.1), each side once
        return 2 * self.work.macs * float(np.finfo(self.x.dtype).eps)


def make_job(work: Work, quick: bool) -> Job:
    """Allocate and fill the arrays of `work`; every page is touched."""
    shape = work.quick_shape if quick else work.shape
    x, out, reference = (aligned(shape, work.dtype) for _ in range(3))
    np.random.default_rng(2024).random(dtype=x.dtype, out=x)
    out.fill(0)
    reference.fill(0)
    return Job(work, x, out, reference)


def aligned(shape: tuple[int, ...], dtype: str, boundary: int = 64) -> Array:
    """Return an uninitialised C-contiguous array whose data starts at a multiple of `boundary` bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + boundary, np.uint8)
    start = -raw.ctypes.data % boundary
    return raw[start : start + size].view(dtype).reshape(shape)


def gaussian_taps(sigma: float, radius: int) -> Taps:
    """Return the normalised samples of a Gaussian, as SciPy and OpenCV use them."""
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def uneven_taps(count: int, seed: int) -> Taps:
    """Return taps of l1 norm 1 without any symmetry, so that none can be folded."""
    taps = np.random.default_rng(seed).uniform(0.5, 1.5, count)
    return np.asarray(taps / taps.sum())


def disk(radius: int) -> Taps:
    """Return a normalised disk, shape ``(2 * radius + 1,) * 2``: the usual kernel that does not separate."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside = (x**2 + y**2 <= radius**2).astype(np.float64)
    return np.asarray(inside / inside.sum())


def difference(result: Array, reference: Array, margins: tuple[int, ...]) -> float:
    """Return the largest absolute difference, leaving `margins` samples out at both ends of each axis."""
    if result.shape != reference.shape:
        raise ValueError(f"result has shape {result.shape}, expected {reference.shape}")
    inner = tuple(slice(m, n - m if n > 2 * m else None) for m, n in zip(margins, result.shape, strict=False))
    ours, theirs = result[inner], reference[inner]
    # slice by slice: a volume's worth of temporaries would not fit small machines
    slices = [np.abs(a.astype(np.float64) - b).max() for a, b in zip(ours, theirs, strict=True)]
    return float(np.max(slices))  # unlike max(), this lets NaN through
