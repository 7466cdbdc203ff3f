"""The protocol of a method: what it is asked, what it offers, and the form in which a kernel runs."""

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

# Maximum weights of a dense kernel whose terms are cached.
_REMEMBERED = 1 << 16


class Setting(NamedTuple):
    """The checked arguments of a filter: everything but its weights."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    taps: tuple[int, ...]
    shifts: tuple[int, ...]  # out[i] = sum_k w[k] x[i + k - shift]
    modes: tuple[str, ...]
    cval: complex
    whole: bool = False  # the arrays hold whole numbers
    patient: bool = False  # a plan, made once and run many times: a search of seconds pays
    double: bool = False  # float32 arrays, summed in float64
    machine: MachineRates | None = None  # the rates that decide; None: this machine's
    as_summed: bool = False  # results have the signs and zeros of direct sums
    flip: bool = False  # a convolution: the kernel runs flipped, with these `shifts`
    masked: bool = False  # normalised convolution: sums are divided by the weights of the known samples
    parted: bool = False  # only methods by which parts of an array have the bits of the whole
    frame: tuple[int, ...] = ()  # of a part: the shape of the whole array
    starts: tuple[int, ...] = ()  # of a part: the place of its first sample in the whole

    @property
    def computed(self) -> np.dtype[Any]:
        """The dtype of the accumulators, float32 or float64."""
        return np.dtype(np.float64 if self.double or self.item == 8 else np.float32)

    @property
    def real_shape(self) -> tuple[int, ...]:
        """The shape as the core sees it: real and imaginary parts are an additional last axis."""
        return (*self.shape, 2) if self.dtype.kind == "c" else self.shape

    @property
    def samples(self) -> int:
        """Number of real numbers in an array."""
        return math.prod(self.real_shape)

    @property
    def item(self) -> int:
        """Bytes of a real number."""
        return 4 if self.dtype.char in "fF" else 8

    @property
    def distant(self) -> bool:
        """Whether input and output together exceed the L3 cache."""
        return 2 * self.item * self.samples > self.rates.l3

    @property
    def rates(self) -> Rates:
        """The machine's rates for the arrays' dtype, also where float32 arrays are summed in float64.

        So the scale of a kernel does not change the method chosen.
        """
        return (self.machine or costs.machine()).rates(self.dtype)

    @property
    def padded(self) -> bool:
        """Whether an axis has the boundary mode constant."""
        return "constant" in self.modes

    def frame_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the whole of which real arrays of `shape` are parts; () where they are none."""
        return (*self.frame, *shape[len(self.frame) :]) if self.frame else ()

    def starts_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the place of the first sample of real arrays of `shape` in the whole."""
        return (*self.starts, *(0,) * (len(shape) - len(self.starts)))

    def lines(self, ndim: int) -> list[Line]:
        """Return length, taps, shift and mode of each of `ndim` axes; 1 tap where not filtered."""
        shape = (*self.real_shape[:ndim], *(1,) * (ndim - len(self.real_shape)))
        lines = [Line(n, 1, 0, "reflect") for n in shape]
        for axis, taps, shift, mode in zip(self.axes, self.taps, self.shifts, self.modes, strict=True):
            lines[axis] = Line(lines[axis].n, taps, shift, mode)
        return lines

    def swept(self, counts: costs.Counts) -> PredictedCost:
        """Return the cost of passes, or of a dense sweep, with these counts per sample."""
        volume = sum(n > 1 for n in self.shape) > 2
        return costs.of_sweep(counts, self.samples, volume, self.distant, self.rates)


class Job(Protocol):
    """A filter prepared for one shape and dtype: a class of the compiled core, or of Python over it."""

    def run(self, src: Array, dst: Array, threads: int, *told: Any, **more: Any) -> Any:
        """Filter `src` into `dst`; more arguments say how results are stored and which samples are known."""

    def scratch_bytes(self, threads: int) -> int:
        """Return the bytes of scratch memory of a run, beside the arrays."""


class Runnable:
    """A kernel in the form in which one method runs it; the defaults are those of most forms.

    Attributes
    ----------
    terms : int
        Number of separable terms; 0 for other forms.
    macs : int
        Multiply-accumulates per sample, or operations counted as such.
    by_weights : bool
        Sums use the weights themselves, so that sums over known samples can be normalised.
    takes_masks : bool
        Jobs take a mask, and normalise by the weights of the known samples.
    approximate : bool
        The kernel that runs differs from the one given.
    divides : bool
        Jobs divide internally, and take neither a divisor nor a mask.
    """

    __slots__ = ()

    @property
    def terms(self) -> int:
        """Number of separable terms: 0."""
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        raise NotImplementedError

    @property
    def by_weights(self) -> bool:
        """False."""
        return False

    @property
    def takes_masks(self) -> bool:
        """False."""
        return False

    @property
    def approximate(self) -> bool:
        """True."""
        return False

    @property
    def divides(self) -> bool:
        """False."""
        return False

    @property
    def handicap(self) -> float:
        """1: predicted times are compared as they are."""
        return 1.0

    def kernel_of(self, given: Weights) -> Weights:
        """Return the kernel that runs, if the form holds one; else the one given."""
        return given

    def settled(self, given: Weights, setting: Setting, error: ErrorBounds) -> Settled:
        """Return the form to prepare: a mean of whole numbers may become a sum that is divided once.

        Parameters
        ----------
        given : SeparableKernel or ndarray
            The kernel of which this is a form.
        setting : Setting
        error : ErrorBounds
            The error of this form.
        """
        return Settled(self, 1.0, error)

    def flipped(self) -> Runnable:
        """Return the form of the kernel flipped along every axis."""
        raise NotImplementedError

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return the dtype of the accumulators, float32 or float64."""
        return setting.computed

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that are filtered without rounding; 0: none are."""
        return 0.0

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` plus that of rounding taps or weights to `dtype`: none by default.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.
        axes : sequence of int
            The axis of the array for each axis of the kernel.
        error : ErrorBounds
            The error before rounding.
        """
        return error

    def differs_in_parts(self, setting: Setting) -> str | None:
        """Return why a part of an array may have other last bits than the whole; None: it has the same."""
        return None

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors on samples of 1.

        Parameters
        ----------
        setting : Setting
        unit : float
            The unit roundoff of the accumulators.
        norm : float
            The l1 norm of the weights.
        """
        raise NotImplementedError

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> Job:
        """Return the prepared job for real arrays.

        Parameters
        ----------
        setting : Setting
        shape : tuple of int
            Of the real arrays: one part of complex samples, or both as an additional last axis.
        dtype : {"float32", "float64"}
            The dtype computed in.
        cval : float
            The padding value of mode constant.
        """
        raise NotImplementedError


class Settled(NamedTuple):
    """A form to prepare, the divisor of its sums when they are stored, and its error."""

    form: Runnable
    divisor: float
    error: ErrorBounds


class Way(NamedTuple):
    """A kernel in the form in which one method runs it, its error and its cost."""

    method: str
    kernel: Runnable
    terms: int
    error: ErrorBounds
    macs: int
    cost: PredictedCost

    @classmethod
    def of(cls, method: str, form: Runnable, error: ErrorBounds, cost: PredictedCost) -> Way:
        """Return the way that runs `form` by the method of that name."""
        return cls(method, form, form.terms, error, form.macs, cost)


class Refusal(NamedTuple):
    """Why a method does not run a kernel, or only when it is named."""

    method: str
    reason: str


T = TypeVar("T")


class Ask:
    """One kernel in one setting: the question to every method, with results that several methods share.

    Attributes
    ----------
    kernel : SeparableKernel or ndarray
        As it was given.
    tol : float or None
        Relative l1 error allowed.
    setting : Setting
    known : Runnable or None
        A form of the kernel found before, which is not searched for again.
    """

    def __init__(
        self, kernel: Weights, tol: float | None, setting: Setting, known: Runnable | None = None
    ) -> None:
        self.kernel, self.tol, self.setting, self.known = kernel, tol, setting, known
        self._remembered: dict[Callable[[Ask], Any], Any] = {}

    @property
    def error(self) -> ErrorBounds:
        """The error of the given kernel."""
        return self.kernel.error if isinstance(self.kernel, SeparableKernel) else ErrorBounds()

    @functools.cached_property
    def factored(self) -> SeparableKernel | None:
        """The kernel as terms; None where the search ended before they reached the tolerance."""
        known = None if self.known is None or not self.known.terms else self.known.kernel_of(self.kernel)
        return known if isinstance(known, SeparableKernel) else terms_within(self.kernel, self.tol)

    @functools.cached_property
    def nonzero(self) -> int:
        """Number of nonzero weights; for several terms, an upper bound."""
        if not isinstance(self.kernel, SeparableKernel):
            return int(np.count_nonzero(self.kernel))
        terms = self.kernel.terms
        count = sum(math.prod(int(np.count_nonzero(taps)) for taps in term) for term in terms)
        return min(count, self.kernel.size)

    def remembered(self, find: Callable[[Ask], T]) -> T:
        """Return ``find(self)``, cached."""
        if find not in self._remembered:
            self._remembered[find] = find(self)
        return self._remembered[find]  # type: ignore[no-any-return]


class Method(Protocol):
    """A method of running kernels."""

    @property
    def name(self) -> str:
        """The public name of the method."""

    @property
    def about(self) -> str:
        """The end of the sentence "the kernel runs ..."."""

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the kernel in this method's form with its cost, or a refusal that says what it needs."""

    def reserved(self, ask: Ask) -> str | None:
        """Return why the method is chosen only when it is named; None where it may be chosen."""


def terms_within(kernel: Weights, tol: float | None) -> SeparableKernel | None:
    """Return the kernel as terms, cached for dense weights, whose search takes up to seconds.

    None where the search used up its effort before the terms were within `tol`.
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
    terms = factored(weights, tol, None, work)
    return terms if within(terms, tol) or not work.ended else None
