"""The search for the cheapest sum of terms within a tolerance, or the closest one of a given rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from .algorithms.elimination import pruned
from .algorithms.exact import integer_form, whole
from .algorithms.least_squares import least_l1
from .algorithms.polyadic import best_sum, fewest_terms
from .algorithms.single import certified, cross_rank_one, integer_rank_one, refined
from .algorithms.staged import Expansion, as_form, cheapest_first, expand, largest_svd, orders, paired
from .effort import CALL, Effort, certificate_work, certified_rank, svd_work, weighted_sweep_work
from .forms import Form

# Work, in multiplications: subtracting a term from a residual and summing it, per sample; ordering terms, per
# pair of them.
_LOOKS: Final = 4.0
_RANKED: Final = 10.0

_EPS: Final = float(np.finfo(np.float64).eps)
SVD_BYTES: Final = 2 << 30  # maximum memory of an SVD

# Relative errors below this differ by rounding only, and cheaper terms win over a smaller error.
_ROUNDING: Final = 1e-12

# Least squares does not minimise the l1 error: reweighting gains up to a third. It is tried where the error
# with one term fewer is within a factor `_CLOSE` of the tolerance, for at most `_ROUNDS` rounds.
_CLOSE: Final = 1.5
_ROUNDS: Final = 60

# Maximum ratio of the terms' l1 norms to that of the kernel, beyond which float32 loses too much to
# cancellation of terms; a larger tolerance, over the rounding error of a float32 filter, allows more.
_AMPLIFICATION: Final = 16.0
_FLOAT32: Final = 2.0**-20

# Multiplications of an SVD's terms, over those of the dense kernel, above which fits are not tried.
_HOPELESS: Final = 1.2

# Maximum exponent of the scale of integers that is kept on one axis; larger ones are distributed over all.
_INTEGER_RANGE: Final = 32

# Share of the effort left that each expansion may take: the rest is for certifying and fitting terms.
_EXPANDING: Final = 0.4

# Maximum multiplications of pruning, some seconds, and the sweeps it is estimated to take.
_PRUNING_WORK: Final = 1e10
_PRUNING_SWEEPS: Final = 60.0


class Problem(NamedTuple):
    """Weights without axes of length 1, the same scaled near 1, and the requirements on their terms."""

    dense: FloatArray
    scaled: FloatArray  # dense * 2**-exponent
    exponent: int
    tol: float | None
    rank: int | None
    effort: Effort

    def kernel(self, form: Form) -> SeparableKernel:
        """Return a form that was fitted to `scaled` as a kernel with its certified error."""
        self.effort.spend(certificate_work(self.dense.size, self.dense.ndim, form.count))
        return certified(self.dense, form.terms(self.exponent))

    def sound(self, form: Form) -> bool:
        """Return whether cancellation of the terms is tolerable in a float32 filter."""
        limit = max(_AMPLIFICATION, (self.tol or 0.0) / _FLOAT32)
        return form.amplification() <= limit * float(np.abs(self.scaled).sum())


def search(
    dense: FloatArray, tol: float | None, rank: int | None, effort: Effort | None = None
) -> SeparableKernel:
    """Return the cheapest terms within `tol`, at most `rank`; the closest ones where none are.

    `dense` has no axis of length 1, but may be 0-d. Once `effort` is spent, the best so far are returned.
    """
    effort = effort or Effort()
    if dense.ndim <= 1:
        return SeparableKernel([[np.atleast_1d(dense)]])
    if not dense.any():
        return SeparableKernel([[np.zeros(n) for n in dense.shape]])
    single = integer_rank_one(dense) or cross_rank_one(dense)
    if single.error.relative_l1 <= 16 * dense.ndim * _EPS:  # rounding only: no other is better
        return single
    exponent = math.frexp(float(np.abs(dense).max()))[1]
    problem = Problem(dense, np.ldexp(dense, -exponent), exponent, tol, rank, effort)
    if too_large(dense.shape):
        if rank != 1 and (tol is None or single.error.relative_l1 > tol):
            raise ValueError(
                f"`weights` of shape {dense.shape} needs {largest_svd(dense.shape) / 2**30:.1f} GiB for its "
                f"SVD; expected at most {SVD_BYTES / 2**30:.0f} GiB: crop the kernel, or pass rank=1, "
                "which needs no SVD."
            )
        return _choose([single, refined(dense, problem.scaled, exponent, single.terms[0])], problem)
    expansions = _expansions(problem)
    kernels = [single, *_singles(problem, expansions)]
    if rank == 1 or (tol is not None and min(kernel.error.relative_l1 for kernel in kernels) <= tol):
        return _choose(kernels, problem)
    if tol is not None:
        sums = [kernel for kernel in _sums(problem, expansions) if rank is None or kernel.rank <= rank]
        if rank is None or any(kernel.error.relative_l1 <= tol for kernel in sums):
            return _choose([*kernels, *sums], problem)
    return _choose([*kernels, *_closest(problem, expansions)], problem)


def _expansions(problem: Problem) -> list[Expansion]:
    """Return the staged decompositions in all orders, as many as the effort allows; at least one."""
    expansions: list[Expansion] = []
    for order in orders(problem.dense.ndim):
        part = problem.effort.part(_EXPANDING)
        shape = [problem.dense.shape[axis] for axis in order]
        if expansions and part.left < svd_work(shape[0], math.prod(shape[1:])):
            problem.effort.ended = True
            break
        expansions.append(expand(problem.scaled, order, part))
        problem.effort.join(part)
    return expansions


def too_large(shape: tuple[int, ...]) -> bool:
    """Return whether the SVDs of a kernel exceed `SVD_BYTES`."""
    return largest_svd(shape) > SVD_BYTES


def _choose(kernels: Sequence[SeparableKernel], problem: Problem) -> SeparableKernel:
    """Return the cheapest kernel within `tol`, else the closest; differences by rounding do not count.

    Without `tol`, the closest is that of the least squared error.
    """

    def distance(kernel: SeparableKernel) -> float:
        return kernel.error.relative_l2 if problem.tol is None else kernel.error.relative_l1

    least = min(map(distance, kernels))
    enough = max(least, problem.tol or 0.0, min(4 * least, _ROUNDING))
    close = (kernel for kernel in kernels if distance(kernel) <= enough)
    return min(close, key=lambda kernel: (Form.of_terms(kernel.terms).macs, distance(kernel)))


def _singles(problem: Problem, expansions: Sequence[Expansion]) -> Iterator[SeparableKernel]:
    """Yield single terms: of least squares and, where that may be within `tol`, of least absolute error."""
    starts = sorted((as_form(expansion).select([0]) for expansion in expansions), key=_strength)
    best = refined(problem.dense, problem.scaled, problem.exponent, starts[-1].terms(problem.exponent)[0])
    yield best
    tol, error = problem.tol, best.error.relative_l1
    if tol is not None and tol < error <= _CLOSE * tol:
        norm = float(np.abs(problem.scaled).sum())
        for start in starts:
            goal = tol * (1 - 1e-9) * norm
            yield problem.kernel(least_l1(problem.scaled, start, goal, _ROUNDS, problem.effort))


def _strength(form: Form) -> float:
    return float(np.linalg.norm(form.lines[form.free][0]))


# -- a given number of terms -------------------------------------------------------------------------


def _closest(problem: Problem, expansions: Sequence[Expansion]) -> Iterator[SeparableKernel]:
    """Yield sums of at most `rank` terms with a small squared error."""
    limit = problem.rank or 1
    for number, expansion in enumerate(expansions):
        count = _certifiable(problem, limit) if number == 0 else limit
        if number == 0 or problem.effort.left > _certifying(problem, count):
            yield problem.kernel(as_form(expansion).select(slice(count)))
    most = max(len(expansion.weights) for expansion in expansions)
    exact = _exact(problem, min(limit, most))
    if exact is not None:
        yield exact
    if problem.dense.ndim > 2 and 1 < limit < most and problem.effort.left > _certifying(problem, limit):
        form = best_sum(problem.scaled, expansions, limit, problem.effort)
        if problem.sound(form):
            yield problem.kernel(form)


def _certifying(problem: Problem, count: int) -> float:
    return certificate_work(problem.dense.size, problem.dense.ndim, count)


def _certifiable(problem: Problem, count: int) -> int:
    """Return how many of `count` terms the effort left can certify; at least one."""
    most = certified_rank(problem.dense.size, problem.dense.ndim, problem.effort.left)
    problem.effort.ended |= most < count
    return min(count, most)


# -- within a tolerance ------------------------------------------------------------------------------


def _sums(problem: Problem, expansions: Sequence[Expansion]) -> list[SeparableKernel]:
    """Return sums of terms: the leading ones of each expansion, and cheaper forms within `tol`."""
    tol = problem.tol or 0.0
    sums = [_fewest(problem, expansions[0])]
    for expansion in expansions[1:]:
        if problem.effort.left < 2 * _certifying(problem, sums[0].rank):
            problem.effort.ended = True
            break
        sums.append(_fewest(problem, expansion))
    exact = _exact(problem, max(kernel.rank for kernel in sums))
    if exact is not None:
        sums.append(exact)
    best = _choose(sums, problem)
    if best.error.relative_l1 > tol:  # no sum reaches it
        return sums
    cheapest = Form.of_terms(best.terms).macs
    for form in (_reduced if problem.dense.ndim == 2 else _cheaper)(problem, expansions, best):
        if problem.effort.left < _certifying(problem, form.count):
            problem.effort.ended = True
            break
        if form.macs < cheapest and problem.sound(form):
            sums.append(problem.kernel(form))
            if sums[-1].error.relative_l1 <= tol:
                cheapest = form.macs
    return sums


def _fewest(problem: Problem, expansion: Expansion) -> SeparableKernel:
    """Return the leading terms of one expansion: as few as `tol` allows."""
    whole_form, tol = as_form(expansion), problem.tol or 0.0

    def kernel(count: int) -> SeparableKernel:
        return problem.kernel(whole_form.select(slice(count)))

    most = _certifiable(problem, len(expansion.weights))
    norm = float(np.abs(problem.scaled).sum())
    # The terms are orthogonal, so the residual after r of them has a known l2 norm, and l1 >= l2.
    tails = np.sqrt(np.cumsum(np.square(expansion.weights[::-1]))[::-1])
    hopeless = int(np.count_nonzero(tails > (tol + 64 * _EPS) * norm))
    count = min(max(1, hopeless), most)
    residual = problem.scaled - expansion.partial(0, count)
    errors = []
    problem.effort.spend(count * problem.dense.size)
    for r in range(count, most + 1):
        problem.effort.spend(_LOOKS * problem.dense.size)
        errors.append(float(np.abs(residual).sum()) / norm)
        if errors[-1] <= tol * (1 + 1e-9):
            candidate = kernel(r)
            if candidate.error.relative_l1 <= tol:
                return candidate
        if r < most:
            residual -= expansion.partial(r, r + 1)
    return kernel(count + int(np.argmax(np.array(errors) <= 4 * min(errors))))


def _exact(problem: Problem, limit: int) -> SeparableKernel | None:
    """Return the kernel as at most `limit` terms of integer taps times one number, or None."""
    scaled_integers = whole(problem.dense)
    effort = problem.effort.part(_EXPANDING)
    form = None if scaled_integers is None else integer_form(scaled_integers.integers, limit, effort)
    problem.effort.join(effort)
    if scaled_integers is None or form is None:
        return None
    free, ndim = form.free, problem.dense.ndim
    mantissa, exponent = math.frexp(scaled_integers.scale)
    if abs(exponent) <= _INTEGER_RANGE:
        mantissa, exponent = scaled_integers.scale, 0
    shares = [exponent // ndim + (axis < exponent % ndim) for axis in range(ndim)]
    lines = [np.ldexp(axis_lines, share) for axis_lines, share in zip(form.lines, shares, strict=True)]
    lines[free] = lines[free] * mantissa
    terms = Form(tuple(lines), form.index).listed()
    problem.effort.spend(_certifying(problem, len(terms)))
    if scaled_integers.exact:
        return SeparableKernel(terms)
    return certified(problem.dense, terms)


def _reduced(problem: Problem, expansions: Sequence[Expansion], best: SeparableKernel) -> Iterator[Form]:
    """Yield sums of fewer terms of two axes, fitted to the l1 error, that are within `tol`."""
    norm, tol = float(np.abs(problem.scaled).sum()), problem.tol or 0.0
    whole_form = as_form(expansions[0])
    for count in range(best.rank - 1, 1, -1):
        form = whole_form.select(slice(count))
        if np.abs(problem.scaled - form.dense()).sum() > _CLOSE * tol * norm:
            return
        if problem.effort.left < weighted_sweep_work(problem.dense.shape, count):
            problem.effort.ended = True
            return
        form = least_l1(problem.scaled, form, tol * (1 - 1e-9) * norm, _ROUNDS, problem.effort)
        if np.abs(problem.scaled - form.dense()).sum() > tol * norm:
            return
        yield form


def _cheaper(problem: Problem, expansions: Sequence[Expansion], best: SeparableKernel) -> Iterator[Form]:
    """Yield sums of more than two axes that may be cheaper than staged ones."""
    macs, size = Form.of_terms(best.terms).macs, problem.dense.size
    if macs > _HOPELESS * size:
        return
    macs = min(macs, size)
    tol = (problem.tol or 0.0) * (1 - 1e-9)
    if problem.scaled.ndim == 3:
        for form in _graphs(problem, expansions, tol):
            yield form
            macs = min(macs, form.macs)
    fewer = fewest_terms(problem.scaled, expansions, tol, macs, problem.effort)
    if fewer is not None:
        yield fewer


def _graphs(problem: Problem, expansions: Sequence[Expansion], tol: float) -> Iterator[Form]:
    """Yield pruned forms of three axes: from both staged decompositions that share, and from Tucker's."""
    if len(expansions) < len(orders(3)):  # the effort has ended
        return
    by_order = dict(zip(orders(3), expansions, strict=True))
    first, _, last = problem.dense.shape
    if not problem.effort.takes(sum(svd_work(n, problem.dense.size // n) for n in (first, last))):
        return
    pairs = paired(problem.scaled)
    starts = [
        (as_form(by_order[0, 1, 2]), 1.0),
        (as_form(by_order[2, 0, 1]), 1.0),
        (pairs, 1.0),
        (pairs, 0.5),
    ]
    for form, slack in starts:
        if not problem.effort.takes(_RANKED * form.count**2 + CALL * form.count):
            return
        start = _leading(problem.scaled, form, slack * tol, problem.effort)
        yield start
        work = _PRUNING_SWEEPS * problem.scaled.size * start.count**2
        if work <= _PRUNING_WORK and start.macs <= problem.scaled.size:
            yield pruned(problem.scaled, start, tol, problem.effort)


def _leading(tensor: FloatArray, form: Form, tol: float, effort: Effort) -> Form:
    """Return the terms of most energy per multiplication, as many as `tol` needs."""
    ranking = cheapest_first(form)
    norm, residual = float(np.abs(tensor).sum()), tensor.copy()
    count = 0
    while count < form.count and np.abs(residual).sum() > tol * norm:
        effort.spend(_LOOKS * tensor.size + CALL)
        residual -= form.select(ranking[count : count + 1]).dense()
        count += 1
    return form.select(ranking[: max(1, count)])
