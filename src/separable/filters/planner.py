"""Choosing how to run a kernel by what it costs: passes, a dense sweep, running sums, waves or transforms.

Ways are compared by one figure, whatever the threads of a plan or a call. They round differently: chosen for
so many threads, the same filter would give other bits where fewer are free.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .._base.caches import kept
from .._base.errors import NotSeparableError
from ..arrays.exact import exact_limit
from ..cost import model as costs
from ..cost.model import Cost, Machine, Pass, Rates
from ..factor import DEFAULT_EFFORT, Effort, factored, within
from ..kernel.passes import shared
from ..kernel.signs import terms_keep
from ..kernel.value import ErrorBounds, SeparableKernel, Term
from ..methods.cascade import Cascade, find_cascade
from ..methods.cosines import Waves
from ..methods.fft import FourierForm, Geometry, best_geometry
from ..methods.piecewise import ShapeForm, shape_form
from ..methods.running import DEFAULT_TOL, RunningForm, box_form, recursive_form

Array: TypeAlias = npt.NDArray[Any]
Kernel: TypeAlias = SeparableKernel | RunningForm | ShapeForm | Cascade | FourierForm | Array

# Running sums never pay below so many taps: nobody looks for a form then.
SHORT_TAPS: Final = 9

# Transforms never pay below so many weights, by a factor of two on every machine measured.
FEW_WEIGHTS: Final = 100

# Terms are remembered for dense kernels of up to so many weights.
_REMEMBERED: Final = 1 << 16

# A plan that will take longer than that is worth the search for a cascade, which takes up to seconds.
_WORTH_A_SEARCH: Final = 2e6  # nanoseconds

# Nanoseconds a sample of the array between the two filters of a cascade, whose pages are new in every call.
_NEW_PAGES: Final = 0.8

# Weights far apart share no loads: each counts as so many of a dense kernel.
_SCATTERED: Final = 1.6

# Ways are compared by what so few and so many threads are predicted to take.
_THREADS: Final = (1, 4)

# Transforms have to be faster by so much: the other ways round within their windows, and take less memory.
_WORTH: Final = 1.15

# Whole numbers of so many levels or more are kept exact where they can be.
_LEVELS: Final = 255.0


class Setting(NamedTuple):
    """Where a kernel is applied, checked: everything about a filter but its weights."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    taps: tuple[int, ...]
    shifts: tuple[int, ...]  # out[i] = sum_k w[k] x[i + k - shift]
    modes: tuple[str, ...]
    cval: complex
    whole: bool = False  # the arrays hold whole numbers
    patient: bool = False  # a plan is made once and run many times: a search of seconds pays
    double: bool = False  # float32 arrays, whose sums are kept in float64
    machine: Machine | None = None  # whose rates decide; None: this one

    @property
    def computed(self) -> np.dtype[Any]:
        """What sums are kept in, float32 or float64."""
        return np.dtype(np.float64 if self.double or self.item == 8 else np.float32)

    as_summed: bool = False  # results are negative, or not 0, only where direct sums can be

    @property
    def real_shape(self) -> tuple[int, ...]:
        """The shape as the core sees it: the parts of complex numbers are a further axis."""
        return (*self.shape, 2) if self.dtype.kind == "c" else self.shape

    @property
    def samples(self) -> int:
        """How many real numbers the arrays hold."""
        return math.prod(self.real_shape)

    @property
    def item(self) -> int:
        """Bytes of a real number."""
        return 4 if self.dtype.char in "fF" else 8

    @property
    def distant(self) -> bool:
        """Whether input and output do not fit the caches together."""
        return 2 * self.item * self.samples > self.rates.l3

    @property
    def rates(self) -> Rates:
        """What the machine takes for them; as for float32 where these are summed in float64.

        The scale of a kernel is no reason to choose another way.
        """
        return (self.machine or costs.machine()).rates(self.dtype)


class Choice(NamedTuple):
    """A way to run a kernel, and what it costs."""

    method: str
    kernel: Kernel
    terms: int
    error: ErrorBounds
    macs: int
    cost: Cost


class Refusal(NamedTuple):
    """Why a kernel does not run in one way: never, or not unless that is asked for by name."""

    method: str
    reason: str


def choose(
    kernel: SeparableKernel | Array,
    tol: float | None,
    method: str | None,
    setting: Setting,
    known: Kernel | None = None,
) -> Choice:
    """Return the fastest way to run `kernel`, or the one that `method` names; `known` as in `Ways`.

    Raises
    ------
    NotSeparableError
        `kernel` errs more than `tol` already.
    ValueError
        It does not run in the way that `method` names.
    """
    ways = Ways(kernel, tol, setting, known)
    if method is None or method == "auto":
        return min(ways.choices(), key=weighed)
    found = ways.named(method)
    if isinstance(found, Refusal):
        raise ValueError(f"`method={method!r}` {found.reason}; pass method='auto' for this kernel.")
    return found


def weighed(choice: Choice) -> float:
    """Return what ways are compared by, in seconds: on few threads and on many, transforms dearer.

    By one thread's time alone, transforms of small images, which threads do not share, would be taken where
    four threads sweep in a third of their time; by four threads' time, sweeps where one thread takes three
    times as long. The geometric mean is within 1.6 of the least either way.
    """
    few, many = map(choice.cost.seconds, _THREADS)
    return math.sqrt(few * many) * (_WORTH if choice.method == "fft" else 1.0)


class Ways:
    """All ways to run one kernel in one setting; dense weights are factored when terms are first asked for.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
    tol : float or None
        Relative l1 error allowed.
    setting : Setting
    known : optional
        A form of the kernel that was found before: terms, waves or a cascade are not searched for again.

    Raises
    ------
    NotSeparableError
        `kernel` errs more than `tol` already.
    """

    def __init__(
        self,
        kernel: SeparableKernel | Array,
        tol: float | None,
        setting: Setting,
        known: Kernel | None = None,
    ) -> None:
        self._kernel, self._tol, self._setting, self._known = kernel, tol, setting, known
        self._error = kernel.error if isinstance(kernel, SeparableKernel) else ErrorBounds()
        if isinstance(kernel, SeparableKernel) and tol is not None and self._error.relative_l1 > tol:
            raise NotSeparableError(
                f"this SeparableKernel has a relative l1 error of {self._error.relative_l1:.2g} > "
                f"tol {tol:g}. "
                "Raise tol, or factor the dense weights with more terms.",
                relative_l1=self._error.relative_l1,
                tol=tol,
                rank=kernel.rank,
            )

    def named(self, method: str) -> Choice | Refusal:
        """Return the way of that name, whatever it costs; a refusal says what it needs."""
        found: Choice | Refusal = getattr(self, f"_{method}")()
        return found

    def choices(self) -> list[Choice]:
        """Return the ways among which the cheapest is taken."""
        return [found for method in METHODS if isinstance(found := self.considered(method), Choice)]

    def considered(self, method: str) -> Choice | Refusal:
        """Return the way of that name; a refusal says why it is not chosen without being asked for."""
        reason = getattr(self, f"_{method}_reserved", lambda: None)()
        return self.named(method) if reason is None else Refusal(method, reason)

    @functools.cached_property
    def _factored(self) -> SeparableKernel | None:
        """The kernel as terms; None where the search ended before they were within the tolerance."""
        known = self._known
        return known if isinstance(known, SeparableKernel) else terms_within(self._kernel, self._tol)

    @functools.cached_property
    def _weights(self) -> int:
        """How many weights are not 0; for several terms, as if none fell on another's."""
        if not isinstance(self._kernel, SeparableKernel):
            return int(np.count_nonzero(self._kernel))
        terms = self._kernel.terms
        count = sum(math.prod(int(np.count_nonzero(taps)) for taps in term) for term in terms)
        return min(count, self._kernel.size)

    def _separable(self) -> Choice | Refusal:
        kernel = self._factored
        if kernel is None:
            return Refusal(
                "separable",
                "needs terms, and the search for them ended too early: pass factor(weights, effort=...)",
            )
        cost = self._swept(costs.of_passes(passes_of([kernel.terms], self._setting)))
        return Choice("separable", kernel, kernel.rank, kernel.error, kernel.macs, cost)

    def _separable_reserved(self) -> str | None:
        kernel = self._factored
        if not self._setting.as_summed or kernel is None or terms_keep(kernel, self._kernel):
            return None
        return "its terms cancel, and rounding leaves values that are negative, or not 0, where no sum is"

    def _direct(self) -> Choice:
        cost = self._swept(costs.of_weights(self._weights, _has_mirrored_columns(self._kernel)))
        return Choice("direct", self._kernel, 0, self._error, max(1, self._weights), cost)

    def _direct_reserved(self) -> str | None:
        # Along one axis a dense sweep saves nothing but zeros, and takes up to three times as long.
        setting = self._setting
        if sum(n > 1 for n in setting.taps) > 1 or 2 * self._weights < math.prod(setting.taps):
            return None
        return "along one axis it is a slower pass"

    def _box(self) -> Choice | Refusal:
        form = self._box_form
        if form is not None:
            return self._running(form)
        if self._shape is None:
            needs = (
                "equal taps along each axis of one term, or weights that equal their neighbours, as in a disk"
            )
            return Refusal("box", f"needs {needs}")
        return self._filled(self._shape)

    @property
    def _box_form(self) -> RunningForm | None:
        return None if self._factored is None else box_form(self._factored)

    def _filled(self, form: ShapeForm) -> Choice:
        setting = self._setting
        exact = setting.whole and form.exact
        if not exact:
            form = form.within(self._tol, setting.dtype)
        error = form.error if exact else form.error_on_floats
        words = exact and form.fits_words(setting.dtype)
        each = form.cost(setting.real_shape, setting.axes, words=words)
        counts = {"running": each, "distant": float(setting.distant)}
        cost = costs.of_call(counts, setting.samples, setting.rates)
        return Choice(form.method, form, 0, error, form.macs, cost)

    @functools.cached_property
    def _shape(self) -> ShapeForm | None:
        if isinstance(self._kernel, SeparableKernel) and self._kernel.rank == 1:
            return None  # a box, or no shape
        return shape_form(self._kernel)

    def _recursive(self) -> Choice | Refusal:
        if isinstance(self._known, RunningForm) and self._known.method == "recursive":
            return self._running(self._known)
        within = DEFAULT_TOL if self._tol is None else self._tol
        form = None if self._factored is None else recursive_form(self._factored, within)
        if form is None:
            return Refusal(
                "recursive",
                "needs one term with taps that are symmetric or antisymmetric about the middle, and few "
                f"cosines within tol={within:g}",
            )
        return self._running(form)

    def _box_reserved(self) -> str | None:
        if math.prod(self._setting.taps) < SHORT_TAPS:
            return f"pays from {SHORT_TAPS} weights on"
        if self._box_form is not None:
            return self._short()
        if self._shape is None:  # `_box` says what it needs
            return None
        exact = self._setting.whole and self._shape.exact
        if exact or (self._tol is not None and self._filled(self._shape).error.relative_l1 <= self._tol):
            return None
        return "rounds sums of floats: only within a `tol` that is given"

    def _short(self) -> str | None:
        return f"pays from {SHORT_TAPS} taps on" if max(self._setting.taps) < SHORT_TAPS else None

    def _recursive_reserved(self) -> str | None:
        return "approximates: only where `tol` is given" if self._tol is None else self._short()

    def _cascade(self) -> Choice | Refusal:
        kernel, own = self._kernel, self._error
        tol = DEFAULT_TOL if self._tol is None else self._tol
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        known = self._known
        found = known if isinstance(known, Cascade) else find_cascade(dense, tol - own.relative_l1)
        if found is None:
            needs = f"a smooth kernel along two axes or more, whose error of tol={tol:g} leaves out weights"
            return Refusal("cascade", f"needs {needs}")
        error = ErrorBounds(*(a + b for a, b in zip(astuple(own), astuple(found.error), strict=True)))
        first = self._swept(costs.of_passes(passes_of([found.smooth.terms], self._setting)))
        second = self._swept(costs.of_weights(round(_SCATTERED * found.weights), False))
        counts = {
            name: first.counts.get(name, 0.0) + second.counts.get(name, 0.0)
            for name in {**first.counts, **second.counts}
        }
        counts["running"] = _NEW_PAGES * self._setting.samples  # a rate of about 1
        return Choice("cascade", found, 0, error, found.macs, Cost(counts, self._setting.rates))

    def _cascade_reserved(self) -> str | None:
        if self._tol is None:
            return "approximates: only where `tol` is given"
        if self._factored is not None and self._factored.rank == 1:
            return "pays for kernels of several terms"
        ways = (self._separable(), self._direct())
        least = min(way.cost.nanoseconds for way in ways if isinstance(way, Choice))
        if self._setting.patient and least > _WORTH_A_SEARCH:
            return None
        return "takes a search: only by name, or in plans of large arrays"

    def _fft(self) -> Choice | Refusal:
        setting = self._setting
        if setting.samples == 0:
            return Refusal("fft", "needs an array with samples")
        # Rounding relative to a block's largest sample is too coarse for a small whole number beside it.
        wide = setting._replace(dtype=np.dtype(np.float64)) if setting.whole else setting
        geometry, cost = best_geometry(setting.real_shape, self._reach(), wide.item, wide.rates)
        form = FourierForm(self._kernel, geometry)
        return Choice("fft", form, 0, self._error, form.macs, cost)

    def _fft_reserved(self) -> str | None:
        if self._weights < FEW_WEIGHTS:
            return f"pays from {FEW_WEIGHTS} weights on"
        if self._setting.whole and exact_limit(self._kernel, self._setting.dtype) >= _LEVELS:
            return "rounds, where sums of these whole numbers are exact"
        return None

    def _reach(self) -> tuple[int, ...]:
        """Return the kernel's extent along each axis of the array as the core sees it."""
        reach = [1] * len(self._setting.real_shape)
        for axis, taps in zip(self._setting.axes, self._setting.taps, strict=True):
            reach[axis] = taps
        return tuple(reach)

    def _swept(self, counts: costs.Counts) -> Cost:
        setting = self._setting
        volume = sum(n > 1 for n in setting.shape) > 2
        return costs.of_sweep(counts, setting.samples, volume, setting.distant, setting.rates)

    def _running(self, form: RunningForm) -> Choice:
        setting = self._setting
        each = form.cost(setting.real_shape, setting.axes)
        counts = costs.of_running(each, sum(n > 1 for n in setting.taps), setting.samples, setting.rates)
        cost = costs.of_call(counts, setting.samples, setting.rates)
        return Choice(form.method, form, 1, form.error, form.macs, cost)


METHODS: Final = ("separable", "direct", "box", "recursive", "cascade", "fft")


def terms_within(kernel: SeparableKernel | Array, tol: float | None) -> SeparableKernel | None:
    """Return the kernel as terms; what dense weights come to is remembered, as it takes up to seconds.

    None where the search ended with its effort before they were within `tol`.
    """
    if isinstance(kernel, SeparableKernel):
        return kernel
    if kernel.size > _REMEMBERED:
        return _searched(kernel, tol)
    return _terms_within(np.ascontiguousarray(kernel, np.float64).tobytes(), kernel.shape, tol)


@kept
def _terms_within(data: bytes, shape: tuple[int, ...], tol: float | None) -> SeparableKernel | None:
    return _searched(np.frombuffer(data).reshape(shape), tol)


def _searched(weights: Array, tol: float | None) -> SeparableKernel | None:
    work = Effort(DEFAULT_EFFORT)
    found = factored(weights, tol, None, work)
    return found if within(found, tol) or not work.ended else None


def passes_of(kernels: Sequence[Sequence[Term]], setting: Setting) -> list[Pass]:
    """List the passes of one or several kernels as the core runs them, from the array's last axis on."""
    order = sorted(range(len(setting.axes)), key=lambda n: setting.axes[n])
    program = shared([[[term[n] for n in order] for term in terms] for terms in kernels])
    last = len(setting.shape) - 1
    return [
        Pass(last - setting.axes[order[level.axis]], edge.taps)
        for level in program.levels
        for node in level.nodes
        for edge in node
    ]


def _has_mirrored_columns(kernel: SeparableKernel | Array) -> bool:
    """Return whether two rows of the kernel share each weight, which a dense sweep folds."""
    if kernel.ndim < 2 or kernel.shape[-2] < 5:
        return False
    if isinstance(kernel, SeparableKernel):
        return any(all(np.array_equal(t[-2], s * t[-2][::-1]) for t in kernel.terms) for s in (1, -1))
    return any(np.array_equal(kernel, s * np.flip(kernel, -2)) for s in (1, -1))


# What a pickle holds of a choice, by name: it outlives the modules in which these lie.
_PACKED: Final = {
    kind.__name__: kind
    for kind in (
        Choice, Cost, Rates, Machine, ErrorBounds,
        RunningForm, Waves, ShapeForm, Cascade, FourierForm, Geometry,
    )
} | {"KernelError": ErrorBounds}  # fmt: skip


def packed(value: Any) -> Any:
    """Return a choice, or a machine's rates, as plain tuples: the name of each type, then its fields."""
    name = type(value).__name__
    if name not in _PACKED:
        return ("", *map(packed, value)) if isinstance(value, tuple) else value
    if isinstance(value, tuple):
        return (name, *map(packed, value))
    return (name, *(packed(getattr(value, field.name)) for field in fields(value)))


def unpacked(value: Any) -> Any:
    """Return what `packed` was given."""
    if not isinstance(value, tuple):
        return value
    name, *rest = value
    parts = map(unpacked, rest)
    return _PACKED[name](*parts) if name else tuple(parts)
