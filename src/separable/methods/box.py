"""The method "box": running sums for kernels of equal taps, and for piecewise constant kernels."""

from __future__ import annotations

import math
from typing import Final

from ..kernel.value import SeparableKernel
from .algorithms import piecewise
from .algorithms.recursions import Recursions, equal_taps, recursions
from .method import Ask, Refusal, Way

# Minimum taps (for piecewise constant kernels, weights) for which running sums are considered.
SHORT_TAPS: Final = 9


class BoxMethod:
    """Running sums along each axis, or along one where weights equal their neighbours."""

    name = "box"
    about = "by running sums"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return running sums along each axis, or along the axis of a piecewise constant kernel."""
        form = _box(ask)
        if form is not None:
            return Way.of(self.name, form, form.error, form.cost(ask.setting))
        shape = _shape(ask)
        if shape is None:
            needs = (
                "equal taps along each axis of one term, or weights that equal their neighbours, as in a disk"
            )
            return Refusal(self.name, f"needs {needs}")
        return piecewise.filled(shape, ask)

    def reserved(self, ask: Ask) -> str | None:
        """Return a reason for short kernels, which never pay, and for floats, whose running sums round."""
        if math.prod(ask.setting.taps) < SHORT_TAPS:
            return f"pays from {SHORT_TAPS} weights on"
        if _box(ask) is not None:
            return too_short(ask)
        shape = _shape(ask)
        if shape is None:  # `offer` states the requirement
            return None
        exact = ask.setting.whole and shape.exact
        if exact or (ask.tol is not None and piecewise.filled(shape, ask).error.relative_l1 <= ask.tol):
            return None
        return "rounds sums of floats: only within a `tol` that is given"


def too_short(ask: Ask) -> str | None:
    """Return a reason where a kernel is too short for recursions to pay, else None."""
    return f"pays from {SHORT_TAPS} taps on" if max(ask.setting.taps) < SHORT_TAPS else None


def box_form(kernel: SeparableKernel) -> Recursions | None:
    """Return `kernel` as a box: None unless it is one term with equal taps along each axis."""
    if kernel.rank != 1 or kernel.size == 1:
        return None
    scales = [equal_taps(taps) for taps in kernel.terms[0]]
    if None in scales:
        return None
    return recursions("box", kernel, [None] * len(scales), [s for s in scales if s is not None])


def _box(ask: Ask) -> Recursions | None:
    return None if ask.factored is None else box_form(ask.factored)


def _shape(ask: Ask) -> piecewise.PiecewiseForm | None:
    return ask.remembered(_shape_of)


def _shape_of(ask: Ask) -> piecewise.PiecewiseForm | None:
    if isinstance(ask.kernel, SeparableKernel) and ask.kernel.rank == 1:
        return None  # one term is a box, or not piecewise constant
    return piecewise.piecewise_form(ask.kernel)
