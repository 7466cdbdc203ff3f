"""Choosing how to run a kernel, by what it costs: as terms, as one dense sweep, by running sums or waves."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ._errors import NotSeparableError
from .factor import factor
from .kernel import KernelError, SeparableKernel
from .running import DEFAULT_TOL, UNIT, RunningForm, box_form, recursive_form
from .shapes import ShapeForm, shape_form

Array: TypeAlias = npt.NDArray[Any]

# What running a kernel costs per sample, in the time that one weight of a dense sweep takes: 0.0185 ns
# for float32 on one AVX-512 core (Zen 4). Fitted to 1024x1024 float32 arrays, 3 to 25 taps along each
# axis, 1 to 4 terms, dense kernels of 3x3 to 25x25, within 15 %. Only ratios matter.
DENSE_COST = 10.0  # a dense sweep, beside its weights
SEPARABLE_COST = 7.0  # a sum of terms, beside its passes
PASS_COST = 3.0  # one pass along one axis, beside its multiplications
TAP_COST = 1.1  # one multiplication of a pass
FOLDED_WEIGHT = 0.65  # a weight of a dense kernel whose columns are (anti)symmetric

# Running sums never pay below so many taps: nobody looks for a form then.
SHORT_TAPS = 9


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


class Choice(NamedTuple):
    """A way to run a kernel, and what it costs per sample."""

    method: str
    kernel: SeparableKernel | RunningForm | ShapeForm | Array
    terms: int
    error: KernelError
    macs: int
    cost: float


def choose(kernel: SeparableKernel | Array, tol: float | None, method: str, setting: Setting) -> Choice:
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
    if method in ("box", "recursive"):
        return _running(kernel, factored, tol, method, setting)
    if method == "auto":
        # Along one axis a dense sweep saves nothing but zeros, and takes up to three times as long.
        swept = sum(n > 1 for n in setting.taps) > 1 or 2 * weights < math.prod(setting.taps)
        others = [
            *[direct] * swept,
            *_running_choices(factored, tol, setting),
            *_shapes(kernel, tol, setting),
        ]
        cheaper = [choice for choice in others if choice.cost < cost]
        if cheaper:
            return min(cheaper, key=lambda choice: choice.cost)
    return Choice("separable", factored, factored.rank, factored.error, factored.macs, cost)


def _running(
    kernel: SeparableKernel | Array,
    factored: SeparableKernel,
    tol: float | None,
    method: str,
    setting: Setting,
) -> Choice:
    """Return the way to run `kernel` that `method` names."""
    within = DEFAULT_TOL if tol is None else tol
    form: RunningForm | None
    if method == "box":
        form, shape = box_form(factored), shape_form(kernel)
        needs = "equal taps along each axis of one term, or weights that equal their neighbours, as in a disk"
        if form is None and shape is not None:
            return _shape_choice(shape, tol, setting)
    else:
        form = recursive_form(factored, within)
        needs = (
            "one term with taps that are symmetric or antisymmetric about the middle, and few cosines "
            f"within tol={within:g}"
        )
    if form is None:
        raise ValueError(f"`method={method!r}` needs {needs}; pass method='auto' for this kernel.")
    return _running_choice(form, setting)


def _running_choice(form: RunningForm, setting: Setting) -> Choice:
    # The unit is that of float32; a dense sweep takes twice as long in float64, running sums do not.
    unit = UNIT * (1 if setting.dtype.char in "fF" else 2)
    shape = (*setting.shape, 2) if setting.dtype.kind == "c" else setting.shape
    return Choice(form.method, form, 1, form.error, form.macs, form.cost(shape, setting.axes) / unit)


def _shape_choice(form: ShapeForm, tol: float | None, setting: Setting) -> Choice:
    exact = setting.whole and form.exact
    if not exact:
        form = form.within(tol, setting.dtype)
    error = form.error if exact else form.error_on_floats
    words = exact and form.fits_words(setting.dtype)
    # As in `_running_choice`.
    unit = UNIT * (1 if setting.dtype.char in "fF" else 2)
    shape = (*setting.shape, 2) if setting.dtype.kind == "c" else setting.shape
    return Choice(form.method, form, 0, error, form.macs, form.cost(shape, setting.axes, words=words) / unit)


def _shapes(kernel: SeparableKernel | Array, tol: float | None, setting: Setting) -> list[Choice]:
    """List the way to run `kernel` by differences over running sums, where it is exact or within `tol`."""
    if (tol is None and not setting.whole) or math.prod(setting.taps) < SHORT_TAPS:
        return []
    if isinstance(kernel, SeparableKernel) and kernel.rank == 1:
        return []  # a box, or no shape
    form = shape_form(kernel)
    if form is None:
        return []
    choice = _shape_choice(form, tol, setting)
    exact = setting.whole and form.exact
    return [choice] if exact or (tol is not None and choice.error.relative_l1 <= tol) else []


def _running_choices(kernel: SeparableKernel, tol: float | None, setting: Setting) -> list[Choice]:
    """List the ways to run `kernel` by running sums that are allowed."""
    if max(setting.taps) < SHORT_TAPS:
        return []
    forms = [box_form(kernel), None if tol is None else recursive_form(kernel, tol)]
    return [_running_choice(form, setting) for form in forms if form is not None]


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
