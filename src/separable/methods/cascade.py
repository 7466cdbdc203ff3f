"""The method "cascade": a small separable kernel, then a sparse one, in sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from ..arrays.boundaries import CONTINUING
from ..cost import model as costs
from ..cost.model import PredictedCost
from ..kernel.rounding import FLUSHED, UNIT_ROUNDOFF, Lost, added
from ..kernel.scale import GAIN, magnitude
from ..kernel.value import ErrorBounds, SeparableKernel
from .algorithms.cascade_search import Cascade, find_cascade
from .algorithms.sequence import Margin, SequenceJob
from .cosines import DEFAULT_TOL
from .direct import DirectForm, DirectMethod
from .method import Ask, Refusal, Runnable, Setting, Way
from .terms import TermsMethod, passes_of, sweep

# Predicted nanoseconds of a call above which a plan searches for a cascade, which takes up to seconds.
_WORTH_A_SEARCH: Final = 2e6

# Cost of a weight of the sparse kernel, in weights of a dense one: weights far apart share no loads.
_SCATTERED: Final = 1.6


@dataclass(frozen=True, eq=False, slots=True)
class CascadeForm(Runnable):
    """A kernel as two that run in sequence."""

    cascade: Cascade

    @property
    def approximate(self) -> bool:
        """True: within its error."""
        return True

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.cascade.macs

    def differs_in_parts(self, setting: Setting) -> str | None:
        """Return a reason: the second kernel's sums have the order of the padded array."""
        return "pads the array between its two kernels"

    def flipped(self) -> CascadeForm:
        """Return the form of the kernel flipped along every axis; the smooth factor is symmetric."""
        sparse = np.flip(self.cascade.sparse)
        return CascadeForm(self.cascade._replace(sparse=sparse))

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` plus that of rounding both kernels to `dtype`.

        The rounding is bounded relative to the product of their norms, which bounds that of the convolution.
        The first is scaled near 1, the second has the scale of the kernel.
        """
        if dtype.char not in "fF":
            return error
        smooth, weights = self.cascade.smooth, self.cascade.weights
        sparse = float(np.abs(self.cascade.sparse).sum())
        flushed = FLUSHED * (2 * sum(smooth.shape) + weights / min(sparse, 1.0))
        share = (1 + UNIT_ROUNDOFF) ** (smooth.ndim + 1) - 1 + 2 * flushed
        l1 = share * smooth.norm_l1 * sparse
        # The norm of the kernel, from its absolute and relative error.
        norm = error.l1 / error.relative_l1 if error.relative_l1 else math.inf
        return added(error, Lost(l1, l1, norm, norm), norm, norm)

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Bound the rounding errors on samples of 1."""
        smooth = self.cascade.smooth
        return (sum(smooth.shape) + self.cascade.weights + 4) * unit * smooth.norm_l1 * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> SequenceJob:
        """Prepare both kernels; the array is padded first where a boundary mode requires it."""
        cascade = self.cascade
        radii = [n // 2 for n in cascade.smooth.shape]
        reach = cascade.sparse.shape
        after = [shift - radius for shift, radius in zip(setting.shifts, radii, strict=True)]
        inside = all(0 <= shift < n for shift, n in zip(after, reach, strict=True))
        margins = None
        if not inside or any(
            n > 1 and m not in CONTINUING for n, m in zip(setting.taps, setting.modes, strict=True)
        ):
            after = [n // 2 for n in reach]
            margins = [Margin(0, 0, 0, "reflect")] * len(shape)
            for axis, n, shift, mode, radius, second in zip(
                setting.axes, setting.taps, setting.shifts, setting.modes, radii, after, strict=True
            ):
                margins[axis] = Margin(shift, n - 1 - shift, radius + second, mode)
            setting = setting._replace(modes=("reflect",) * len(setting.modes))
        padded = shape
        if margins is not None:
            padded = tuple(n + m.before + m.after for n, m in zip(shape, margins, strict=True))
        gain = magnitude(cascade.sparse)
        if gain > GAIN:
            cascade = cascade.moved(gain)
        smooth = setting._replace(taps=cascade.smooth.shape, shifts=tuple(radii))
        first = sweep([cascade.smooth.terms], smooth, padded, dtype, 0.0, means=False)
        sparse = setting._replace(taps=reach, shifts=tuple(after))
        second_job = DirectForm(cascade.sparse).job(sparse, padded, dtype, 0.0)
        return SequenceJob(shape, dtype, first, second_job, margins, cval)


class CascadeMethod:
    """A smooth separable kernel and a sparse one in sequence."""

    name = "cascade"
    about = "as a short kernel and few weights in sequence"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the cascade with the fewest weights within the tolerance that the search finds."""
        kernel, given_error = ask.kernel, ask.error
        tol = DEFAULT_TOL if ask.tol is None else ask.tol
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        known = ask.known.cascade if isinstance(ask.known, CascadeForm) else None
        cascade = find_cascade(dense, tol - given_error.relative_l1) if known is None else known
        if cascade is None:
            needs = f"a smooth kernel along two axes or more, whose error of tol={tol:g} leaves out weights"
            return Refusal(self.name, f"needs {needs}")
        error = ErrorBounds(
            *(a + b for a, b in zip(astuple(given_error), astuple(cascade.error), strict=True))
        )
        return Way.of(self.name, CascadeForm(cascade), error, _cost(cascade, ask.setting))

    def reserved(self, ask: Ask) -> str | None:
        """Return why a method that approximates, after a search, is not chosen; None where it may be."""
        if ask.tol is None:
            return "approximates: only where `tol` is given"
        if ask.factored is not None and ask.factored.rank == 1:
            return "pays for kernels of several terms"
        if ask.setting.patient and _exactly(ask) > _WORTH_A_SEARCH:
            return None
        return "takes a search: only by name, or in plans of large arrays"


def _exactly(ask: Ask) -> float:
    """Return the predicted nanoseconds of the kernel without a cascade: by terms or by weights."""
    ways = (TermsMethod().offer(ask), DirectMethod().offer(ask))
    return min(way.cost.nanoseconds for way in ways if isinstance(way, Way))


def _cost(cascade: Cascade, setting: Setting) -> PredictedCost:
    """Return the cost of both kernels, and of the page faults of the array between them."""
    first = setting.swept(costs.of_passes(passes_of([cascade.smooth.terms], setting)))
    second = setting.swept(costs.of_weights(round(_SCATTERED * cascade.weights), False))
    counts = {
        name: first.counts.get(name, 0.0) + second.counts.get(name, 0.0)
        for name in {**first.counts, **second.counts}
    }
    return PredictedCost({**counts, "pages": float(setting.samples)}, setting.rates)
