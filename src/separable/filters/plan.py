"""Plans: the method of one filter on arrays of one shape and dtype, chosen once and run many times."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast, overload

import numpy as np
import numpy.typing as npt

from .. import _core
from .._base.foreign import through
from .._base.types import Array
from ..arrays import arguments
from ..arrays import masks as masking
from ..arrays.boundaries import Line
from ..arrays.decorators import hinting
from ..arrays.output import AS_IS, Overflow, Rounding, Storing, store, storing
from ..cost.model import PredictedCost
from ..kernel.scale import leaves_float32
from ..kernel.value import ErrorBounds, SeparableKernel
from ..methods import method_name
from ..methods.method import Ask, Runnable, Setting, Way, terms_within
from .adjoint import Adjoint
from .bank import Bank, Part, put_together
from .core import Jobs, bounded, converts, new_array, prepare, run
from .levels import Levels, Verdict, levels_of, verdict
from .normalised import normalise
from .pickles import packed, unpacked
from .planner import choose
from .request import Integers, Request, checked
from .words import plan as description
from .words.explanation import Explanation, explain

# Maximum weights of dense kernels cached by value: hashing costs less than factoring them again, and
# comparing little beside running them.
CACHED_WEIGHTS = 1 << 14

# Maximum number of plans in `Plan._others` of one for unknown samples: samples and both masks, in the plan's
# dtype and in float64.
_NORMALISERS = 6


# Copies of the samples in the plan's precision that normalised sums apart from the mask's take.
_SUMS_APART = 8


class Task(NamedTuple):
    """The checked arguments of a plan, beside its setting."""

    kernel: SeparableKernel | Array  # the one given
    tol: float | None
    method: str | None
    threads: int | None


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
    cost : PredictedCost
        What one call is predicted to take on this machine: ``cost.seconds(threads)``.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> plan = sp.plan(sp.families.gaussian(3.0), (480, 640), mode="mirror")
    >>> plan.method, plan.macs, plan.dense_macs
    ('separable', 50, 625)
    >>> frames = np.zeros((3, 480, 640), np.float32)
    >>> for frame in frames:
    ...     smooth = plan(frame)  # no choice is made again
    >>> print(plan)
    25x25 kernel on (480, 640) float32: separable, 1 term
    ...
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
    cost: PredictedCost
    _task: Task
    _setting: Setting
    _choice: Way
    _form: Runnable  # of the choice, after `settled`
    _jobs: Jobs
    _busy_threads: int
    _exact_limit: float  # largest magnitude of whole numbers that are filtered without rounding
    _divisor: float  # of the results of jobs: sums of a mean
    _levels: Levels  # rounding errors of whole numbers that are not filtered exactly
    _others: dict[tuple[tuple[str, Any], ...], Plan]  # cache of the kernel's plans in other settings
    _whole: Plan | None = None  # the plan of the array of which this one's are parts
    _extent: tuple[float, float] | None = None  # the least and the largest known sample of that array

    @property
    def _hidden_bytes(self) -> int:
        """Upper bound of the bytes of the compiled jobs' taps or weights: those of the kernel.

        Plans for unknown samples may come to hold their `_NORMALISERS` as well, after they were counted.
        """
        kernel = self._form.kernel_of(self._task.kernel)
        terms = kernel.terms if isinstance(kernel, SeparableKernel) else ((kernel,),)
        copies = 1 + _NORMALISERS if self._setting.masked else 1
        return copies * sum(taps.nbytes for term in terms for taps in term)

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
            Threads to use at most; the plan's own by default, and one in a task of Dask.
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
        self._check_shape(x)
        known = None if mask is None and nan == "propagate" else masking.known_of(x, mask, nan, self.outside)
        integers = None
        if output is not None and (stored := arguments.output_dtype(output)).kind in "biu":
            integers = x.dtype, stored, rounding
        plan = self
        if known is not None or integers is not None or self._setting.whole:
            plan = self.suited(x.dtype, known is not None, integers)
        return plan.run(x, output, threads, rounding, overflow, known)

    def run(
        self,
        x: Array,
        output: Array | np.dtype[Any] | None,
        threads: int | None,
        rounding: Rounding,
        overflow: Overflow,
        known: masking.Known | None,
    ) -> Array:
        """Return the filtered array; the plan must suit it (`suited`)."""
        count = self._count(threads)
        result = self._result(x, output)
        source = self._converted(x)
        integer_verdict = None
        if output is not None and result.dtype.kind in "biu":
            integer_verdict = self._verdict((x.dtype, result.dtype, rounding), known is not None)
        if (
            integer_verdict is None
            and self._divisor == 1
            and rounding == "nearest"
            and overflow == "saturate"
        ):
            how = AS_IS
        else:
            how = self._storing(integer_verdict, known, rounding, overflow)
        if self._extent is not None:
            how = how.within(self._extent, x.dtype, result.dtype)
        if known is not None:
            normalise(self, source, result, count, how, known)
        elif output is None or converts(result, self.dtype):
            self._sweep(source, result, count, how)
        else:
            values = new_array(self.shape, self.dtype)
            self._sweep(source, values, count, how)
            how = bounded(how, source, result.dtype, count, None)
            store(values, result, how._replace(divisor=1.0))
        return result

    def _count(self, threads: int | None) -> int:
        """Return the threads of a call that asks for so many."""
        if threads is not None:
            return min(arguments.thread_count(threads), self._busy_threads)
        return 1 if self._task.threads is None and arguments.shares_cores() else self.threads

    def _sweep(self, source: Array, result: Array, threads: int, how: Storing) -> None:
        run(self._jobs, self.dtype, source, result, threads, how, None, divides=self._form.divides)

    def _result(self, x: Array, output: Array | np.dtype[Any] | None) -> Array:
        """Return the array for the result: `output`, or a new one in the memory order of the input.

        From Fortran order into C order a volume takes three times as long.
        """
        if output is not None:
            return arguments.output_array(output, x, self.shape, self.dtype)
        if x.flags.fnc:
            return new_array(self.shape[::-1], self.dtype).T
        return new_array(self.shape, self.dtype)

    @property
    def outside(self) -> complex | None:
        """The padding constant; None where samples pad."""
        return self._setting.cval if self._setting.padded else None

    def suited(self, source: np.dtype[Any], masked: bool, integers: Integers | None) -> Plan:
        """Return the plan for samples of `source`: this one, or the kernel's in another setting."""
        setting = self._setting
        if masked and not setting.masked:
            return self._other(masked=True).suited(source, masked, integers)
        if setting.whole and source.kind not in "biu":  # this plan is for whole numbers only
            return self._other(whole=False).suited(source, masked, integers)
        if integers is not None and self._verdict(integers, masked).double:
            return self._other(dtype=np.dtype(np.float64), double=False)
        return self

    def _other(self, **changes: Any) -> Plan:
        """Return the plan of the same kernel in a setting with `changes`, cached."""
        key = tuple(changes.items())
        other = self._others.get(key)
        if other is None:
            if self._whole is None:
                other = _made(self._task, self._setting._replace(**changes), self._choice.kernel)
            else:  # chosen for the whole array
                other = self._whole._other(**changes).part(self.shape, self._setting.starts, self._extent)
            self._others[key] = other
        return other

    def part(
        self, shape: tuple[int, ...], starts: tuple[int, ...], extent: tuple[float, float] | None = None
    ) -> Plan:
        """Return the plan of a part of the array, by the method chosen for the whole.

        What lies beyond the ends of a part is not known to it: results are those of the whole array, to the
        last bit, from as many samples inside as the kernel reaches, and at ends that are the array's own.

        Parameters
        ----------
        shape : tuple of int
            Of the part.
        starts : tuple of int
            The place of its first sample in the whole array.
        extent : (float, float), optional
            The least and the largest known sample of the whole array, where results depend on them (`clips`).

        Raises
        ------
        ValueError
            The method that runs gives other last bits on parts.
        """
        whole = self._whole or self
        reason = whole.differs_in_parts
        if reason is not None:
            raise ValueError(f"`method={self.method!r}` {reason}; name another method for arrays in parts.")
        setting = whole._setting._replace(shape=shape, frame=whole.shape, starts=starts)
        jobs = () if 0 in shape else prepare(whole._form, setting)
        scratch = max((job.scratch_bytes(whole.threads) for job in jobs), default=0)
        return replace(
            whole,
            shape=shape,
            scratch_bytes=scratch,
            _setting=setting,
            _jobs=jobs,
            _others={},
            _whole=whole,
            _extent=extent,
        )

    @property
    def masked(self) -> bool:
        """Whether it is for arrays some of whose samples may be unknown."""
        return self._setting.masked

    @property
    def differs_in_parts(self) -> str | None:
        """Why parts of an array may have other last bits than the whole by this method; None: they do not."""
        return self._form.differs_in_parts(self._setting)

    def clips(self, integers: Integers, masked: bool) -> bool:
        """Return whether results are clipped to what the samples allow: their extent decides, then."""
        if integers[1].kind not in "biu":
            return False
        return self.suited(integers[0], masked, integers)._verdict(integers, masked).bounded

    @property
    def lines(self) -> list[Line]:
        """Length, taps, shift and boundary mode of each axis of the arrays; 1 tap where not filtered."""
        return self._setting.lines(len(self.shape))

    def copied_bytes(self, source: np.dtype[Any], stored: np.dtype[Any]) -> int:
        """Return the bytes per sample that a call copies beside `scratch_bytes`: other dtypes, and masks.

        Parameters
        ----------
        source, stored : dtype
            Of the arrays that it is called on, and of those that it stores results in.
        """
        item = max(self.dtype.itemsize, self._setting.computed.itemsize)
        copied = 0 if converts(np.empty(0, source), self.dtype) else self.dtype.itemsize
        copied += 0 if converts(np.empty(0, stored), self.dtype) else item
        if self._setting.masked:
            copied += 2 if self._form.takes_masks else _SUMS_APART * max(item, 8)
        return copied

    @property
    def recipe(self) -> dict[str, str]:
        """What results depend on, beside samples and machine: plans of one recipe give the same bits."""
        return {
            "kernel": _digest(self._task.kernel),
            "method": self.method,
            "tolerance": repr(self._task.tol),
            "setting": repr(tuple(self._setting._replace(machine=None))),
        }

    def _verdict(self, integers: Integers, masked: bool) -> Verdict:
        source, stored, rounding = integers
        return verdict(self._levels, self._exact_limit, self._divisor != 1, source, stored, masked, rounding)

    def _storing(
        self,
        integer_verdict: Verdict | None,
        known: masking.Known | None,
        rounding: Rounding,
        overflow: Overflow,
    ) -> Storing:
        """Return how results are stored: exact ones unchanged, others clipped where a level may be lost."""
        if integer_verdict is None:
            return storing(rounding, overflow, True, self._divisor)
        bounds = None
        if integer_verdict.bounded:
            padded = self._setting.padded and (known is None or known.outside)
            bounds = self._levels.bounds(self._setting.cval.real if padded else None, known is not None)
        return storing(
            rounding, overflow, integer_verdict.exact, self._divisor, integer_verdict.error, bounds
        )

    def keeps_levels(self, source: np.dtype[Any], output: np.dtype[Any], rounding: Rounding) -> bool:
        """Return whether values that this plan computes need only rounding to be stored in integers."""
        if output.kind not in "biu":
            return True
        integer_verdict = self._verdict((source, output, rounding), False)
        return not (integer_verdict.double or integer_verdict.bounded)

    def explain(self) -> Explanation:
        """Return every way to run this filter: predicted time, error and memory, or why it does not run so.

        Returns
        -------
        Explanation
            Print it; its `candidates` hold the numbers.
        """
        ask = Ask(self._task.kernel, self._task.tol, self._setting, self._choice.kernel)
        return explain(ask, self.method, self.threads)

    def adjoint(self) -> Adjoint:
        """Return the adjoint of this filter: ``sum(p(x) * y) == sum(x * p.adjoint()(y))`` up to rounding.

        For every boundary mode, origin and choice of axes; with the very kernel that runs, approximated or
        not. It costs as much as the filter, and as much again of the borders.

        Returns
        -------
        Adjoint
            Call it on arrays.
        """
        setting, task = self._setting, self._task._replace(method=self.method)
        kernel = self._choice.kernel.kernel_of(task.kernel)
        # The flipped kernel, its centre mirrored.
        backward = setting._replace(
            modes=("constant",) * len(setting.modes),
            cval=0j,
            shifts=tuple(n - 1 - shift for n, shift in zip(setting.taps, setting.shifts, strict=True)),
            flip=not setting.flip,
            whole=False,
            as_summed=False,
            masked=False,
            double=setting.item == 4 and leaves_float32(kernel),
        )
        task = task._replace(kernel=kernel)
        return Adjoint.of(
            self, setting, lambda shape: _made(task, backward._replace(shape=shape), self._choice.kernel)
        )

    def terms_of(self) -> SeparableKernel | None:
        """Return the terms by which this kernel may share a sweep; None where another method is better."""
        if self._divisor != 1 or self.method not in ("separable", "direct"):
            return None
        kernel = self._form.kernel_of(self._task.kernel)
        small = kernel.size <= CACHED_WEIGHTS and self._task.method == "auto"
        ready = isinstance(kernel, SeparableKernel)
        return terms_within(kernel, self._task.tol) if ready or small else None

    def normaliser(self, dtype: np.dtype[Any], cval: complex) -> Plan:
        """Return the plan that sums samples, or masks, in `dtype`."""
        setting = self._setting
        double = dtype.char in "fF" and setting.double
        return self._other(dtype=dtype, cval=complex(cval), whole=False, double=double)

    def readable(self, x: Array) -> Array:
        """Return `x`, or a copy of it in the plan's dtype, that the compiled jobs can read."""
        self._check_shape(x)
        return self._converted(x)

    def _check_shape(self, x: Array) -> None:
        if x.shape != self.shape:
            raise ValueError(f"`x` has shape {x.shape}, but the plan is for {self.shape}; plan again for it.")

    def _converted(self, x: Array) -> Array:
        """Return `x`, or a copy in the plan's dtype, which must be at least the working dtype of `x`."""
        if (x.dtype is self.dtype or converts(x, self.dtype)) and x.flags.aligned:
            return x
        working = arguments.working_dtype(x.dtype)
        if working != self.dtype and np.promote_types(working, self.dtype) != self.dtype:
            raise TypeError(
                f"`x` is {x.dtype.name}, which is filtered in {working.name}, but the plan is for "
                f"{self.dtype.name}; plan again with dtype='{working.name}', or convert `x`."
            )
        return x.astype(self.dtype, order="C")

    def __repr__(self) -> str:
        return f"<Plan {self.method}, shape {self.shape}, {self.dtype.name}, {self.macs} MACs per sample>"

    def __str__(self) -> str:
        return description.text(self)

    def _repr_html_(self) -> str:
        return description.notebook(self)

    def __dask_tokenize__(self) -> object:
        recipe = tuple(self.recipe.items())
        return type(self).__name__, recipe, self.dtype.str, self.terms, self.macs, self._extent

    def __reduce__(self) -> tuple[Any, ...]:
        if self._whole is not None:
            return restore_part, (self._whole, self.shape, self._setting.starts, self._extent)
        return restore_plan, (*self._task, packed(self._setting), packed(self._choice))

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
    arrays = arguments.dtype_of("dtype", dtype)
    working = arguments.working_dtype(arrays)
    shape = arguments.shape_tuple(shape, working)
    if channel_axis is not None:
        axes = arguments.axes_beside(channel_axis, axes, len(shape))
    mode, cval, origin, axes, tol = arguments.plain(mode, cval, origin, axes, tol, working)
    request = Request(
        shape, working, mode, cval, origin, axes, tol, method, False, arrays.kind in "biu", patient=True
    )
    kernels = _kernels_of(kernel_or_weights, shape, axes)
    if kernels:
        return build_bank(kernels, request, threads)
    return build(cast("SeparableKernel | npt.ArrayLike", kernel_or_weights), request, threads)


def _kernels_of(
    given: Any, shape: tuple[int, ...], axes: arguments.Axes
) -> tuple[SeparableKernel | Array, ...]:
    """Return the kernels of a list of kernels; empty for the rows of one, which lack an axis."""
    if not isinstance(given, (list, tuple)):
        return ()
    if any(isinstance(kernel, SeparableKernel) for kernel in given):
        return tuple(given)
    filtered = len(arguments.filtered_axes(axes, len(shape)))
    if all(isinstance(kernel, np.ndarray) and kernel.ndim == filtered for kernel in given):
        return tuple(given)
    return ()


def build_bank(
    kernels: tuple[SeparableKernel | Array, ...], request: Request, threads: int | None = None
) -> Bank:
    """Return the bank of several kernels; pickles of older versions name this function."""
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
    """Return the bank that was pickled, with the same kernels in the same sweeps."""
    parts = [_part(alone, runs) for alone, runs in zip(plans, terms, strict=True)]
    return put_together(parts, flip, threads, restore_bank, together)


def _part(alone: Plan, terms: SeparableKernel | None) -> Part:
    return Part(alone, alone._setting, terms, alone._exact_limit, alone._levels.relative(False))


def build(
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    request: Request,
    threads: int | None = None,
    *,
    parted: bool = False,
) -> Plan:
    """Return the plan of a request, checked; pickles of older versions name this function.

    `parted`: only methods by which parts of an array have the bits of the whole.
    """
    unchecked = kernel_or_weights
    kernel = unchecked if isinstance(unchecked, SeparableKernel) else arguments.kernel_weights(unchecked)
    setting = checked(kernel, request)._replace(parted=parted)
    arguments.thread_count(threads)  # a wrong number raises before the work
    tol = arguments.tolerance(request.tol)
    return _made(Task(kernel, tol, method_name(request.method), threads), setting)


def restore(
    kernel: SeparableKernel | Array, request: Request, threads: int | None, choice: Any, machine: Any
) -> Plan:
    """Return the plan that an earlier version pickled: nothing is searched or chosen again.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
    request : Request
    threads : int or None
    choice, machine : tuples
        The `packed` way and rates.
    """
    setting = checked(kernel, request._replace(machine=unpacked(machine)))
    task = Task(kernel, arguments.tolerance(request.tol), request.method, threads)
    return _prepared(task, setting, unpacked(choice))


def restore_plan(
    kernel: SeparableKernel | Array,
    tol: float | None,
    method: str | None,
    threads: int | None,
    setting: Any,
    choice: Any,
) -> Plan:
    """Return the plan that was pickled: nothing is checked, searched or chosen again.

    Parameters
    ----------
    kernel, tol, method, threads
        Those of a `Task`.
    setting, choice : tuples
        Both `packed`.
    """
    return _prepared(Task(kernel, tol, method, threads), unpacked(setting), unpacked(choice))


def restore_part(
    whole: Plan, shape: tuple[int, ...], starts: tuple[int, ...], extent: tuple[float, float] | None
) -> Plan:
    """Return the plan of a part that was pickled."""
    return whole.part(shape, starts, extent)


# The module that pickles name.
for _name in (Request, build, build_bank, restore, restore_bank, restore_part, restore_plan):
    _name.__module__ = "separable.plan"


def _made(task: Task, setting: Setting, known: Runnable | None = None) -> Plan:
    """Return the plan with the method chosen; `known` is a form of the kernel found before."""
    choice = choose(Ask(task.kernel, task.tol, setting, known), task.method)
    return _prepared(task, setting, choice)


def _prepared(task: Task, setting: Setting, choice: Way) -> Plan:
    """Return the plan with the jobs of a choice prepared."""
    form, divisor, error = choice.kernel.settled(task.kernel, setting, choice.error)
    jobs = () if 0 in setting.shape else prepare(form, setting)
    busy = choice.cost.busy_threads
    count = min(arguments.thread_count(task.threads), busy)
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
        error=form.error_in(setting.computed, setting.axes, error),
        threads=count,
        scratch_bytes=max((job.scratch_bytes(count) for job in jobs), default=0),
        cost=choice.cost,
        _task=task,
        _setting=setting,
        _choice=choice,
        _form=form,
        _jobs=jobs,
        _busy_threads=busy,
        _exact_limit=_exact_limit(form, setting),
        _divisor=divisor,
        _levels=levels_of(task.kernel, form, setting, divisor),
        _others={},
    )


def _digest(kernel: SeparableKernel | Array) -> str:
    """Return a check sum of a kernel's numbers."""
    terms = kernel.terms if isinstance(kernel, SeparableKernel) else ((kernel,),)
    sums = hashlib.sha256()
    for term in terms:
        for taps in term:
            sums.update(f"{taps.shape} {taps.dtype.str}".encode())
            sums.update(np.ascontiguousarray(taps).tobytes())
    return sums.hexdigest()


def _exact_limit(form: Runnable, setting: Setting) -> float:
    limit, cval = form.exact_limit(setting.computed), setting.cval
    exact_padding = cval.imag == 0 and cval.real.is_integer() and abs(cval) <= limit
    return limit if exact_padding or not setting.padded else 0.0


def core_info() -> dict[str, Any]:
    """Return what the compiled core is, and what it found of this machine.

    Returns
    -------
    dict
        ``target``: the instruction set in use, one of the ``targets`` that run here ("v4" is x86-64-v4).
        ``vector_bits``: the length of its vectors. ``compiler``: what built the core. ``caches``: bytes of
        ``l1d``, ``l2`` and ``l3``. ``cores``: those that this process may use.

    Examples
    --------
    >>> import separable as sp
    >>> info = sp.core_info()
    >>> info["target"] in info["targets"], info["cores"] >= 1
    (True, True)
    """
    return _core.core_info()
