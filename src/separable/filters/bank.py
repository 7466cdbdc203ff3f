"""Banks: several kernels over one image, which is read once; common passes run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._base.foreign import through
from .._base.types import Array
from .._base.words import html as _html
from .._base.words.quantities import by, plural
from ..arrays import arguments
from ..arrays import exact as whole
from ..arrays.output import AS_IS, Overflow, Rounding, store, storing
from ..cost import model as costs
from ..cost.model import PredictedCost
from ..kernel.passes import SWEPT_AXES, shared
from ..kernel.scale import SPREAD, magnitude
from ..kernel.value import SeparableKernel
from ..methods.method import Setting
from ..methods.terms import passes_of
from .core import Jobs, converts, new_array, prepare_bank, run
from .words.plan import Described

# Cost of each further result of a sweep, which is written only, relative to reading and writing a sample.
_WRITTEN = 0.5


class Single(Described, Protocol):
    """The part of a plan of one kernel that a bank uses."""

    @property
    def cost(self) -> PredictedCost: ...  # noqa: D102
    def readable(self, x: Array) -> Array: ...  # noqa: D102
    def __dask_tokenize__(self) -> object: ...
    def keeps_levels(  # noqa: D102
        self, source: np.dtype[Any], output: np.dtype[Any], rounding: Rounding
    ) -> bool: ...
    def __call__(  # noqa: D102
        self,
        x: npt.ArrayLike,
        output: arguments.Output = None,
        threads: int | None = None,
        *,
        rounding: Rounding = "nearest",
        overflow: Overflow = "saturate",
    ) -> Array: ...


class Part(NamedTuple):
    """One kernel of a bank: its plan and, where it may share a sweep, its terms and their rounding error."""

    plan: Single
    setting: Setting
    terms: SeparableKernel | None
    exact_limit: float
    error: float


class Group(NamedTuple):
    """Kernels that run in one sweep."""

    members: tuple[int, ...]
    jobs: Jobs
    macs: int
    cost: PredictedCost
    exact_limit: float
    errors: tuple[float, ...]  # relative rounding error of each kernel's values that are not exact


class Recipe(NamedTuple):
    """The function and arguments, beside the plans, that restore a pickled bank."""

    restore: Callable[..., Bank]
    terms: tuple[SeparableKernel | None, ...]  # of the kernels that share a sweep
    flip: bool
    threads: int | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bank:
    """Several filters of one image, prepared for one shape and dtype: call it on arrays, print it.

    Made by `plan` of a list of kernels; immutable, safe to call from many threads at once, and picklable as
    plans are.

    Attributes
    ----------
    shape : tuple of int
        Shape of the arrays it filters. The result has one axis more, the first, along the kernels.
    dtype : dtype
        The dtype it computes in and returns, as of a `Plan`.
    plans : tuple of Plan
        Each kernel on its own: its error, taps, method.
    together : tuple of tuples of int
        The kernels that run in one sweep over the image; the others run one after the other.
    macs : int
        Multiply-accumulates per sample of the image, for all kernels.
    threads : int
        Threads it uses by default.
    scratch_bytes : int
        Scratch memory of a call, beside the arrays themselves.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> slopes = [sp.families.gaussian(1.5, order=order) for order in ((1, 0), (0, 1))]
    >>> bank = sp.plan(slopes, (480, 640))
    >>> down, along = bank(np.zeros((480, 640), np.float32))
    >>> down.shape, bank.together
    ((480, 640), ((0, 1),))
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    plans: tuple[Single, ...]
    together: tuple[tuple[int, ...], ...]
    macs: int
    threads: int
    scratch_bytes: int
    _groups: tuple[Group, ...]
    _alone: tuple[int, ...]
    _recipe: Recipe

    def __call__(
        self,
        x: npt.ArrayLike,
        output: arguments.Output = None,
        threads: int | None = None,
        *,
        rounding: Rounding = "nearest",
        overflow: Overflow = "saturate",
    ) -> Array:
        """Filter `x` with every kernel.

        Parameters
        ----------
        x : array_like
            Of the bank's shape, and of a dtype that is filtered in the bank's. Never written to.
        output : ndarray, dtype or dtype name, optional
            Where to store the results, shape ``(len(bank), *shape)``; a new array of `dtype` by default.
        threads, rounding, overflow : optional
            As in a call of a `Plan`.

        Returns
        -------
        ndarray, shape ``(len(bank), *shape)``
            The results in the order of the kernels; `output` itself where that is an array.

        Raises
        ------
        ValueError, TypeError
            As a call of a `Plan`.
        """
        if type(x) is not np.ndarray or not (output is None or isinstance(output, (np.ndarray, np.dtype))):
            return through(  # type: ignore[no-any-return]
                lambda array, into: self(array, into, threads, rounding=rounding, overflow=overflow),
                x,
                output,
            )
        original = x
        source = self.plans[0].readable(original)
        shape = (len(self.plans), *self.shape)
        if output is None:
            result = new_array(shape, self.dtype)
        else:
            result = arguments.output_array(output, original, shape, self.dtype)
        count = self._count(threads)
        alone = list(self._alone)
        for group in self._groups:
            if all(self.plans[n].keeps_levels(source.dtype, result.dtype, rounding) for n in group.members):
                self._run(group, source, result, min(count, group.cost.busy_threads), rounding, overflow)
            else:
                alone += group.members
        for n in alone:
            self.plans[n](source, result[n], count, rounding=rounding, overflow=overflow)
        return result

    def _count(self, threads: int | None) -> int:
        """Return the threads of a call that asks for so many."""
        if threads is not None:
            return arguments.thread_count(threads)
        return 1 if self._recipe.threads is None and arguments.shares_cores() else self.threads

    def _run(
        self, group: Group, source: Array, result: Array, threads: int, rounding: Rounding, overflow: Overflow
    ) -> None:
        exact = whole.largest(source.dtype) <= group.exact_limit
        hows = [storing(rounding, overflow, exact, 1.0, error) for error in group.errors]
        how = hows[0]
        alike = exact or rounding == "nearest" or len(set(group.errors)) == 1
        if alike and len(group.members) == len(self.plans) and converts(result, self.dtype):
            run(group.jobs, self.dtype, source, result, threads, how, None)
            return
        values = new_array((len(group.members), *self.shape), self.dtype)
        run(group.jobs, self.dtype, source, values, threads, AS_IS, None)
        for n, filtered, how in zip(group.members, values, hows, strict=True):
            store(filtered, result[n], how)

    def __len__(self) -> int:
        return len(self.plans)

    def __repr__(self) -> str:
        return f"<Bank of {len(self)}, shape {self.shape}, {self.dtype.name}, {self.macs} MACs per sample>"

    def __str__(self) -> str:
        rows = (f"  {n:>2s}  {kernel}  {runs}, {macs} MACs alone" for n, kernel, runs, macs in self._rows())
        return "\n".join([self._title(), *rows, *(f"  {remark}" for remark in self._remarks())])

    def _repr_html_(self) -> str:
        table = _html.table(("", "kernel", "runs in", "MACs alone"), self._rows(), (True, False, False, True))
        return _html.block(self._title(), table, _html.lines(self._remarks()))

    def _title(self) -> str:
        sweeps = len(self._groups) + len(self._alone)
        return f"{len(self)} kernels on {self.shape} {self.dtype.name}: {plural(sweeps, 'sweep')}"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        """Return number, size, sweep or method, and MACs alone of each kernel."""
        where = {n: f"sweep {g}" for g, group in enumerate(self._groups) for n in group.members}
        return [
            (str(n), by(plan.taps, "x"), where.get(n, plan.method), str(plan.macs))
            for n, plan in enumerate(self.plans)
        ]

    def _remarks(self) -> list[str]:
        alone = sum(plan.macs for plan in self.plans)
        worst = max(plan.error.relative_l1 for plan in self.plans)
        return [
            f"{self.macs} MACs per sample, {alone} one by one",
            f"kernels' relative l1 error at most {worst:.2g}",
        ]

    def __dask_tokenize__(self) -> object:
        return type(self).__name__, tuple(plan.__dask_tokenize__() for plan in self.plans), self.together

    def __reduce__(self) -> tuple[Any, ...]:
        restore, terms, flip, threads = self._recipe
        return restore, (self.plans, terms, self.together, flip, threads)

    def __copy__(self) -> Bank:
        return self

    def __deepcopy__(self, memo: object) -> Bank:
        return self


def put_together(
    parts: Sequence[Part],
    flip: bool,
    threads: int | None,
    restore: Callable[..., Bank],
    together: Sequence[tuple[int, ...]] | None = None,
) -> Bank:
    """Return the bank that runs kernels in one sweep where their shared passes cost less.

    Parameters
    ----------
    parts : sequence of Part
    flip : bool
        Whether the filters are convolutions.
    threads : int or None
        The maximum number.
    restore : callable
        Returns a pickled bank from ``plans, terms, together, flip, threads``.
    together : sequence of tuples of int, optional
        The kernels that run in one sweep, where that was chosen before.
    """
    if together is None:
        together = [members for members in _alike(parts) if _pays(parts, members)]
    groups = tuple(_group(parts, members) for members in together)
    grouped = {n for group in groups for n in group.members}
    alone = tuple(n for n in range(len(parts)) if n not in grouped)
    costs_of = [group.cost for group in groups] + [parts[n].plan.cost for n in alone]
    count = min(arguments.thread_count(threads), max(cost.busy_threads for cost in costs_of))
    scratch = [job.scratch_bytes(count) for group in groups for job in group.jobs]
    setting = parts[0].setting
    return Bank(
        shape=setting.shape,
        dtype=setting.dtype,
        plans=tuple(part.plan for part in parts),
        together=tuple(group.members for group in groups),
        macs=sum(group.macs for group in groups) + sum(parts[n].plan.macs for n in alone),
        threads=count,
        scratch_bytes=max(scratch + [parts[n].plan.scratch_bytes for n in alone]),
        _groups=groups,
        _alone=alone,
        _recipe=Recipe(
            restore,
            tuple(part.terms if n in grouped else None for n, part in enumerate(parts)),
            flip,
            threads,
        ),
    )


def _alike(parts: Sequence[Part]) -> list[tuple[int, ...]]:
    """Return the groups of kernels of equal settings and near scales whose axes fit one sweep."""
    by_setting: dict[Setting, list[tuple[int, int]]] = {}
    for n, part in enumerate(parts):
        long_axes = sum(taps > 1 for taps in part.setting.taps)
        if part.terms is not None and long_axes <= SWEPT_AXES and 0 not in part.setting.shape:
            by_setting.setdefault(part.setting, []).append((magnitude(part.terms), n))
    listed = [members for scales in by_setting.values() for members in _near(sorted(scales))]
    return [members for members in listed if len(members) > 1]


def _near(scales: Sequence[tuple[int, int]]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of kernels whose scales, as powers of two, may share a sweep."""
    while scales:
        members = [n for power, n in scales if power - scales[0][0] <= SPREAD]
        scales = scales[len(members) :]
        yield tuple(sorted(members))


def _members(parts: Sequence[Part], members: tuple[int, ...]) -> list[SeparableKernel]:
    return [terms for n in members if (terms := parts[n].terms) is not None]


def _cost(parts: Sequence[Part], members: tuple[int, ...]) -> PredictedCost:
    setting = parts[members[0]].setting
    counts = costs.of_passes(passes_of([kernel.terms for kernel in _members(parts, members)], setting))
    counts["sample"] += _WRITTEN * (len(members) - 1)
    return setting.swept(counts)


def _pays(parts: Sequence[Part], members: tuple[int, ...]) -> bool:
    """Return whether one sweep is predicted to be faster on one thread than one kernel after the other."""
    return _cost(parts, members).nanoseconds < sum(parts[n].plan.cost.nanoseconds for n in members)


def _group(parts: Sequence[Part], members: tuple[int, ...]) -> Group:
    chosen, kernels = [parts[n] for n in members], _members(parts, members)
    return Group(
        members,
        prepare_bank(kernels, chosen[0].setting),
        shared([kernel.terms for kernel in kernels]).macs,
        _cost(parts, members),
        min(part.exact_limit for part in chosen),
        tuple(part.error for part in chosen),
    )
