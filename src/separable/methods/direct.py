"""The method "direct": one dense sweep over the array, a multiply-accumulate per weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .._base.types import Array
from .._core import DirectJob, Mode
from ..arrays.exact import exact_limit, summing
from ..cost import model as costs
from ..kernel import rounding
from ..kernel.means import is_mean
from ..kernel.value import ErrorBounds, SeparableKernel
from .method import Ask, Runnable, Setting, Settled, Way, Weights

# Maximum rows and columns of the array of ones on which a mean is tested: the order of the sums is that on
# larger arrays. How often a correction is doubled until it suffices, and then halved between one that does
# and one that does not: sums of rounded weights do not follow a common factor evenly.
_TRIED_ROWS: Final = 16
_TRIED_COLUMNS: Final = 64
_DOUBLINGS: Final = 12
_HALVINGS: Final = 4


@dataclass(frozen=True, eq=False, slots=True)
class DirectForm(Runnable):
    """A kernel in the form of its dense weights."""

    kernel: Weights

    @property
    def by_weights(self) -> bool:
        """True."""
        return True

    @property
    def takes_masks(self) -> bool:
        """True."""
        return True

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample: the nonzero weights."""
        return max(1, int(np.count_nonzero(self.dense)))

    @property
    def dense(self) -> Array:
        """The weights."""
        return self.kernel.dense() if isinstance(self.kernel, SeparableKernel) else self.kernel

    def kernel_of(self, given: Weights) -> Weights:
        """Return the kernel as it runs."""
        return self.kernel

    def settled(self, given: Weights, setting: Setting, error: ErrorBounds) -> Settled:
        """Return a mean of whole numbers as sums, any other mean with weights that map 1 to 1 at most."""
        sums = summing(given) if setting.whole and isinstance(given, SeparableKernel) else None
        if sums is None:
            return self._keeping_ones(setting, error)
        return Settled(DirectForm(sums[0]), sums[1], error)

    def flipped(self) -> DirectForm:
        """Return the form of the kernel flipped along every axis."""
        kernel = self.kernel
        return DirectForm(kernel.adjoint() if isinstance(kernel, SeparableKernel) else np.flip(kernel))

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that `dtype` filters without rounding."""
        return exact_limit(self.kernel, dtype)

    def error_in(self, dtype: np.dtype[Any], axes: Sequence[int], error: ErrorBounds) -> ErrorBounds:
        """Return `error` plus that of rounding the weights to `dtype`."""
        if dtype.char not in "fF":
            return error
        if isinstance(self.kernel, SeparableKernel):
            return rounding.of_weights(self.kernel, error)
        return rounding.of_array(self.kernel, error)

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors on samples of 1: one product per nonzero weight."""
        dense = self.dense
        steps = int(np.count_nonzero(dense)) + 1
        lost = abs(float((dense - dense.astype(np.float32)).sum())) if setting.item == 4 else 0.0
        return steps * unit * float(np.abs(dense).sum()) + lost

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> DirectJob:
        """Prepare a dense sweep."""
        lines = setting.lines(len(shape))
        shifts = tuple(line.shift for line in lines)
        modes = tuple(Mode[line.mode] for line in lines)
        weights = self.laid_out(setting, len(shape))
        return DirectJob(shape, dtype, weights, shifts, modes, cval, setting.frame_of(shape))

    def laid_out(self, setting: Setting, ndim: int) -> Array:
        """Return the weights with one axis per axis of the array, of length 1 where it is not filtered."""
        lengths = [line.taps for line in setting.lines(ndim)]
        return np.ascontiguousarray(self.dense.transpose(np.argsort(setting.axes))).reshape(lengths)

    def _keeping_ones(self, setting: Setting, error: ErrorBounds) -> Settled:
        """Return a mean (weights >= 0 that sum to 1) scaled so that samples of 1 give at most 1.

        The order of the additions depends on the instruction set and the array: the sweep is run on ones.
        """
        if 0 in setting.shape:
            return Settled(self, 1.0, error)
        exact = np.asarray(self.dense, np.float64)
        if not is_mean(exact):
            return Settled(self, 1.0, error)
        over = self._above_ones(setting)
        near, far = 0.0, over(exact)
        if far <= 0:
            return Settled(self, 1.0, error)
        for _ in range(_DOUBLINGS):
            if over(exact * (1 - far)) <= 0:
                break
            near, far = far, 2 * far
        for _ in range(_HALVINGS):  # as near to the weights as it goes; all weights change in the same ratio
            middle = (near + far) / 2
            near, far = (near, middle) if over(exact * (1 - middle)) <= 0 else (middle, far)
        weights = exact * (1 - far)
        return Settled(DirectForm(weights), 1.0, rounding.moved(error, exact, weights))

    def _above_ones(self, setting: Setting) -> Callable[[Array], float]:
        """Return what tells by how much weights map samples of 1 to more than 1."""
        leading = [min(n, _TRIED_ROWS) for n in setting.shape[:-1]]
        trial = setting._replace(shape=(*leading, min(setting.shape[-1], _TRIED_COLUMNS)), cval=1.0)
        name = setting.computed.name
        ones = np.ones(trial.real_shape, name)

        def over(weights: Array) -> float:
            filtered = np.empty_like(ones)
            tried = DirectForm(weights).flipped() if setting.flip else DirectForm(weights)
            tried.job(trial, trial.real_shape, name, 1.0).run(ones, filtered, 1)
            return float(filtered.max()) - 1

        return over


class DirectMethod:
    """A dense sweep."""

    name = "direct"
    about = "as one dense sweep"

    def offer(self, ask: Ask) -> Way:
        """Return the dense weights."""
        cost = ask.setting.swept(costs.of_weights(ask.nonzero, _has_mirrored_columns(ask.kernel)))
        return Way(self.name, DirectForm(ask.kernel), 0, ask.error, max(1, ask.nonzero), cost)

    def reserved(self, ask: Ask) -> str | None:
        """Return a reason along one axis, where a sweep is slower than a pass, unless most weights are 0."""
        taps = ask.setting.taps
        if sum(n > 1 for n in taps) > 1 or 2 * ask.nonzero < math.prod(taps):
            return None
        return "along one axis it is a slower pass"


def _has_mirrored_columns(kernel: Weights) -> bool:
    """Return whether the columns of the kernel are (anti)symmetric, so that a dense sweep folds them."""
    if kernel.ndim < 2 or kernel.shape[-2] < 5:
        return False
    if isinstance(kernel, SeparableKernel):
        return any(all(np.array_equal(t[-2], s * t[-2][::-1]) for t in kernel.terms) for s in (1, -1))
    return any(np.array_equal(kernel, s * np.flip(kernel, -2)) for s in (1, -1))
