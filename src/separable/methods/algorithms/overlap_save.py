"""Overlap-save: blocks with a halo are transformed, multiplied by the kernel's spectrum and transformed back.

The part of a block free of circular wrap-around is stored [1]_. The transforms are those of
`scipy.fft`, or of `numpy.fft` where SciPy is not installed.

References
----------
.. [1] A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., Pearson 2010, section 8.7.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np

from ..._base.types import Array
from ..._core import Sweeps
from ...arrays.boundaries import Line, pieces
from ...arrays.output import OVERFLOWS, ROUNDINGS, Storing, store
from ...kernel.scale import GAIN
from ...kernel.signs import Signs
from ..method import Job

# Minimum samples of a transform that is shared by threads: below, waking them costs as much as it saves.
_SHARED_SAMPLES: Final = 1 << 20

# Maximum nonzero weights for which direct sums are cheaper than finding sums of zeros by transforms.
_FEW_WEIGHTS: Final = 4096


class Geometry(NamedTuple):
    """The blocks of an array: for each axis, results per block and length of the transform."""

    results: tuple[int, ...]
    lengths: tuple[int, ...]  # of the staged block; `results` where the axis is not filtered

    @property
    def samples(self) -> int:
        """Number of staged samples per block."""
        return math.prod(self.lengths)

    def leading(self, axes: int) -> Geometry:
        """Return the geometry of the first `axes` axes; those behind them are not filtered."""
        return Geometry(self.results[:axes], self.lengths[:axes])

    def blocks(self, shape: Sequence[int]) -> int:
        """Return the number of blocks of an array."""
        return math.prod(-(-n // step) for n, step in zip(shape, self.results, strict=True))


@functools.lru_cache(maxsize=1)
def _transforms() -> tuple[Callable[..., Array], Callable[..., Array], bool]:
    """Return rfftn, irfftn, and whether they are SciPy's, which take `workers`."""
    try:
        import scipy.fft
    except ImportError:
        return np.fft.rfftn, np.fft.irfftn, False
    return scipy.fft.rfftn, scipy.fft.irfftn, True


class FourierJob:
    """A prepared correlation of arrays of one shape with dense weights: spectrum and blocks.

    Parameters
    ----------
    shape : tuple of int
        Of the arrays; real, at least one sample.
    dtype : {"float32", "float64"}
        The dtype computed in.
    weights : ndarray, float64
        One axis per axis of the array; 1 tap where it is not filtered.
    lines : sequence of Line
        Length, taps, shift and boundary mode of each axis.
    cval : float
        The padding value of mode constant.
    geometry : Geometry
        The blocks.
    exact : callable
        Given the shape of a staged block, returns the compiled job that correlates it with `weights`, shift
        0. It runs on blocks with infinities or NaN, and where sums overflow `dtype`: a transform would spread
        these over the block.
    as_summed : bool, optional
        Results have the signs and zeros of direct sums, and those of a mean lie between the smallest and the
        largest sample of their block. Where results are as small as rounding errors, `exact` runs.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        weights: Array,
        lines: Sequence[Line],
        cval: float,
        geometry: Geometry,
        exact: Callable[[tuple[int, ...]], Job],
        *,
        as_summed: bool = False,
    ) -> None:
        self._shape, self._dtype, self._cval = shape, np.dtype(dtype), cval
        self._lines = lines
        self._geometry = geometry
        self._exact = exact
        # Transform the axes with several taps; at least one, also for a kernel of a single weight.
        long_axes = tuple(axis for axis, taps in enumerate(weights.shape) if taps > 1)
        self._over = long_axes or (len(shape) - 1,)
        self._lengths = tuple(geometry.lengths[axis] for axis in self._over)
        # Scale by a power of two: weights of 1e-60 do not underflow in float32. A large one multiplies the
        # samples instead of the results: near the subnormal numbers transforms lose bits.
        exponent = math.frexp(float(np.abs(weights).max()))[1]
        self._before, self._after = (exponent, 0) if exponent > GAIN else (0, exponent)
        rfftn = _transforms()[0]
        scaled = np.ldexp(weights, -exponent)
        spectrum = np.conj(rfftn(scaled, self._lengths, axes=self._over))
        self._spectrum = spectrum.astype(np.result_type(self._dtype, np.complex64))
        self._signs = Signs.of(weights) if as_summed else None
        self._support = weights != 0 if as_summed else None

    def run(
        self,
        src: Array,
        dst: Array,
        threads: int,
        rounding: int = 0,
        overflow: int = 0,
        snap: float = 0.0,
        divisor: float = 1.0,
        low: float = -math.inf,
        high: float = math.inf,
    ) -> None:
        """Filter `src` into `dst`; the arguments are those of the compiled jobs, without a mask."""
        how = Storing(ROUNDINGS[rounding], OVERFLOWS[overflow], False, divisor, snap, None, low, high)
        rare = _Rare(self)
        starts = list(
            itertools.product(
                *(range(0, n, step) for n, step in zip(self._shape, self._geometry.results, strict=True))
            )
        )
        workers = min(threads, len(starts))
        with Sweeps(len(starts)) as counted:
            if workers <= 1:
                self._share(src, dst, starts, how, threads, rare, counted)
                return
            shares = [starts[first::workers] for first in range(workers)]
            with ThreadPoolExecutor(workers - 1) as pool:
                others = [
                    pool.submit(self._share, src, dst, share, how, 1, rare, counted) for share in shares[1:]
                ]
                self._share(src, dst, shares[0], how, 1, rare, counted)
                for other in others:
                    other.result()

    def scratch_bytes(self, threads: int) -> int:
        """Return the bytes of scratch memory: a staged block, its spectrum and its result per thread."""
        per_thread = 2 * self._dtype.itemsize * self._geometry.samples + self._batch() * self._spectrum.nbytes
        if self._signs is not None:  # the count of nonzero products, in float64
            per_thread += 4 * 8 * self._geometry.samples
        workers = min(threads, self._geometry.blocks(self._shape))
        return self._spectrum.nbytes + workers * per_thread

    def _batch(self) -> int:
        """Return the number of transforms per block: samples along the axes that are not filtered."""
        return self._geometry.samples // math.prod(self._lengths)

    def _share(
        self,
        src: Array,
        dst: Array,
        starts: list[tuple[int, ...]],
        how: Storing,
        threads: int,
        rare: _Rare,
        counted: Sweeps,
    ) -> None:
        staged = np.empty(self._geometry.lengths, self._dtype)
        for start in starts:
            counts = [
                min(step, n - at)
                for at, n, step in zip(start, self._shape, self._geometry.results, strict=True)
            ]
            part = staged[
                tuple(slice(None) if axis in self._over else slice(n) for axis, n in enumerate(counts))
            ]
            place = dst[tuple(slice(at, at + n) for at, n in zip(start, counts, strict=True))]
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                self._stage(src, start, part)
                values = self._values(part, tuple(map(slice, counts)), threads, rare)
                store(values, place, self._snapping(how, part))
            counted.step()

    @staticmethod
    def _snapping(how: Storing, staged: Array) -> Storing:
        """Return `how` with the rounding error relative to the largest sample of the block."""
        largest = float(np.abs(staged).max()) if how.snap else 0.0
        return how._replace(absolute=how.snap * largest) if math.isfinite(largest) else how

    def _values(self, staged: Array, inside: tuple[slice, ...], threads: int, rare: _Rare) -> Array:
        """Return the results of a staged block."""
        if self._signs is not None and not staged.any():
            return np.zeros(staged[inside].shape, self._dtype)
        values = self._transformed(staged, threads)[inside]
        if not math.isfinite(float(values.sum())):
            return self._swept(staged, inside, threads, rare)
        if self._signs is None:
            return values
        return self._as_summed(self._signs, staged, values, inside, threads, rare)

    def _swept(self, staged: Array, inside: tuple[slice, ...], threads: int, rare: _Rare) -> Array:
        values = np.empty(staged.shape, self._dtype)
        rare.exact(staged.shape).run(staged, values, threads)
        return values[inside]

    def _as_summed(
        self,
        signs: Signs,
        staged: Array,
        values: Array,
        inside: tuple[slice, ...],
        threads: int,
        rare: _Rare,
    ) -> Array:
        """Return the results with the signs and zeros of direct sums."""
        doubts = signs.look_at(staged, values, math.prod(self._lengths))
        if not doubts.none:
            zeros = staged.size - np.count_nonzero(staged) >= signs.nonzero  # a result may be a sum of zeros
            if signs.nonzero <= _FEW_WEIGHTS and (zeros or doubts.unsettled(None)):
                return self._swept(staged, inside, threads, rare)
            reached = self._reached(staged, threads, rare)[inside] if zeros else None
            if doubts.unsettled(reached):
                return self._swept(staged, inside, threads, rare)
            if reached is not None:
                values[~reached] = 0
        if signs.mean:
            np.clip(values, doubts.low, doubts.high, out=values)
        return values

    def _reached(self, staged: Array, threads: int, rare: _Rare) -> Array:
        """Return where a nonzero sample meets a nonzero weight: the count of such products exceeds 1/2."""
        # In float64, where the error of a transform of 2**30 samples is far below 1/2.
        rfftn, irfftn, scipys = _transforms()
        more: dict[str, Any] = {"workers": threads} if scipys and staged.size >= _SHARED_SAMPLES else {}
        spectrum = rfftn((staged != 0).astype(np.float64), axes=self._over, **more)
        spectrum *= rare.support()
        reached: Array = irfftn(spectrum, self._lengths, axes=self._over, **more) > 0.5
        return reached

    def _spectrum_of_support(self) -> Array:
        assert self._support is not None
        spectrum: Array = np.conj(
            _transforms()[0](self._support.astype(np.float64), self._lengths, axes=self._over)
        )
        return spectrum

    def _transformed(self, staged: Array, threads: int) -> Array:
        rfftn, irfftn, scipys = _transforms()
        # NumPy's transforms have neither `workers` nor `overwrite_x`.
        more: dict[str, Any] = {"workers": threads if staged.size >= _SHARED_SAMPLES else 1} if scipys else {}
        samples = np.ldexp(staged, self._before) if self._before else staged
        spectrum = rfftn(samples, axes=self._over, **more)
        spectrum *= self._spectrum
        more |= {"overwrite_x": True} if scipys else {}
        values = irfftn(spectrum, self._lengths, axes=self._over, **more)
        if values.dtype != self._dtype:  # NumPy before 2.0 transforms in float64 only
            values = values.astype(self._dtype)
        if self._after:
            np.ldexp(values, self._after, out=values)
        return values

    def _stage(self, src: Array, start: tuple[int, ...], staged: Array) -> None:
        """Copy a block with its halo into `staged`, padded beyond the ends of the array."""
        parts = [
            pieces(at - line.shift, length, line)
            for at, length, line in zip(start, staged.shape, self._lines, strict=True)
        ]
        for combination in itertools.product(*parts):
            target = staged[tuple(piece.target for piece in combination)]
            if any(piece.source is None for piece in combination):
                target[...] = self._cval
                continue
            part = src[tuple(p.source if isinstance(p.source, slice) else slice(None) for p in combination)]
            for axis, piece in enumerate(combination):
                if isinstance(piece.source, np.ndarray):
                    part = part.take(piece.source, axis)
            np.copyto(target, part, casting="unsafe")


class _Rare:
    """Jobs and spectra that few blocks need: prepared on first use, and kept for one run only."""

    def __init__(self, job: FourierJob) -> None:
        self.exact = functools.lru_cache(maxsize=2)(job._exact)
        self.support = functools.lru_cache(maxsize=1)(job._spectrum_of_support)
