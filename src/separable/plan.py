"""Plans: how one filter runs on one shape and dtype, chosen once and run many times.

`plan` weighs the ways to run a kernel (as a sum of separable terms, or directly) by what they cost
per sample, prepares the compiled job and returns a frozen `Plan`. This is the only module that
talks to the compiled core.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from . import _arguments as arguments
from ._core import DirectJob, Job, empty
from ._core import core_info as core_info
from ._errors import NotSeparableError
from .factor import factor
from .kernel import KernelError, SeparableKernel

Array: TypeAlias = npt.NDArray[Any]
Pass: TypeAlias = tuple[int, Array, int, int, float]

# What running a kernel costs per sample, in the time that one weight of a dense sweep takes: 0.0185 ns
# for float32 on one AVX-512 core (Zen 4). Fitted to 1024x1024 float32 arrays, 3 to 25 taps along each
# axis, 1 to 4 terms, dense kernels of 3x3 to 25x25, within 15 %. Only ratios matter.
DENSE_COST = 10.0  # a dense sweep, beside its weights
SEPARABLE_COST = 7.0  # a sum of terms, beside its passes
PASS_COST = 3.0  # one pass along one axis, beside its multiplications
TAP_COST = 1.1  # one multiplication of a pass
FOLDED_WEIGHT = 0.65  # a weight of a dense kernel whose columns are (anti)symmetric

# The same unit: work that is worth waking one more thread for (about 20 us).
THREAD_GRAIN = 1 << 20

# Dense kernels of up to this many weights are remembered by value: hashing them costs less than
# factoring them again, and comparing them little beside running them.
CACHED_WEIGHTS = 4096


class Request(NamedTuple):
    """What is asked of a kernel: the arguments of a filter as they were given."""

    shape: int | Sequence[int]
    dtype: np.dtype[Any]
    mode: arguments.Mode
    cval: complex
    origin: arguments.Origin
    axes: arguments.Axes
    tol: float | None
    method: str
    flip: bool  # a convolution

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


class Setting(NamedTuple):
    """Where a kernel is applied, checked: everything about a filter but its weights."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    taps: tuple[int, ...]
    shifts: tuple[int, ...]  # out[i] = sum_k w[k] x[i + k - shift]
    modes: tuple[str, ...]
    cval: complex


class Choice(NamedTuple):
    """A way to run a kernel, and what it costs per sample."""

    method: str
    kernel: SeparableKernel | Array
    terms: int
    error: KernelError
    macs: int
    cost: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """A filter prepared for one shape and dtype: call it on arrays, print it to see what it does.

    Made by `plan`; immutable, safe to call from many threads at once, and picklable.

    Attributes
    ----------
    shape : tuple of int
        Shape of the arrays it filters.
    dtype : dtype
        What it computes in and returns: float32, float64, complex64 or complex128. It takes every
        array whose dtype is filtered in this one (see `correlate`).
    method : {"separable", "direct"}
        How the kernel runs: as a sum of passes along axes, or as one dense sweep.
    axes : tuple of int
        The filtered axes; `taps` and `modes` have one entry for each.
    taps : tuple of int
        Shape of the kernel.
    modes : tuple of str
        Boundary mode of each filtered axis.
    terms : int
        Number of separable terms; 0 when the method is direct.
    macs, dense_macs : int
        Multiply-accumulates per sample: as it runs, and of a dense correlation.
    error : KernelError
        Certified distance of the kernel that runs from the kernel given.
    threads : int
        Threads it uses by default: not more than the work can keep busy.
    scratch_bytes : int
        Memory taken while it runs, beside the arrays themselves (and a copy of an input of another dtype).
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
    error: KernelError
    threads: int
    scratch_bytes: int
    _jobs: tuple[Job | DirectJob, ...]
    _busy_threads: int
    _recipe: tuple[Any, ...]

    def __call__(
        self, x: npt.ArrayLike, output: arguments.Output = None, threads: int | None = None
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

        Returns
        -------
        ndarray
            The result; `output` itself where that is an array.

        Raises
        ------
        ValueError
            `x` or `output` has another shape; `output` is read-only or shares memory with `x`.
        TypeError
            `x` has a dtype that this plan does not filter.
        """
        source = given = x if type(x) is np.ndarray else arguments.input_array(x)
        if source.shape != self.shape:
            raise ValueError(
                f"`x` has shape {source.shape}, but the plan is for {self.shape}; plan again for it."
            )
        if source.dtype != self.dtype or not source.flags.aligned:
            source = self._converted(source)
        count = self.threads if threads is None else min(arguments.thread_count(threads), self._busy_threads)
        if output is None:
            # Along the memory of the input: a Fortran-ordered volume takes three times as long into C order.
            result = (
                new_array(self.shape[::-1], self.dtype).T
                if source.flags.fnc
                else new_array(self.shape, self.dtype)
            )
            self._run(source, result, count)
            return result
        result = arguments.output_array(output, given, self.shape, self.dtype)
        if result.dtype == self.dtype and result.flags.aligned:
            self._run(source, result, count)
        else:
            values = new_array(self.shape, self.dtype)
            self._run(source, values, count)
            arguments.store(values, result)
        return result

    def _converted(self, x: Array) -> Array:
        """Return a copy of `x` in the plan's dtype, if that is the one for it or a wider one."""
        own = arguments.working_dtype(x.dtype)
        if own != self.dtype and np.promote_types(own, self.dtype) != self.dtype:
            raise TypeError(
                f"`x` is {x.dtype.name}, which is filtered in {own.name}, but the plan is for "
                f"{self.dtype.name}; plan again with dtype='{own.name}', or convert `x`."
            )
        return x.astype(self.dtype, order="C")

    def _run(self, source: Array, result: Array, threads: int) -> None:
        if self.dtype.kind != "c":
            for job in self._jobs:
                job.run(source, result, threads)
        elif len(self._jobs) == 2:
            self._jobs[0].run(source.real, result.real, threads)
            self._jobs[1].run(source.imag, result.imag, threads)
        else:
            for job in self._jobs:
                job.run(_pairs(source), _pairs(result), threads)

    def __repr__(self) -> str:
        return f"<Plan {self.method}, shape {self.shape}, {self.dtype.name}, {self.macs} MACs per sample>"

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return build, self._recipe

    def __copy__(self) -> Plan:
        return self

    def __deepcopy__(self, memo: object) -> Plan:
        return self


def plan(
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
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
) -> Plan:
    """Prepare the correlation of arrays of one shape and dtype with a kernel.

    Parameters
    ----------
    kernel_or_weights : SeparableKernel or array_like
        The kernel, with one axis for each filtered axis.
    shape : tuple of int
        Shape of the arrays to filter.
    dtype : dtype, optional
        Their dtype.
    mode, cval, origin, axes, tol, method, threads
        As in `correlate`.

    Returns
    -------
    Plan
        Call it on arrays; print it to see method, cost and memory.

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
    working = arguments.working_dtype(np.dtype(dtype))
    return build(
        kernel_or_weights, Request(shape, working, mode, cval, origin, axes, tol, method, False), threads
    )


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


@functools.lru_cache(maxsize=512)
def _remembered(kernel: SeparableKernel | DenseKey, request: Request) -> Plan:
    if isinstance(kernel, DenseKey):
        return build(np.frombuffer(kernel.data, kernel.dtype).reshape(kernel.shape), request)
    return build(kernel, request)


def build(
    kernel_or_weights: SeparableKernel | npt.ArrayLike, request: Request, threads: int | None = None
) -> Plan:
    """Check everything, choose a method and prepare its jobs."""
    given = kernel_or_weights
    kernel = given if isinstance(given, SeparableKernel) else arguments.kernel_weights(given)
    setting = _setting(kernel.shape, request)
    choice = _choose(kernel, arguments.tolerance(request.tol), arguments.method_name(request.method))
    jobs = () if 0 in setting.shape else _jobs(choice, setting, request.flip)
    busy = max(1, int(math.prod(setting.shape) * choice.cost) // THREAD_GRAIN)
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
        error=choice.error,
        threads=count,
        scratch_bytes=max((job.scratch_bytes(count) for job in jobs), default=0),
        _jobs=jobs,
        _busy_threads=busy,
        _recipe=(kernel, request.hashable(), threads),
    )


def _setting(taps: tuple[int, ...], request: Request) -> Setting:
    shape = arguments.shape_tuple(request.shape, request.dtype)
    axes = arguments.filtered_axes(request.axes, len(shape))
    if len(taps) != len(axes):
        raise ValueError(
            f"kernel of shape {taps} has {len(taps)} axes, but `axes={request.axes!r}` filters {len(axes)} "
            f"of an array of shape {shape}; pass a kernel with one axis for each, or name the axes."
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
    return Setting(shape, request.dtype, axes, taps, shifts, modes, cval)


def _choose(kernel: SeparableKernel | Array, tol: float | None, method: str) -> Choice:
    """Return the cheapest way to run `kernel`, or the one that `method` names."""
    error = kernel.error if isinstance(kernel, SeparableKernel) else KernelError()
    if isinstance(kernel, SeparableKernel) and tol is not None and error.relative_l1 > tol:
        raise NotSeparableError(
            f"this SeparableKernel has a relative l1 error of {error.relative_l1:.2g} > tol {tol:g}. "
            "Raise tol, or factor the dense weights with more terms.",
            relative_l1=error.relative_l1,
            tol=tol,
            rank=kernel.rank,
        )
    weights = _nonzeros(kernel)
    direct = Choice("direct", kernel, 0, error, max(1, weights), DENSE_COST + _weight_cost(kernel) * weights)
    if method == "direct":
        return direct
    factored = kernel if isinstance(kernel, SeparableKernel) else factor(kernel, tol)
    cost = _separable_cost(factored)
    if method == "auto" and direct.cost < cost:
        return direct
    return Choice("separable", factored, factored.rank, factored.error, factored.macs, cost)


def _nonzeros(kernel: SeparableKernel | Array) -> int:
    """Count the weights that are not 0; for several terms, as if none fell on another's."""
    if isinstance(kernel, SeparableKernel):
        return sum(math.prod(int(np.count_nonzero(taps)) for taps in term) for term in kernel.terms)
    return int(np.count_nonzero(kernel))


def _weight_cost(kernel: SeparableKernel | Array) -> float:
    """Return what one weight of a dense sweep costs: less where two rows of the kernel share it."""
    if isinstance(kernel, SeparableKernel) or kernel.ndim < 2 or kernel.shape[-2] < 5:
        return 1.0
    mirrored = np.flip(kernel, -2)
    return FOLDED_WEIGHT if np.array_equal(kernel, mirrored) or np.array_equal(kernel, -mirrored) else 1.0


def _separable_cost(kernel: SeparableKernel) -> float:
    """Return what running the terms of `kernel` costs per sample.

    A pass multiplies once per tap, or per pair of taps where they are (anti)symmetric. Axes with one
    tap take no pass.
    """
    passes = [taps for term in kernel.terms for taps in term if taps.size > 1]
    multiplications = sum((taps.size + 1) // 2 if _folds(taps) else taps.size for taps in passes)
    return SEPARABLE_COST + PASS_COST * len(passes) + TAP_COST * multiplications


def _folds(taps: Array) -> bool:
    return np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1])


def _jobs(choice: Choice, setting: Setting, flip: bool) -> tuple[Job | DirectJob, ...]:
    """Prepare the compiled jobs: one, or for complex arrays sometimes one for each part.

    Real and imaginary parts are a further axis of two, which the core takes in its stride: a 1024x1024
    Gaussian takes 3.1 ms so, and 11.8 ms on parts taken one by one. Only parts padded with different
    constants need two jobs.
    """
    name = "float32" if setting.dtype.char in "fF" else "float64"
    cval = setting.cval
    if setting.dtype.kind != "c":
        return (_job(choice, setting, flip, setting.shape, name, cval.real),)
    if cval == 0 or "constant" not in setting.modes:
        return (_job(choice, setting, flip, (*setting.shape, 2), name, 0.0),)
    return tuple(_job(choice, setting, flip, setting.shape, name, part) for part in (cval.real, cval.imag))


def _job(
    choice: Choice, setting: Setting, flip: bool, shape: tuple[int, ...], dtype: str, cval: float
) -> Job | DirectJob:
    kernel = choice.kernel
    if choice.method == "separable" and isinstance(kernel, SeparableKernel):
        terms = (kernel.adjoint() if flip else kernel).terms
        return Job(shape, dtype, [_passes(term, setting, cval) for term in terms])
    dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
    weights = np.flip(dense) if flip else dense
    # The core wants one entry for every axis of the array, in order.
    order = np.argsort(setting.axes)
    place = {axis: n for n, axis in enumerate(setting.axes)}
    every = [place.get(axis) for axis in range(len(shape))]
    lengths = [1 if n is None else setting.taps[n] for n in every]
    return DirectJob(
        shape,
        dtype,
        np.ascontiguousarray(weights.transpose(order)).reshape(lengths),
        tuple(0 if n is None else setting.shifts[n] for n in every),
        tuple(0 if n is None else _code(setting.modes[n]) for n in every),
        cval,
    )


def _code(mode: str) -> int:
    return arguments.MODES[mode][1]


def _passes(term: Sequence[Array], setting: Setting, cval: float) -> list[Pass]:
    """List the passes of one term as they run, from the last axis to the first.

    Axes with one tap need no pass: they scale another. Every pass but the last is brought to a sum
    of magnitudes in [1/2, 1), so that taps of 1e-60 along one axis and 1e60 along another
    do not leave the range of float32 on the way; powers of two round nothing. Outside the array a
    pass sees what the passes before it made of `cval`.
    """
    order = sorted(range(len(term)), key=lambda n: setting.axes[n], reverse=True)
    wide = [n for n in order if len(term[n]) > 1] or order[:1]
    parts = [math.frexp(float(term[n][0])) for n in order if n not in wide]
    scale, exponent = math.prod(part[0] for part in parts), sum(part[1] for part in parts)
    passes: list[Pass] = []
    for n in wide:
        taps = term[n] * scale if n == wide[0] else term[n]
        power = math.frexp(float(np.abs(taps).sum()))[1] if n != wide[-1] else -exponent
        taps = np.ascontiguousarray(np.ldexp(taps, -power))
        passes.append((setting.axes[n], taps, setting.shifts[n], _code(setting.modes[n]), cval))
        cval *= float(taps.sum())
        exponent += power
    return passes


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised C-contiguous array, aligned to 64 bytes."""
    real = "float32" if dtype.char in "fF" else "float64"
    if dtype.kind != "c":
        return empty(shape, real)
    return empty((*shape, 2), real).view(dtype).reshape(shape)


def _pairs(z: Array) -> Array:
    """View complex `z` of shape (...,) as real (..., 2) without a copy, whatever its strides."""
    real = z.real
    return as_strided(real, (*z.shape, 2), (*z.strides, real.itemsize), writeable=z.flags.writeable)


def _lines(plan: Plan) -> list[str]:
    """Return the lines of a printed plan."""
    kernel = "x".join(map(str, plan.taps))
    how = f"separable, {_plural(plan.terms, 'term')}" if plan.terms else "direct"
    folds = _folds_of(plan)
    fewer = f", {plan.dense_macs / plan.macs:.3g}x fewer" if plan.macs < plan.dense_macs else ""
    return [
        f"{kernel} kernel on {plan.shape} {plan.dtype.name}: {how}",
        *(
            f"  axis {axis}  {_plural(taps, 'tap'):7s}  {mode:8s}  {folds.get(axis, '')}".rstrip()
            for axis, taps, mode in sorted(zip(plan.axes, plan.taps, plan.modes, strict=True), reverse=True)
        ),
        f"  {plan.macs} MACs per sample, dense {plan.dense_macs}{fewer}",
        f"  kernel's relative l1 error at most {plan.error.relative_l1:.2g}",
        f"  {_plural(plan.threads, 'thread')}, scratch {_bytes(plan.scratch_bytes)}, {core_info()['target']}",
    ]


def _folds_of(plan: Plan) -> dict[int, str]:
    """Say for each axis that is filtered in a pass of its own how the core folds its taps."""
    job = plan._jobs[0] if plan._jobs else None
    if not isinstance(job, Job):
        return {}
    found = {entry["axis"]: sorted(set(entry["folds"])) for entry in job.describe()}
    return {axis: "not folded" if folds == ["none"] else "/".join(folds) for axis, folds in found.items()}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
