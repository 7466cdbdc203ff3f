"""What a way to run a kernel is asked, what it offers, and the kernel in the form in which it runs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from .._base.caches import kept
from .._base.types import Array
from ..arrays.boundaries import Line
from ..cost import model as costs
from ..cost.model import MachineRates, PredictedCost, Rates
from ..factor import DEFAULT_EFFORT, Effort, factored, within
from ..kernel.value import ErrorBounds, SeparableKernel

Weights: TypeAlias = SeparableKernel | Array

# Terms are remembered for dense kernels of up to so many weights.
_REMEMBERED = 1 << 16


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
    machine: MachineRates | None = None  # whose rates decide; None: this one
    as_summed: bool = False  # results are negative, or not 0, only where direct sums can be
    flip: bool = False  # a convolution: the kernel runs flipped, and `shifts` are those of that
    masked: bool = False  # samples are unknown, and results divided by the weights of those that are known

    @property
    def computed(self) -> np.dtype[Any]:
        """What sums are kept in, float32 or float64."""
        return np.dtype(np.float64 if self.double or self.item == 8 else np.float32)

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

    @property
    def padded(self) -> bool:
        """Whether a constant stands beyond an end."""
        return "constant" in self.modes

    def lines(self, ndim: int) -> list[Line]:
        """Return how each of `ndim` axes of the array is filtered and continued; 1 tap where it is not."""
        shape = (*self.real_shape[:ndim], *(1,) * (ndim - len(self.real_shape)))
        lines = [Line(n, 1, 0, "reflect") for n in shape]
        for axis, taps, shift, mode in zip(self.axes, self.taps, self.shifts, self.modes, strict=True):
            lines[axis] = Line(lines[axis].n, taps, shift, mode)
        return lines

    def swept(self, counts: costs.Counts) -> PredictedCost:
        """Return the cost of passes, or of a dense sweep, that take such counts of each sample."""
        volume = sum(n > 1 for n in self.shape) > 2
        return costs.of_sweep(counts, self.samples, volume, self.distant, self.rates)


class Job(Protocol):
    """A filter prepared for one shape and dtype: a class of the compiled core, or of Python over it."""

    def run(self, src: Array, dst: Array, threads: int, *told: Any, **more: Any) -> Any:
        """Filter `src` into `dst`; what more it is told is how results are stored, and what is unknown."""

    def scratch_bytes(self, threads: int) -> int:
        """Return the memory taken while it runs, beside the arrays."""


class Runnable:
    """A kernel in the form in which it runs: what a form does not say itself is as most are.

    Attributes
    ----------
    terms : int
        Number of separable terms; 0 where it runs as none.
    macs : int
        Multiply-accumulates per sample, or what counts as such.
    by_weights : bool
        It sums with the weights themselves, so that the weights of known samples may divide.
    takes_masks : bool
        Its jobs divide by the weights of what is known.
    approximate : bool
        The kernel that runs is not the one given.
    divides : bool
        Its jobs divide by themselves, and take neither a divisor nor a mask.
    """

    __slots__ = ()

    @property
    def terms(self) -> int:
        """0: it runs as none."""
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        raise NotImplementedError

    @property
    def by_weights(self) -> bool:
        """It does not."""
        return False

    @property
    def takes_masks(self) -> bool:
        """They do not."""
        return False

    @property
    def approximate(self) -> bool:
        """It is."""
        return False

    @property
    def divides(self) -> bool:
        """They do not."""
        return False

    def kernel_of(self, given: Weights) -> Weights:
        """Return the kernel as it runs, where that is one with weights; else the one given."""
        return given

    def settled(self, given: Weights, setting: Setting, error: ErrorBounds) -> Settled:
        """Return the form as it is prepared: of whole numbers a mean may be a sum that is divided once.

        Parameters
        ----------
        given : SeparableKernel or ndarray
            The kernel that it stands for.
        setting : Setting
        error : ErrorBounds
            Of this form.
        """
        return Settled(self, 1.0, error)

    def flipped(self) -> Runnable:
        """Return the form of the kernel flipped along every axis."""
        raise NotImplementedError

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return what its sums are kept in, float32 or float64."""
        return setting.computed

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that are filtered without rounding; 0: it rounds."""
        return 0.0

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` and what rounding taps or weights to `dtype` adds to it: nothing.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.
        axes : sequence of int
            The axis of the array for each axis of the kernel.
        error : ErrorBounds
            Of the kernel before that.
        """
        return error

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Bound the rounding errors on samples of 1.

        Parameters
        ----------
        setting : Setting
        unit : float
            The unit roundoff of what sums are kept in.
        norm : float
            The sum of the magnitudes of the weights.
        """
        raise NotImplementedError

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> Job:
        """Prepare it for real arrays.

        Parameters
        ----------
        setting : Setting
        shape : tuple of int
            Of the arrays, real ones: of one part of complex samples, or with both as a further axis.
        dtype : {"float32", "float64"}
            What is computed in.
        cval : float
            What stands beyond the ends where the mode is constant.
        """
        raise NotImplementedError


class Settled(NamedTuple):
    """A form as it is prepared, what its sums are divided by as they are stored, and its error."""

    form: Runnable
    divisor: float
    error: ErrorBounds


class Way(NamedTuple):
    """A way to run a kernel, and what it costs."""

    method: str
    kernel: Runnable
    terms: int
    error: ErrorBounds
    macs: int
    cost: PredictedCost

    @classmethod
    def of(cls, method: str, form: Runnable, error: ErrorBounds, cost: PredictedCost) -> Way:
        """Return the choice of a form by its name."""
        return cls(method, form, form.terms, error, form.macs, cost)


class Refusal(NamedTuple):
    """Why a kernel does not run in one way: never, or not unless that is asked for by name."""

    method: str
    reason: str


T = TypeVar("T")


class Ask:
    """One kernel in one setting: what every method is asked about, and what several of them need to know.

    Attributes
    ----------
    kernel : SeparableKernel or ndarray
        As it was given.
    tol : float or None
        Relative l1 error allowed.
    setting : Setting
    known : Runnable or None
        A form of the kernel that was found before: it is not searched for again.
    """

    def __init__(
        self, kernel: Weights, tol: float | None, setting: Setting, known: Runnable | None = None
    ) -> None:
        self.kernel, self.tol, self.setting, self.known = kernel, tol, setting, known
        self._remembered: dict[Callable[[Ask], Any], Any] = {}

    @property
    def error(self) -> ErrorBounds:
        """The error of the kernel that was given."""
        return self.kernel.error if isinstance(self.kernel, SeparableKernel) else ErrorBounds()

    @functools.cached_property
    def factored(self) -> SeparableKernel | None:
        """The kernel as terms; None where the search ended before they were within the tolerance."""
        known = None if self.known is None or not self.known.terms else self.known.kernel_of(self.kernel)
        return known if isinstance(known, SeparableKernel) else terms_within(self.kernel, self.tol)

    @functools.cached_property
    def nonzero(self) -> int:
        """How many weights are not 0; for several terms, as if none fell on another's."""
        if not isinstance(self.kernel, SeparableKernel):
            return int(np.count_nonzero(self.kernel))
        terms = self.kernel.terms
        count = sum(math.prod(int(np.count_nonzero(taps)) for taps in term) for term in terms)
        return min(count, self.kernel.size)

    def remembered(self, find: Callable[[Ask], T]) -> T:
        """Return ``find(self)``, which is called once."""
        if find not in self._remembered:
            self._remembered[find] = find(self)
        return self._remembered[find]  # type: ignore[no-any-return]


class Method(Protocol):
    """A way to run kernels."""

    @property
    def name(self) -> str:
        """What plans call it."""

    @property
    def about(self) -> str:
        """What it does, in a few words: behind "the kernel runs"."""

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the kernel in a form that runs this way, whatever it costs; a refusal says what it needs."""

    def reserved(self, ask: Ask) -> str | None:
        """Return why it is not taken unless that is asked for by name; None where it may be."""


def terms_within(kernel: Weights, tol: float | None) -> SeparableKernel | None:
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
