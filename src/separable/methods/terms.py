"""The method "separable": sums of separable terms, one pass per axis; passes that terms share run once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base.types import Array, FloatArray
from .._core import Mode, TermsJob
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
    """A kernel in the form of its terms."""

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
        """Whether there is one term: several may cancel, and their sum over known samples is inaccurate."""
        return self.kernel.rank == 1

    @property
    def takes_masks(self) -> bool:
        """Whether one sweep filters the mask beside the samples."""
        return self.by_weights and sum(n > 1 for n in self.kernel.shape) <= SWEPT_AXES

    def kernel_of(self, given: Weights) -> SeparableKernel:
        """Return the terms that run."""
        return self.kernel

    def settled(self, given: Weights, setting: Setting, error: ErrorBounds) -> Settled:
        """Return a mean of whole numbers as sums, else the terms."""
        sums = summing(given) if setting.whole and isinstance(given, SeparableKernel) else None
        return Settled(self, 1.0, error) if sums is None else Settled(TermsForm(sums[0]), sums[1], error)

    def flipped(self) -> TermsForm:
        """Return the form of the kernel flipped along every axis."""
        return TermsForm(self.kernel.adjoint())

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that `dtype` filters without rounding."""
        return exact_limit(self.kernel, dtype)

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` plus that of rounding the taps; in float64 only those of means change."""
        return rounding.of_terms(self.kernel, error, "float32" if dtype.char in "fF" else "float64", axes)

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors on samples of 1: per pass, and of all terms in the last."""
        last = min(range(len(setting.axes)), key=lambda n: (setting.taps[n] == 1, setting.axes[n]))
        noise, total_norm, chain = 0.0, 0.0, 1
        for term in self.kernel.terms:
            norms = [float(np.abs(taps).sum()) for taps in term]
            norm = math.prod(norms)
            roundings = [_roundings(taps) + 1 for taps in term]
            noise += (sum(roundings) - roundings[last]) * unit * norm
            total_norm += norm
            chain += roundings[last] - 1
            running = as_run(term, "float32" if setting.item == 4 else "float64")
            rounded = _rounded(running) if setting.item == 4 else running
            exact, run = (math.prod(float(taps.sum()) for taps in factors) for factors in (term, rounded))
            noise += abs(exact - run)
        return noise + chain * unit * total_norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> TermsJob:
        """Return the job that runs the passes."""
        return sweep([self.kernel.terms], setting, shape, dtype, cval)


class TermsMethod:
    """A sum of separable terms."""

    name = "separable"
    about = "as a sum of passes along axes"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the terms with the fewest multiplications found within the tolerance."""
        kernel = ask.factored
        if kernel is None:
            needs = "needs terms, and the search for them ended too early: pass factor(weights, effort=...)"
            return Refusal(self.name, needs)
        cost = ask.setting.swept(costs.of_passes(passes_of([kernel.terms], ask.setting)))
        return Way.of(self.name, TermsForm(kernel), kernel.error, cost)

    def reserved(self, ask: Ask) -> str | None:
        """Return a reason where terms cancel, so that results lack the signs and zeros of direct sums."""
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
    """Return the job of one or several kernels' sums of terms; `means`: round means so that 1 stays 1.

    Beyond the ends of the array, a pass reads `cval` filtered by the passes before it.
    """
    running = [[tuple(as_run(term, dtype)) if means else term for term in terms] for terms in kernels]
    passed = placed(running, setting.axes)
    terms, distinct = indexed(passed.kernels)
    passes: list[tuple[int, int, int, list[FloatArray]]] = [
        (setting.axes[n], setting.shifts[n], Mode[setting.modes[n]], taps)
        for n, taps in zip(passed.axes, distinct, strict=True)
    ]
    return TermsJob(shape, dtype, passes, terms, cval)


def passes_of(kernels: Sequence[Sequence[Term]], setting: Setting) -> list[Pass]:
    """Return the passes of one or several kernels in the core's order, the array's last axis first."""
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
    """Return the roundings of a pass: (anti)symmetric taps are folded."""
    folds = np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1])
    return taps.size // 2 + 1 if folds else taps.size


def _rounded(term: Sequence[Array]) -> list[Array]:
    """Return taps rounded to float32 after scaling into its range."""
    scaled = []
    for taps in term:
        power = math.frexp(float(np.abs(taps).max(initial=0.0)))[1]
        scaled.append(np.ldexp(np.ldexp(taps, -power).astype(np.float32).astype(np.float64), power))
    return scaled
