"""Sums of separable terms: one pass along each axis, and passes that terms share run once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base.types import Array
from .._core import TermsJob
from ..arrays.boundaries import CODES
from ..arrays.exact import exact_limit, summing
from ..cost import model as costs
from ..cost.model import Pass
from ..kernel import rounding
from ..kernel.means import as_run
from ..kernel.passes import SWEPT_AXES, indexed, shared
from ..kernel.scale import placed
from ..kernel.signs import terms_keep
from ..kernel.value import ErrorBounds, SeparableKernel, Term
from .method import Ask, Refusal, Runnable, Setting, Settled, Way, Weights


@dataclass(frozen=True, eq=False, slots=True)
class TermsForm(Runnable):
    """A kernel as it runs term by term."""

    kernel: SeparableKernel

    @property
    def terms(self) -> int:
        """Number of terms."""
        return self.kernel.rank

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.kernel.macs

    @property
    def by_weights(self) -> bool:
        """Whether there is one term: where terms cancel, what is known is no sum of them."""
        return self.kernel.rank == 1

    @property
    def takes_masks(self) -> bool:
        """Whether one sweep filters what is known beside the samples."""
        return self.by_weights and sum(n > 1 for n in self.kernel.shape) <= SWEPT_AXES

    def kernel_of(self, given: Weights) -> SeparableKernel:
        """Return the kernel as it runs."""
        return self.kernel

    def settled(self, given: Weights, setting: Setting, error: ErrorBounds) -> Settled:
        """Return a mean of whole numbers as sums, else the terms as they are."""
        sums = summing(given) if setting.whole and isinstance(given, SeparableKernel) else None
        return Settled(self, 1.0, error) if sums is None else Settled(TermsForm(sums[0]), sums[1], error)

    def flipped(self) -> TermsForm:
        """Return the form of the kernel flipped along every axis."""
        return TermsForm(self.kernel.adjoint())

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that are filtered without rounding."""
        return exact_limit(self.kernel, dtype)

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` and what rounding the taps adds to it; in float64 that of the taps of means."""
        return rounding.of_terms(self.kernel, error, "float32" if dtype.char in "fF" else "float64", axes)

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Add up the roundings of passes: folded taps of each, and of all terms together in the last."""
        last = min(range(len(setting.axes)), key=lambda n: (setting.taps[n] == 1, setting.axes[n]))
        noise, every, chain = 0.0, 0.0, 1
        for term in self.kernel.terms:
            norms = [float(np.abs(taps).sum()) for taps in term]
            norm = math.prod(norms)
            roundings = [_roundings(taps) + 1 for taps in term]
            noise += (sum(roundings) - roundings[last]) * unit * norm
            every += norm
            chain += roundings[last] - 1
            running = as_run(term, "float32" if setting.item == 4 else "float64")
            rounded = _rounded(running) if setting.item == 4 else running
            exact, run = (math.prod(float(taps.sum()) for taps in each) for each in (term, rounded))
            noise += abs(exact - run)
        return noise + chain * unit * every

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> TermsJob:
        """Prepare the passes."""
        return sweep([self.kernel.terms], setting, shape, dtype, cval)


class TermsMethod:
    """Passes along axes, term by term."""

    name = "separable"
    about = "as a sum of passes along axes"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the fewest multiplications within the tolerance that were found."""
        kernel = ask.factored
        if kernel is None:
            needs = "needs terms, and the search for them ended too early: pass factor(weights, effort=...)"
            return Refusal(self.name, needs)
        cost = ask.setting.swept(costs.of_passes(passes_of([kernel.terms], ask.setting)))
        return Way.of(self.name, TermsForm(kernel), kernel.error, cost)

    def reserved(self, ask: Ask) -> str | None:
        """Terms that cancel are no drop-in for sums of products."""
        kernel = ask.factored
        if not ask.setting.as_summed or kernel is None or terms_keep(kernel, ask.kernel):
            return None
        return "its terms cancel, and rounding leaves values that are negative, or not 0, where no sum is"


def sweep(
    kernels: Sequence[Sequence[Term]],
    setting: Setting,
    shape: tuple[int, ...],
    dtype: str,
    cval: float,
    *,
    means: bool = True,
) -> TermsJob:
    """Prepare the sums of terms of one or several kernels; `means` run as such.

    Outside the array a pass sees what the passes before it made of `cval`.
    """
    running = [[tuple(as_run(term, dtype)) if means else term for term in terms] for terms in kernels]
    passed = placed(running, setting.axes)
    terms, distinct = indexed(passed.kernels)
    passes = [
        (setting.axes[n], setting.shifts[n], CODES[setting.modes[n]], taps)
        for n, taps in zip(passed.axes, distinct, strict=True)
    ]
    return TermsJob(shape, dtype, passes, terms, cval)


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


def _roundings(taps: Array) -> int:
    """Count the sums of a pass: taps that are equal or opposite about the centre are added first."""
    folds = np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1])
    return taps.size // 2 + 1 if folds else taps.size


def _rounded(term: Sequence[Array]) -> list[Array]:
    """Return taps as float32 holds them once they are scaled into its range."""
    scaled = []
    for taps in term:
        power = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        scaled.append(np.ldexp(np.ldexp(taps, -power).astype(np.float32).astype(np.float64), power))
    return scaled
