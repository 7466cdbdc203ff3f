"""Correlation by real Fourier transforms, in blocks that overlap: kernels of many weights that do not factor.

A block of samples with its halo is transformed, multiplied by the kernel's spectrum and transformed back;
the part that no wrapped-around sample reached is stored (overlap-save [1]_). The transforms are those of
`scipy.fft`, or of `numpy.fft` where SciPy is not installed.

References
----------
.. [1] A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., Pearson 2010, section 8.7.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from .._core import Sweeps
from ..arrays.output import OVERFLOWS, ROUNDINGS, Storing, store
from ..cost import model as costs
from ..cost.model import Cost, Rates
from ..kernel.signs import Signs
from ..kernel.value import SeparableKernel
from .rounding import GAIN

Array: TypeAlias = npt.NDArray[Any]

# Ways to cut an array that are compared, from one block to one for each sample: for three axes 16 each.
_COMPARED: Final = 4096

# Transforms of fewer samples are not shared by threads: waking them takes as long.
_SHARED_SAMPLES: Final = 1 << 20

# A block on its own costs as much more: its transforms are shared by threads, but what lies between is not.
_LONELY: Final = 1.1

# Sums of so many products take less time than to find out by transforms which of them are sums of zeros.
_FEW_WEIGHTS: Final = 4096

OUTSIDE: Final = -1  # in a table of sources: no sample, but the constant


class Runs(Protocol):
    """A job of the compiled core, as far as a block needs it."""

    def run(self, src: Array, dst: Array, threads: int) -> object:
        """Filter `src` into `dst`."""


class Geometry(NamedTuple):
    """How an array is cut: for each of its axes, results per block and length of the transform."""

    results: tuple[int, ...]
    lengths: tuple[int, ...]  # of the staged block; `results` where the axis is not filtered

    @property
    def samples(self) -> int:
        """Samples that one block transforms."""
        return math.prod(self.lengths)

    def leading(self, axes: int) -> Geometry:
        """Return the same for arrays that lack the axes behind the first `axes`, which are not filtered."""
        return Geometry(self.results[:axes], self.lengths[:axes])

    def blocks(self, shape: Sequence[int]) -> int:
        """Count the blocks of an array."""
        return math.prod(-(-n // step) for n, step in zip(shape, self.results, strict=True))


class FourierForm(NamedTuple):
    """A kernel as it runs by transforms: as it was given, and how arrays are cut for it."""

    kernel: SeparableKernel | Array
    geometry: Geometry

    @property
    def macs(self) -> int:
        """Multiply-accumulates per result: half of ``5 n log2(n) + 3 n`` operations on n staged samples."""
        geometry = self.geometry
        operations = geometry.samples * (5 * math.log2(max(geometry.samples, 2)) + 3)
        return max(1, round(operations / 2 / math.prod(geometry.results)))


def best_geometry(
    shape: Sequence[int], taps: Sequence[int], item: int, rates: Rates
) -> tuple[Geometry, Cost]:
    """Return the blocks that cost least, and what they cost.

    Parameters
    ----------
    shape : sequence of int
        Of the array, at least one sample.
    taps : sequence of int
        The kernel's extent along each axis; 1 where it does not reach.
    item : int
        Bytes of a sample.
    rates : Rates
        Of the machine.
    """
    over = [axis for axis, n in enumerate(taps) if n > 1] or [len(shape) - 1]
    most = round(_COMPARED ** (1 / len(shape)))
    options = [
        _cuts(n, reach, axis in over, most) for axis, (n, reach) in enumerate(zip(shape, taps, strict=True))
    ]
    # Every combination, one in each column: results, lengths and blocks of each axis.
    chosen = np.indices([option.shape[1] for option in options]).reshape(len(options), -1)
    results, lengths, blocks = np.stack(
        [option[:, column] for option, column in zip(options, chosen, strict=True)], axis=1
    )
    counts = costs.of_block(lengths.prod(axis=0), lengths[over].prod(axis=0), len(over), item, rates)
    number = blocks.prod(axis=0)
    best = int(np.argmin(rates.cost(counts) * number * np.where(number == 1, _LONELY, 1.0)))
    geometry = Geometry(tuple(map(int, results[:, best])), tuple(map(int, lengths[:, best])))
    parts = int(number[best])
    every = {name: float(count[best]) * parts for name, count in counts.items()}
    return geometry, Cost({"call": 1.0, **every}, rates, parts)


def _cuts(n: int, taps: int, transformed: bool, most: int) -> Array:
    """Return ways to cut an axis into blocks: rows of results per block, staged length and blocks."""
    counts = np.unique(np.rint(np.geomspace(1, n, min(n, most))).astype(int))
    results = np.unique(-(-n // counts))[::-1]
    lengths = [fast_length(int(step) + taps - 1) if transformed else int(step) for step in results]
    return np.array([results, lengths, -(-n // results)])


def sources(positions: Array, n: int, mode: str) -> Array:
    """Return which of n samples stands at each position of the line that they continue to.

    Parameters
    ----------
    positions : ndarray of int
    n : int
        At least 1.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}

    Returns
    -------
    ndarray of int
        In ``0..n-1``, or `OUTSIDE`.
    """
    if mode == "constant":
        return np.where((positions >= 0) & (positions < n), positions, OUTSIDE)
    if mode == "nearest":
        return np.clip(positions, 0, n - 1)
    if mode == "wrap":
        return positions % n
    period = 2 * n if mode == "reflect" else max(2 * n - 2, 1)
    inside = positions % period
    folded: Array = np.minimum(inside, period - inside - (mode == "reflect"))
    return folded


@functools.lru_cache(maxsize=1024)
def fast_length(n: int) -> int:
    """Return the smallest length >= n whose only prime factors are 2, 3 and 5: those transform fastest."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(-(-n // three) - 1, 0).bit_length()
            best = min(best, two)
            three *= 3
        five *= 5
    return best


@functools.lru_cache(maxsize=1)
def _transforms() -> tuple[Callable[..., Array], Callable[..., Array], bool]:
    """Return rfftn, irfftn, and whether they are SciPy's, which take a number of threads."""
    try:
        import scipy.fft
    except ImportError:
        return np.fft.rfftn, np.fft.irfftn, False
    return scipy.fft.rfftn, scipy.fft.irfftn, True


class _Axis(NamedTuple):
    """One axis of the array: its length, and how the kernel reaches along it (1 tap: it does not)."""

    n: int
    taps: int
    shift: int
    mode: str


class FourierJob:
    """The correlation of arrays of one shape with dense weights, prepared: spectrum and blocks.

    Parameters
    ----------
    shape : tuple of int
        Of the arrays; real, at least one sample.
    dtype : {"float32", "float64"}
        What it computes in.
    weights : ndarray, float64
        One axis for each of the array's; 1 tap where the filter does not reach.
    shifts, modes : sequences
        For each axis; ``out[i] = sum_k w[k] x[i + k - shift]``.
    cval : float
        The constant beyond the ends in mode constant.
    geometry : Geometry
        The blocks.
    exact : callable
        Given the shape of a staged block, returns the compiled job that correlates it with `weights`, shift
        0: it runs where a block holds what is not finite, or sums leave the range of `dtype`. A transform
        would spread that over the block.
    as_summed : bool, optional
        Results are negative, or not 0, only where direct sums can be; those of weights >= 0 that sum to 1 lie
        between the smallest and the largest sample of their block. Where results are too small to tell them
        from rounding, `exact` runs.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        weights: Array,
        shifts: Sequence[int],
        modes: Sequence[str],
        cval: float,
        geometry: Geometry,
        exact: Callable[[tuple[int, ...]], Runs],
        *,
        as_summed: bool = False,
    ) -> None:
        self._shape, self._dtype, self._cval = shape, np.dtype(dtype), cval
        self._axes = [_Axis(*each) for each in zip(shape, weights.shape, shifts, modes, strict=True)]
        self._geometry = geometry
        self._exact = exact
        # Over axes with several taps; a kernel of a single weight still needs one.
        wide = tuple(axis for axis, taps in enumerate(weights.shape) if taps > 1)
        self._over = wide or (len(shape) - 1,)
        self._lengths = tuple(geometry.lengths[axis] for axis in self._over)
        # Scaled by a power of two, so that weights of 1e-60 do not vanish in float32. A large one multiplies
        # the samples instead of the results: next to the smallest numbers transforms lose bits.
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
        """Filter `src` into `dst`; the arguments are those of the compiled jobs, and there is no mask."""
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
        """Return the memory taken: for each thread a staged block, its spectrum and its result."""
        own = 2 * self._dtype.itemsize * self._geometry.samples + self._batch() * self._spectrum.nbytes
        if self._signs is not None:  # a block in float64, whose samples are counted
            own += 4 * 8 * self._geometry.samples
        workers = min(threads, self._geometry.blocks(self._shape))
        return self._spectrum.nbytes + workers * own

    def _batch(self) -> int:
        """Count the transforms of one block: samples along the axes that are not filtered."""
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
        """Return `how` with rounding errors that are relative to the largest sample of the block."""
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
        """Return where a sample that is not 0 meets a weight that is not 0: their number is above 1/2."""
        # In float64, where a transform of 2**30 samples errs by far less than that.
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
        # Taken one by one, because numpy's do not know `workers` and `overwrite_x`.
        more: dict[str, Any] = {"workers": threads if staged.size >= _SHARED_SAMPLES else 1} if scipys else {}
        samples = np.ldexp(staged, self._before) if self._before else staged
        spectrum = rfftn(samples, axes=self._over, **more)
        spectrum *= self._spectrum
        more |= {"overwrite_x": True} if scipys else {}
        values = irfftn(spectrum, self._lengths, axes=self._over, **more)
        if values.dtype != self._dtype:  # numpy before 2.0 knows float64 alone
            values = values.astype(self._dtype)
        if self._after:
            np.ldexp(values, self._after, out=values)
        return values

    def _stage(self, src: Array, start: tuple[int, ...], staged: Array) -> None:
        """Copy a block and its halo, continued beyond the ends of the array."""
        pieces = [
            list(_pieces(at - axis.shift, length, axis))
            for at, length, axis in zip(start, staged.shape, self._axes, strict=True)
        ]
        for combination in itertools.product(*pieces):
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
    """What few blocks need: prepared when the first of a run does, and not kept after it."""

    def __init__(self, job: FourierJob) -> None:
        self.exact = functools.lru_cache(maxsize=2)(job._exact)
        self.support = functools.lru_cache(maxsize=1)(job._spectrum_of_support)


class _Piece(NamedTuple):
    """Places of a staged line, and the samples they come from; None: the constant."""

    target: slice
    source: slice | Array | None


def _pieces(first: int, length: int, axis: _Axis) -> Iterator[_Piece]:
    """Yield the pieces of a staged line that begins at position `first`: halo, samples, halo.

    What lies beyond the reach of the last result is read by none; it is filled, so that all is finite.
    """
    cuts = sorted({0, min(max(-first, 0), length), min(max(axis.n - first, 0), length), length})
    for begin, end in itertools.pairwise(cuts):
        target = slice(begin, end)
        if 0 <= first + begin < axis.n:
            yield _Piece(target, slice(first + begin, first + end))
        elif axis.mode == "constant":
            yield _Piece(target, None)
        else:
            yield _Piece(target, sources(np.arange(first + begin, first + end), axis.n, axis.mode))
