"""Cascades: a small separable kernel, then a few weights far apart, in sequence."""

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
from .cascade_search import Cascade, find_cascade
from .cosines import DEFAULT_TOL
from .direct import DirectForm, DirectMethod
from .method import Ask, Refusal, Runnable, Setting, Way
from .sequence import Margin, SequenceJob
from .terms import TermsMethod, passes_of, sweep

# A plan that will take longer than that is worth the search for a cascade, which takes up to seconds.
_WORTH_A_SEARCH: Final = 2e6  # nanoseconds

# Weights far apart share no loads: each counts as so many of a dense kernel.
_SCATTERED: Final = 1.6


@dataclass(frozen=True, eq=False, slots=True)
class CascadeForm(Runnable):
    """A kernel as it runs as two in sequence."""

    cascade: Cascade

    @property
    def approximate(self) -> bool:
        """Yes: within its error."""
        return True

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.cascade.macs

    def flipped(self) -> CascadeForm:
        """Return the form of the kernel flipped along every axis; the smooth one is symmetric."""
        sparse = np.flip(self.cascade.sparse)
        return CascadeForm(self.cascade._replace(sparse=sparse))

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` and what rounding both kernels adds to it.

        That is relative to the norm of their convolution, which is at most the product of theirs. The first
        is placed near 1, the second at the scale of the kernel.
        """
        if dtype.char not in "fF":
            return error
        smooth, weights = self.cascade.smooth, self.cascade.weights
        sparse = float(np.abs(self.cascade.sparse).sum())
        flushed = FLUSHED * (2 * sum(smooth.shape) + weights / min(sparse, 1.0))
        share = (1 + UNIT_ROUNDOFF) ** (smooth.ndim + 1) - 1 + 2 * flushed
        l1 = share * smooth.norm_l1 * sparse
        # Relative to the kernel, as its own error is.
        norm = error.l1 / error.relative_l1 if error.relative_l1 else math.inf
        return added(error, Lost(l1, l1, norm, norm), norm, norm)

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Bound the rounding errors on samples of 1."""
        smooth = self.cascade.smooth
        return (sum(smooth.shape) + self.cascade.weights + 4) * unit * smooth.norm_l1 * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> SequenceJob:
        """Prepare both kernels, between margins where the boundary modes ask for them."""
        cascade = self.cascade
        radii = [n // 2 for n in cascade.smooth.shape]
        rest = cascade.sparse.shape
        after = [shift - radius for shift, radius in zip(setting.shifts, radii, strict=True)]
        inside = all(0 <= shift < n for shift, n in zip(after, rest, strict=True))
        margins = None
        if not inside or any(
            n > 1 and m not in CONTINUING for n, m in zip(setting.taps, setting.modes, strict=True)
        ):
            after = [n // 2 for n in rest]
            margins = [Margin(0, 0, 0, "reflect")] * len(shape)
            for axis, n, shift, mode, radius, second in zip(
                setting.axes, setting.taps, setting.shifts, setting.modes, radii, after, strict=True
            ):
                margins[axis] = Margin(shift, n - 1 - shift, radius + second, mode)
            setting = setting._replace(modes=("reflect",) * len(setting.modes))
        wide = shape
        if margins is not None:
            wide = tuple(n + m.before + m.after for n, m in zip(shape, margins, strict=True))
        gain = magnitude(cascade.sparse)
        if gain > GAIN:
            cascade = cascade.moved(gain)
        smooth = setting._replace(taps=cascade.smooth.shape, shifts=tuple(radii))
        first = sweep([cascade.smooth.terms], smooth, wide, dtype, 0.0, means=False)
        sparse = setting._replace(taps=rest, shifts=tuple(after))
        second_job = DirectForm(cascade.sparse).job(sparse, wide, dtype, 0.0)
        return SequenceJob(shape, dtype, first, second_job, margins, cval)


class CascadeMethod:
    """Two kernels in sequence."""

    name = "cascade"
    about = "as a short kernel and few weights in sequence"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the fewest weights within the tolerance that the search finds."""
        kernel, own = ask.kernel, ask.error
        tol = DEFAULT_TOL if ask.tol is None else ask.tol
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        known = ask.known.cascade if isinstance(ask.known, CascadeForm) else None
        cascade = find_cascade(dense, tol - own.relative_l1) if known is None else known
        if cascade is None:
            needs = f"a smooth kernel along two axes or more, whose error of tol={tol:g} leaves out weights"
            return Refusal(self.name, f"needs {needs}")
        error = ErrorBounds(*(a + b for a, b in zip(astuple(own), astuple(cascade.error), strict=True)))
        return Way.of(self.name, CascadeForm(cascade), error, _cost(cascade, ask.setting))

    def reserved(self, ask: Ask) -> str | None:
        """Say that it approximates, after a search."""
        if ask.tol is None:
            return "approximates: only where `tol` is given"
        if ask.factored is not None and ask.factored.rank == 1:
            return "pays for kernels of several terms"
        if ask.setting.patient and _exactly(ask) > _WORTH_A_SEARCH:
            return None
        return "takes a search: only by name, or in plans of large arrays"


def _exactly(ask: Ask) -> float:
    """Return the nanoseconds that the kernel itself takes, by terms or by weights."""
    ways = (TermsMethod().offer(ask), DirectMethod().offer(ask))
    return min(way.cost.nanoseconds for way in ways if isinstance(way, Way))


def _cost(cascade: Cascade, setting: Setting) -> PredictedCost:
    """Return what both kernels take, and the array between them, whose pages are new in every call."""
    first = setting.swept(costs.of_passes(passes_of([cascade.smooth.terms], setting)))
    second = setting.swept(costs.of_weights(round(_SCATTERED * cascade.weights), False))
    counts = {
        name: first.counts.get(name, 0.0) + second.counts.get(name, 0.0)
        for name in {**first.counts, **second.counts}
    }
    return PredictedCost({**counts, "pages": float(setting.samples)}, setting.rates)
