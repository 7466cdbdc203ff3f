"""Plans: how one filter runs on one shape and dtype, chosen once and run many times.

`plan` checks a request, prepares the compiled job of the way that `choosing` finds cheapest and returns a
frozen `Plan`. This is the only module that talks to the filters of the compiled core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from .._base import html as _html
from .._base.caches import kept
from .._base.foreign import through
from .._base.words import shown
from .._core import Job
from .._core import core_info as core_info
from ..arrays import arguments
from ..arrays import exact as whole
from ..arrays import masks as masking
from ..arrays.decorators import hinting
from ..arrays.output import AS_IS, Overflow, Rounding, Storing, store, storing
from ..cost import model as costs
from ..cost.model import Cost, Machine
from ..factor import complex_parts
from ..kernel.value import ErrorBounds, SeparableKernel
from ..methods.cascade import Cascade
from ..methods.fft import FourierForm
from ..methods.piecewise import ShapeForm
from ..methods.rounding import as_run, leaves_float32
from ..methods.running import RunningForm
from .adjoint import Adjoint
from .bank import Bank, Part, put_together
from .core import Jobs, bounded, converts, new_array, prepare, run, takes_masks, with_mean_kept
from .explanation import Explanation, explain, in_bytes, plural
from .hardly_known import normalised
from .levels import Levels, Verdict, levels_of, verdict
from .planner import Choice, Kernel, Setting, Ways, choose, packed, terms_within, unpacked

Array: TypeAlias = npt.NDArray[Any]

# Dense kernels of up to this many weights are remembered by value: hashing them costs less than
# factoring them again, and comparing them little beside running them.
CACHED_WEIGHTS = 1 << 14

# A last axis of so many samples is most likely one of colours.
_COLOURS = (3, 4)


class Request(NamedTuple):
    """What is asked of a kernel: the arguments of a filter as they were given."""

    shape: int | Sequence[int]
    dtype: np.dtype[Any]
    mode: arguments.Mode
    cval: complex
    origin: arguments.Origin
    axes: arguments.Axes
    tol: float | None
    method: str | None
    flip: bool  # a convolution
    whole: bool = False  # of arrays of whole numbers, whose means are sums divided once
    patient: bool = False  # a search of seconds for a faster way pays
    machine: Machine | None = None  # whose rates decide; None: this one

    def hashable(self) -> Request:
        """Return the same request with tuples for lists and arrays."""
        return Request(*map(_frozen, self))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple, np.ndarray)) else value


class DenseKey(NamedTuple):
    """Small dense weights as a value that hashes."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str


class Recipe(NamedTuple):
    """What a plan is made of: what was asked, and what was chosen for it."""

    kernel: SeparableKernel | Array
    request: Request  # with the machine whose rates decided
    threads: int | None
    choice: Choice


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """A filter prepared for one shape and dtype: call it on arrays, print it to see what it does.

    Made by `plan`; immutable, safe to call from many threads at once, and picklable: a pickle holds what was
    chosen, and gives the same results wherever it is loaded.

    Attributes
    ----------
    shape : tuple of int
        Shape of the arrays it filters.
    dtype : dtype
        What it computes in and returns: float32, float64, complex64 or complex128. It takes every
        array whose dtype is filtered in this one (see `correlate`). Kernels whose weights leave the range
        of float32 are summed in double precision all the same.
    method : {"separable", "direct", "box", "recursive", "cascade", "fft"}
        How the kernel runs: as a sum of passes along axes, as one dense sweep, by running sums, as a
        sum of cosines by oscillators, as a short kernel and few weights in sequence, or by Fourier
        transforms.
    axes : tuple of int
        The filtered axes; `taps` and `modes` have one entry for each.
    taps : tuple of int
        Shape of the kernel.
    modes : tuple of str
        Boundary mode of each filtered axis.
    terms : int
        Number of separable terms; 0 for transforms and dense sweeps, also those over running sums.
    macs, dense_macs : int
        Multiply-accumulates per sample: as it runs, and of a dense correlation. Running sums count
        their additions, transforms half of their operations.
    error : ErrorBounds
        Certified distance of the kernel that runs, with taps rounded as they are there, from the one given.
    threads : int
        Threads it uses by default: not more than the work can keep busy.
    scratch_bytes : int
        Memory taken while it runs, beside the arrays themselves (and a copy of an input of another dtype).
    cost : Cost
        What one call is predicted to take on this machine: ``cost.seconds(threads)``.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    method: str
    axes: tuple[int, ...]
    taps: tuple[int, ...]
    modes: tuple[str, ...]
    terms: int
    macs: int
    dense_macs: int
    error: ErrorBounds
    threads: int
    scratch_bytes: int
    cost: Cost
    _kernel: SeparableKernel | Array  # as it runs
    _jobs: Jobs
    _busy_threads: int
    _exact_limit: float  # whole numbers of up to this magnitude are filtered without rounding
    _divisor: float  # of what the jobs give: they sum what a mean divides
    _levels: Levels  # what becomes of whole numbers that are not filtered exactly
    _setting: Setting
    _recipe: Recipe

    @property
    def _hidden_bytes(self) -> int:
        """The compiled jobs' own taps or weights, as large as the kernel's at most."""
        kernel = self._kernel
        terms = kernel.terms if isinstance(kernel, SeparableKernel) else ((kernel,),)
        return sum(taps.nbytes for term in terms for taps in term)

    def __call__(
        self,
        x: npt.ArrayLike,
        output: arguments.Output = None,
        threads: int | None = None,
        *,
        rounding: Rounding = "nearest",
        overflow: Overflow = "saturate",
        mask: npt.ArrayLike | None = None,
        nan: masking.Nan = "propagate",
    ) -> Array:
        """Filter `x`.

        Parameters
        ----------
        x : array_like
            Of the plan's shape, and of a dtype that is filtered in the plan's. Never written to.
        output : ndarray, dtype or dtype name, optional
            Where to store the result, as in `correlate`; a new array of `dtype` by default.
        threads : int, optional
            Threads to use at most; the plan's own by default.
        rounding, overflow, mask, nan : optional
            How integers are stored and what is unknown, as in `correlate`.

        Returns
        -------
        ndarray
            The result; `output` itself where that is an array.

        Raises
        ------
        ValueError
            `x`, `output` or `mask` has another shape; `output` is read-only or shares memory with `x`; sums
            of this kernel cannot be normalised.
        TypeError
            `x` has a dtype that this plan does not filter.
        """
        if type(x) is not np.ndarray or not (output is None or isinstance(output, (np.ndarray, np.dtype))):
            keywords = {"rounding": rounding, "overflow": overflow, "mask": mask, "nan": nan}
            return through(lambda array, into: self(array, into, threads, **keywords), x, output)  # type: ignore[no-any-return, arg-type]
        source = given = x
        self._check_shape(source)
        known = None if mask is None and nan == "propagate" else self._known(source, mask, nan)
        stored = None if output is None else arguments.output_dtype(output)
        found = None
        if stored is not None and stored.kind in "biu":
            found = self._verdict(source.dtype, stored, known is not None, rounding)
        if (other := self._instead(source.dtype, found, known)) is not None:
            threads = self._recipe.threads if threads is None else threads
            return other(x, output, threads, rounding=rounding, overflow=overflow, mask=mask, nan=nan)
        if found is None and self._divisor == 1 and rounding == "nearest" and overflow == "saturate":
            how = AS_IS
        else:
            how = self._storing(found, known, rounding, overflow)
        source = self.readable(source)
        count = self.threads if threads is None else min(arguments.thread_count(threads), self._busy_threads)
        # Along the memory of the input: a Fortran-ordered volume takes three times as long into C order.
        if output is not None:
            result = arguments.output_array(output, given, self.shape, self.dtype)
        elif source.flags.fnc:
            result = new_array(self.shape[::-1], self.dtype).T
        else:
            result = new_array(self.shape, self.dtype)
        if known is not None:
            self._run_masked(source, result, count, how, known)
        elif output is None or converts(result, self.dtype):
            run(self._jobs, self.dtype, source, result, count, how, None)
        else:
            values = new_array(self.shape, self.dtype)
            run(self._jobs, self.dtype, source, values, count, how, None)
            how = bounded(how, source, result.dtype, count, None)
            store(values, result, how._replace(divisor=1.0))
        return result

    def _known(self, x: Array, mask: npt.ArrayLike | None, nan: masking.Nan) -> masking.Known | None:
        """Return what is known of `x`; a constant beyond the ends that is NaN is left out as NaN is."""
        cval = self._recipe.request.cval if "constant" in self.modes else None
        known = masking.known_of(x, mask, nan, cval)
        if known is not None:
            masking.check_weights(self._recipe.kernel)
        return known

    def _instead(
        self, source: np.dtype[Any], found: Verdict | None, known: masking.Known | None
    ) -> Plan | None:
        """Return the plan that filters such samples instead of this one; None where this one does."""
        kernel, request = self._recipe.kernel, self._recipe.request
        by_weights = self.method == "direct" or (self.terms == 1 and self.method != "recursive")
        if known is not None and not by_weights:
            return self._of_weights()
        if request.whole and source.kind not in "biu":  # it is for whole numbers alone
            return cached_plan(kernel, request._replace(whole=False))
        if found is None or not found.double:
            return None
        return cached_plan(kernel, request._replace(dtype=np.dtype(np.float64)))

    def _verdict(
        self, source: np.dtype[Any], stored: np.dtype[Any], masked: bool, rounding: Rounding
    ) -> Verdict:
        return verdict(self._levels, self._exact_limit, self._divisor != 1, source, stored, masked, rounding)

    def _storing(
        self, found: Verdict | None, known: masking.Known | None, rounding: Rounding, overflow: Overflow
    ) -> Storing:
        """Say how results are stored: exact as they are, or within bounds where a level may be lost."""
        if found is None:
            return storing(rounding, overflow, True, self._divisor)
        bounds = None
        if found.bounded:
            cval = self._recipe.request.cval
            padded = "constant" in self.modes and (known is None or known.outside)
            bounds = self._levels.bounds(float(np.real(cval)) if padded else None, known is not None)
        return storing(rounding, overflow, found.exact, self._divisor, found.error, bounds)

    def keeps_levels(self, source: np.dtype[Any], output: np.dtype[Any], rounding: Rounding) -> bool:
        """Return whether values that this plan computes need only to be rounded to be stored in integers."""
        if output.kind not in "biu":
            return True
        found = self._verdict(source, output, False, rounding)
        return not (found.double or found.bounded)

    def explain(self) -> Explanation:
        """Return every way to run this filter: predicted time, error and memory, or why it does not run so.

        Returns
        -------
        Explanation
            Print it; its `candidates` hold the numbers.
        """
        request = self._recipe.request
        tol = arguments.tolerance(request.tol)
        ways = Ways(self._recipe.kernel, tol, self._setting, self._recipe.choice.kernel)
        return explain(ways, self._setting, request.flip, self.method, self.threads)

    def adjoint(self) -> Adjoint:
        """Return the adjoint of this filter: ``sum(p(x) * y) == sum(x * p.adjoint()(y))`` up to rounding.

        For every boundary mode, origin and choice of axes; with the very kernel that runs, approximated or
        not. It costs as much as the filter, and as much again of the borders.

        Returns
        -------
        Adjoint
            Call it on arrays.
        """
        kernel, request, threads, choice = self._recipe
        setting = self._setting
        if self.method not in ("box", "recursive", "cascade"):
            kernel = self._kernel
        # The flipped kernel, and what was behind the centre before it.
        origin = tuple(
            (n - 1) // 2 - (n - 1 - shift) if not request.flip else (n - 1 - shift) - n // 2
            for n, shift in zip(setting.taps, setting.shifts, strict=True)
        )
        backward = request._replace(
            dtype=self.dtype, mode="constant", cval=0.0, origin=origin, axes=self.axes,
            method=self.method, flip=not request.flip, whole=False,
        )  # fmt: skip
        form = choice.kernel
        return Adjoint.of(
            self, setting, lambda shape: build(kernel, backward._replace(shape=shape), threads, form)
        )

    def terms_of(self) -> SeparableKernel | None:
        """Return the terms that this kernel may run as beside others; None where another way is better."""
        if self._divisor != 1 or self.method not in ("separable", "direct"):
            return None
        request = self._recipe.request
        small = self._kernel.size <= CACHED_WEIGHTS and request.method == "auto"
        ready = isinstance(self._kernel, SeparableKernel)
        return terms_within(self._kernel, arguments.tolerance(request.tol)) if ready or small else None

    def readable(self, x: Array) -> Array:
        """Return `x`, or a copy of it in the plan's dtype, as the compiled jobs read it."""
        self._check_shape(x)
        if (x.dtype is not self.dtype and not converts(x, self.dtype)) or not x.flags.aligned:
            return self._converted(x)
        return x

    def _check_shape(self, x: Array) -> None:
        if x.shape != self.shape:
            raise ValueError(f"`x` has shape {x.shape}, but the plan is for {self.shape}; plan again for it.")

    def _of_weights(self) -> Plan:
        """Return the plan that sums with the weights themselves: what is known is divided by.

        Where terms cancel it is no sum of terms, and where it is little an approximation misses most of it.
        """
        kernel, request, *_ = self._recipe
        one = isinstance(kernel, SeparableKernel) and kernel.rank == 1
        runs = "separable" if one or self.method == "recursive" else "direct"
        if request.method == self.method:
            raise ValueError(
                f"with `mask` or nan='omit' this kernel runs with method={runs!r}, but method is "
                f"{self.method!r}; leave `method` out."
            )
        return cached_plan(kernel, request._replace(method=runs))

    def _run_masked(
        self, source: Array, result: Array, threads: int, how: Storing, known: masking.Known
    ) -> None:
        """Filter what is known of `source` into `result`; where little of it is known, more carefully."""
        floors = self._levels.floors(self._setting.computed.itemsize)
        direct = converts(result, self.dtype)
        if not takes_masks(self._jobs):
            kernel, request = self._recipe.kernel, self._recipe.request
            same = self if known.outside else cached_plan(kernel, request._replace(cval=0.0))
            own = np.promote_types(self.dtype, self._setting.computed)
            sums = self._sums(source, known, own, threads, same._jobs)
            exact = how.exact and how.rounding == "truncate" and result.dtype.kind in "biu"
            values = sums.normalised(self._levels.total, how.error if exact else 0.0)
            weak = bool(sums.weak(self._levels.total, *floors).any())
            direct = False
        else:
            values = result if direct else new_array(self.shape, self.dtype)
            weak = run(self._jobs, self.dtype, source, values, threads, how, known, floors)
            if not direct:
                how = how._replace(divisor=1.0, exact=False)
        if not direct:
            store(values, result, bounded(how, source, result.dtype, threads, known))
        if weak:
            self._mend(source, result, threads, how._replace(divisor=1.0, exact=False), known, floors)

    def _sums(
        self,
        source: Array,
        known: masking.Known,
        dtype: np.dtype[Any],
        threads: int,
        jobs: Jobs | None = None,
    ) -> masking.Sums:
        """Filter samples, what is known and what is not apart, in `dtype`; the samples by `jobs` if given."""
        kernel, request = self._recipe.kernel, self._recipe.request
        request = request._replace(dtype=dtype, whole=False)
        there = known.of(source)
        samples = np.where(there, source, 0).astype(dtype)
        if jobs is None:
            cval = request.cval if known.outside else 0.0
            values = cached_plan(kernel, request._replace(cval=cval))(samples, threads=threads)
        else:
            values = new_array(self.shape, dtype)
            run(jobs, dtype, samples, values, threads, AS_IS, None)
        real = np.dtype(dtype.char.lower())
        weights = [
            cached_plan(kernel, request._replace(dtype=real, cval=float(outside)))(
                which.astype(real), threads=threads
            )
            for which, outside in ((there, known.outside), (~there, not known.outside))
        ]
        return masking.Sums(values, *weights)

    def _mend(
        self,
        source: Array,
        result: Array,
        threads: int,
        how: Storing,
        known: masking.Known,
        floors: tuple[float, float],
    ) -> None:
        """Put right results of which so little is known that it underflows: in float64, or beyond that."""
        kernel, request = self._recipe.kernel, self._recipe.request
        levels, there = self._levels, known.of(source)
        cval = request.cval if known.outside and "constant" in self.modes else 0.0
        least = masking.smallest(source, there, cval)
        if not floors[0] and least * levels.least >= floors[1]:  # samples are 0, and so are results
            return
        wide = np.dtype(np.complex128 if self.dtype.kind == "c" else np.float64)
        sums = self._sums(source, known, wide, threads)
        weak = sums.weak(levels.total, *floors)
        better = sums.normalised(levels.total)
        further = levels.floors(8)
        if further.least or least * levels.least < further.small:
            poor = weak & sums.weak(levels.total, *further)
            if poor.any():
                mean = normalised(source, known, kernel, self._setting, request.flip)
                better[poor] = (levels.total * mean)[poor]
        mended = np.empty(int(np.count_nonzero(weak)), result.dtype)
        store(better[weak], mended, bounded(how, source, result.dtype, threads, known))
        result[weak] = mended

    def _converted(self, x: Array) -> Array:
        """Return a copy of `x` in the plan's dtype, if that is the one for it or a wider one."""
        own = arguments.working_dtype(x.dtype)
        if own != self.dtype and np.promote_types(own, self.dtype) != self.dtype:
            raise TypeError(
                f"`x` is {x.dtype.name}, which is filtered in {own.name}, but the plan is for "
                f"{self.dtype.name}; plan again with dtype='{own.name}', or convert `x`."
            )
        return x.astype(self.dtype, order="C")

    def __repr__(self) -> str:
        return f"<Plan {self.method}, shape {self.shape}, {self.dtype.name}, {self.macs} MACs per sample>"

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        rows = [(str(axis), *row) for axis, *row in _rows(self)]
        table = _html.table(("axis", "taps", "mode", ""), rows, (True, False, False, False))
        return _html.block(_title(self), table, _html.lines(_remarks(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        kernel, request, threads, choice = self._recipe
        given = request._replace(machine=None)
        return restore, (kernel, given, threads, packed(choice), packed(request.machine))

    def __copy__(self) -> Plan:
        return self

    def __deepcopy__(self, memo: object) -> Plan:
        return self


@overload
def plan(
    kernel_or_weights: Sequence[SeparableKernel | Array],
    shape: int | Sequence[int],
    dtype: npt.DTypeLike = ...,
    *,
    mode: arguments.Mode = ...,
    cval: complex = ...,
    origin: arguments.Origin = ...,
    axes: arguments.Axes = ...,
    tol: float | None = ...,
    method: arguments.Method = ...,
    threads: int | None = ...,
    channel_axis: int | None = ...,
) -> Bank: ...
@overload
def plan(  # type: ignore[overload-cannot-match, unused-ignore]
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    shape: int | Sequence[int],
    dtype: npt.DTypeLike = ...,
    *,
    mode: arguments.Mode = ...,
    cval: complex = ...,
    origin: arguments.Origin = ...,
    axes: arguments.Axes = ...,
    tol: float | None = ...,
    method: arguments.Method = ...,
    threads: int | None = ...,
    channel_axis: int | None = ...,
) -> Plan: ...
@hinting
def plan(
    kernel_or_weights: SeparableKernel | npt.ArrayLike | Sequence[SeparableKernel | npt.ArrayLike],
    shape: int | Sequence[int],
    dtype: npt.DTypeLike = "float32",
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    channel_axis: int | None = None,
) -> Plan | Bank:
    """Prepare the correlation of arrays of one shape and dtype with a kernel, or with several.

    Parameters
    ----------
    kernel_or_weights : SeparableKernel or array_like, or list or tuple of these
        The kernel, with one axis for each filtered axis. Several kernels read the array once where they have
        one size, and run once what their terms have in common: a derivative's smoothing, say.
    shape : tuple of int
        Shape of the arrays to filter.
    dtype : dtype, optional
        Their dtype.
    mode, cval, origin, axes, tol, method, threads, channel_axis
        As in `correlate`.

    Returns
    -------
    Plan or Bank
        Call it on arrays; print it to see method, cost and memory. A `Bank` for several kernels: its results
        lie along a first axis.

    Raises
    ------
    ValueError, TypeError
        As `correlate`; also for a `shape` whose bytes cannot be addressed.

    Examples
    --------
    >>> import separable as sp
    >>> p = sp.plan([[1, 2, 1], [2, 4, 2], [1, 2, 1]], (512, 512), mode="nearest")
    >>> p.method, p.terms, p.macs, p.dense_macs
    ('separable', 1, 6, 9)
    """
    given = arguments.dtype_of("dtype", dtype)
    working = arguments.working_dtype(given)
    shape = arguments.shape_tuple(shape, working)
    if channel_axis is not None:
        axes = arguments.axes_beside(channel_axis, axes, len(shape))
    mode, cval, origin, axes, tol = arguments.plain(mode, cval, origin, axes, tol, working)
    request = Request(
        shape, working, mode, cval, origin, axes, tol, method, False, given.kind in "biu", patient=True
    )
    kernels = _kernels_of(kernel_or_weights, shape, axes)
    if kernels:
        return build_bank(kernels, request, threads)
    return build(cast("SeparableKernel | npt.ArrayLike", kernel_or_weights), request, threads)


def _kernels_of(
    given: Any, shape: tuple[int, ...], axes: arguments.Axes
) -> tuple[SeparableKernel | Array, ...]:
    """Tell several kernels from the rows of one: each has an axis for every filtered axis."""
    if not isinstance(given, (list, tuple)):
        return ()
    if any(isinstance(each, SeparableKernel) for each in given):
        return tuple(given)
    filtered = len(arguments.filtered_axes(axes, len(shape)))
    if all(isinstance(each, np.ndarray) and each.ndim == filtered for each in given):
        return tuple(given)
    return ()


def build_bank(
    kernels: tuple[SeparableKernel | Array, ...], request: Request, threads: int | None = None
) -> Bank:
    """Plan each kernel, and put together what runs faster so; pickles of older versions name this, too."""
    parts = []
    for kernel in kernels:
        alone = build(kernel, request, threads)
        parts.append(_part(alone, alone.terms_of()))
    return put_together(parts, request.flip, threads, restore_bank)


def restore_bank(
    plans: Sequence[Plan],
    terms: Sequence[SeparableKernel | None],
    together: Sequence[tuple[int, ...]],
    flip: bool,
    threads: int | None,
) -> Bank:
    """Return the bank that was pickled: the same kernels run in the same sweeps."""
    parts = [_part(alone, runs) for alone, runs in zip(plans, terms, strict=True)]
    return put_together(parts, flip, threads, restore_bank, together)


def _part(alone: Plan, terms: SeparableKernel | None) -> Part:
    return Part(alone, alone._setting, terms, alone._exact_limit, alone._levels.relative(False))


def cached_plan(kernel_or_weights: SeparableKernel | npt.ArrayLike, request: Request) -> Plan:
    """Return the plan for `request`, from the last few hundred if it is there."""
    kernel: SeparableKernel | DenseKey
    if isinstance(kernel_or_weights, SeparableKernel):
        kernel = kernel_or_weights
    else:
        weights = np.asarray(kernel_or_weights)
        if weights.size > CACHED_WEIGHTS or weights.dtype.hasobject:
            return build(weights, request)
        kernel = DenseKey(weights.tobytes(), weights.shape, weights.dtype.str)
    try:
        return _remembered(kernel, request)
    except TypeError:
        pass  # a list among the arguments does not hash; a wrong argument fails again below
    return _remembered(kernel, request.hashable())


@kept
def parts_plan(weights: DenseKey, request: Request) -> Bank | None:
    """Return the filters with the parts of complex weights in one sweep; None where they share no passes."""
    pair = complex_parts(np.frombuffer(weights.data, weights.dtype).reshape(weights.shape))
    if pair is None or request.method not in ("auto", "separable"):
        return None
    bank = build_bank(pair, request.hashable())
    return bank if len(bank.together) == 1 else None


@kept
def _remembered(kernel: SeparableKernel | DenseKey, request: Request) -> Plan:
    if isinstance(kernel, DenseKey):
        return build(np.frombuffer(kernel.data, kernel.dtype).reshape(kernel.shape), request)
    return build(kernel, request)


def build(
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    request: Request,
    threads: int | None = None,
    known: Kernel | None = None,
) -> Plan:
    """Check everything, choose a method and prepare its jobs; pickles of older versions name this, too.

    `known` is a form of the kernel that was found before, as in `choosing.Ways`.
    """
    given = kernel_or_weights
    kernel = given if isinstance(given, SeparableKernel) else arguments.kernel_weights(given)
    if request.machine is None:
        request = request._replace(machine=costs.machine())
    setting = _setting(kernel, request)
    arguments.thread_count(threads)  # named before the work if it is wrong
    tol = arguments.tolerance(request.tol)
    choice = choose(kernel, tol, arguments.method_name(request.method), setting, known)
    return _prepared(Recipe(kernel, request.hashable(), threads, choice), setting)


def restore(
    kernel: SeparableKernel | Array, request: Request, threads: int | None, choice: Any, machine: Any
) -> Plan:
    """Return the plan that was pickled: nothing is searched or chosen again.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
    request : Request
    threads : int or None
    choice, machine : tuples
        What `packed` made of what was chosen, and of the rates it was chosen by.
    """
    request = request._replace(machine=unpacked(machine))
    return _prepared(Recipe(kernel, request, threads, unpacked(choice)), _setting(kernel, request))


# What pickles name, wherever these lie.
Request.__module__ = "separable.plan"
build.__module__ = build_bank.__module__ = restore.__module__ = restore_bank.__module__ = "separable.plan"


def _prepared(recipe: Recipe, setting: Setting) -> Plan:
    """Prepare the jobs of what was chosen."""
    kernel, request, threads, choice = recipe
    form = choice.kernel
    runs = form if isinstance(form, (SeparableKernel, np.ndarray)) else kernel
    sums = whole.summing(kernel) if request.whole and isinstance(kernel, SeparableKernel) else None
    if runs is not form:
        sums = None  # running sums divide by themselves, cascades and transforms round in any case
    choice = choice._replace(kernel=sums[0]) if sums else with_mean_kept(choice, setting, request.flip)
    jobs = () if 0 in setting.shape else prepare(choice, setting, request.flip)
    busy = choice.cost.busy_threads
    count = min(arguments.thread_count(threads), busy)
    return Plan(
        shape=setting.shape,
        dtype=setting.dtype,
        method=choice.method,
        axes=setting.axes,
        taps=setting.taps,
        modes=setting.modes,
        terms=choice.terms,
        macs=choice.macs,
        dense_macs=math.prod(setting.taps),
        error=as_run(choice.method, choice.kernel, choice.error, setting.computed, setting.axes),
        threads=count,
        scratch_bytes=max((job.scratch_bytes(count) for job in jobs), default=0),
        cost=choice.cost,
        _kernel=runs,
        _jobs=jobs,
        _busy_threads=busy,
        _exact_limit=_exact_limit(choice.kernel, setting),
        _divisor=sums[1] if sums else 1.0,
        _levels=levels_of(kernel, choice, setting, sums[1] if sums else 1.0),
        _setting=setting,
        _recipe=recipe,
    )


def _setting(kernel: SeparableKernel | Array, request: Request) -> Setting:
    taps = kernel.shape
    shape = arguments.shape_tuple(request.shape, request.dtype)
    axes = arguments.filtered_axes(request.axes, len(shape))
    if len(taps) != len(axes):
        colours = request.axes is None and len(taps) == len(shape) - 1 and shape[-1] in _COLOURS
        raise ValueError(
            f"kernel of shape {taps} has {len(taps)} axes, but `axes={shown(request.axes)}` filters "
            f"{len(axes)} of an array of shape {shape}; "
            + (
                f"pass channel_axis=-1 to filter each of the {shape[-1]} colours by itself, or name the axes."
                if colours
                else "pass a kernel with one axis for each, or name the axes."
            )
        )
    offsets = arguments.origins(request.origin, axes, taps)
    # A convolution is the correlation with the flipped kernel: what was before the centre is after
    # it, and an even number of taps has one more before than after.
    shifts = tuple(
        (n - 1) // 2 - offset if request.flip else n // 2 + offset
        for n, offset in zip(taps, offsets, strict=True)
    )
    modes = arguments.boundary_modes(request.mode, axes)
    cval = arguments.constant_value(request.cval, request.dtype)
    as_summed = request.method is None and not request.tol  # what approximates may have other signs
    setting = Setting(
        shape,
        request.dtype,
        axes,
        taps,
        shifts,
        modes,
        cval,
        request.whole,
        request.patient,
        as_summed=as_summed,
    )
    double = setting.item == 4 and leaves_float32(kernel)
    return setting._replace(double=double, machine=request.machine)


def _exact_limit(kernel: Kernel, setting: Setting) -> float:
    if isinstance(kernel, (FourierForm, Cascade)):
        return 0.0
    if isinstance(kernel, (RunningForm, ShapeForm)):
        limit = kernel.exact_limit
    else:
        limit = whole.exact_limit(kernel, setting.computed)
    cval = setting.cval
    padded = "constant" in setting.modes
    return 0.0 if padded and not (cval.imag == 0 and cval.real.is_integer() and abs(cval) <= limit) else limit


def _lines(plan: Plan) -> list[str]:
    """Return the lines of a printed plan."""
    rows = (
        f"  axis {axis}  {taps:7s}  {mode:8s}  {folds}".rstrip() for axis, taps, mode, folds in _rows(plan)
    )
    return [_title(plan), *rows, *(f"  {remark}" for remark in _remarks(plan))]


def _title(plan: Plan) -> str:
    kernel = "x".join(map(str, plan.taps))
    how = f"{plan.method}, {plural(plan.terms, 'term')}" if plan.terms else plan.method
    return f"{kernel} kernel on {plan.shape} {plan.dtype.name}: {how}"


def _rows(plan: Plan) -> list[tuple[int, str, str, str]]:
    """Return each axis with its taps, mode and how they are folded: the filtered ones first."""
    folds = _folds_of(plan)
    filtered = sorted(zip(plan.axes, plan.taps, plan.modes, strict=True), reverse=True)
    others = sorted(set(range(len(plan.shape))) - set(plan.axes), reverse=True)
    return [
        *((axis, plural(taps, "tap"), mode, folds.get(axis, "")) for axis, taps, mode in filtered),
        *((axis, "not filtered", "", "") for axis in others),
    ]


def _remarks(plan: Plan) -> list[str]:
    fewer = f", {plan.dense_macs / plan.macs:.3g}x fewer" if plan.macs < plan.dense_macs else ""
    target = core_info()["target"]
    return [
        f"{plan.macs} MACs per sample, dense {plan.dense_macs}{fewer}",
        f"kernel's relative l1 error at most {plan.error.relative_l1:.2g}",
        f"{plural(plan.threads, 'thread')}, scratch {in_bytes(plan.scratch_bytes)}, {target}",
    ]


def _folds_of(plan: Plan) -> dict[int, str]:
    """Say for each axis that is filtered in a pass of its own how the core folds its taps."""
    job = plan._jobs[0] if plan._jobs else None
    if not isinstance(job, Job):
        return {}
    found = {entry["axis"]: sorted(set(entry["folds"])) for entry in job.describe()}
    return {axis: "not folded" if folds == ["none"] else "/".join(folds) for axis, folds in found.items()}
