"""The Gaussian along one axis as SciPy's arguments describe it, and how several are run together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import families
from .._base.numbers import as_real, as_whole
from .._base.types import Array
from .._base.words.messages import shown
from ..arrays.boundaries import is_padded
from ..families._gaussians import sampled_taps
from ..families._parameters import check_positive, check_radii
from ..kernel.value import SeparableKernel
from . import _arguments as arguments
from ._run import Step

# Sigma up to which SciPy leaves an axis unfiltered.
_NO_SIGMA = 1e-15


class Gaussian(NamedTuple):
    """A Gaussian, or a derivative of one, along an axis."""

    axis: int
    sigma: float
    order: int
    mode: str
    radius: int
    spacing: float  # length of a sample in the units of sigma

    @classmethod
    def of(
        cls, axis: int, sigma: float, order: Any, mode: Any, truncate: float, radius: Any, spacing: Any
    ) -> Gaussian:
        """Return the Gaussian that the arguments of one axis describe."""
        length = 1.0 if spacing is None else arguments.real("spacing", spacing)
        if not 0 < length < math.inf:
            raise ValueError(
                f"`spacing` is {shown(spacing)}; expected the length of a sample, a positive number."
            )
        width = arguments.real("sigma", sigma)
        # 0.0 is the one float that SciPy takes for an order.
        derivative = 0 if as_real(order) == 0 else arguments.whole("order", order)
        if derivative < 0:
            raise ValueError(f"order must be non-negative; got {derivative}.")
        reach = _reach(width / length, arguments.real("truncate", truncate), radius)
        return cls(axis, width, derivative, arguments.one_mode(mode), reach, length)

    @classmethod
    def along(
        cls,
        axes: Sequence[int],
        sigma: Any,
        order: Any,
        mode: Any,
        truncate: float,
        radius: Any,
        spacing: Any,
    ) -> list[Gaussian]:
        """Return the Gaussian along each axis, except where sigma leaves the axis unfiltered."""
        count = len(axes)
        per_axis = zip(
            axes,
            arguments.each("sigma", sigma, count),
            arguments.each("order", order, count),
            arguments.each("mode", mode, count),
            [truncate] * count,
            arguments.each("radius", radius, count),
            arguments.each("spacing", spacing, count),
            strict=True,
        )
        return [cls.of(*values) for values in per_axis if arguments.real("sigma", values[1]) > _NO_SIGMA]

    def taps(self) -> Array:
        """Return the taps of the correlation: SciPy's samples of the derivative.

        `separable.gaussian` corrects their moments; code written for SciPy gets SciPy's taps.
        """
        width = self.sigma / self.spacing
        if not self.order:
            return families.gaussian([width], radius=[self.radius]).terms[0][0]
        check_radii([check_positive("sigma", width)], 4.0, [self.radius])
        return sampled_taps(width, self.order, self.radius) / self.spacing**self.order


def _reach(sigma: float, truncate: float, radius: Any) -> int:
    if radius is None:
        reach = truncate * sigma + 0.5
        if reach < 0:
            raise ValueError(f"Radius must be a nonnegative integer; `truncate` is {truncate}.")
        return int(reach)
    whole_radius = int(radius) if isinstance(radius, bool) else as_whole(radius)
    if whole_radius is None or whole_radius < 0:
        raise ValueError(f"Radius must be a nonnegative integer; got {shown(radius)}.")
    return whole_radius


def product(kernels: Sequence[Gaussian]) -> SeparableKernel:
    """Return the separable kernel of one Gaussian along each axis."""
    return SeparableKernel([[kernel.taps() for kernel in kernels]])


def pads_its_passes(kernels: Sequence[Gaussian], cval: complex) -> bool:
    """Return whether SciPy pads a derivative with `cval` before it filters a further axis.

    SciPy pads the result of every pass with `cval`; the verbs pad the input only, so that beyond its ends a
    derivative is 0. Both agree where the taps of all earlier passes sum to 1.
    """
    if cval == 0:
        return False
    padded = [n for n, kernel in enumerate(kernels) if is_padded(kernel.mode)]
    derived = [n for n, kernel in enumerate(kernels) if kernel.order]
    return bool(padded and derived) and derived[0] < padded[-1]


def steps_of(kernels: Sequence[Gaussian], cval: complex, tol: float | None = None) -> tuple[Step, ...]:
    """Return the steps that filter along each Gaussian's axis; empty without Gaussians."""
    if pads_its_passes(kernels, cval):
        return tuple(_step([kernel], cval, tol) for kernel in kernels)
    return (_step(kernels, cval, tol),) if kernels else ()


def _step(kernels: Sequence[Gaussian], cval: complex, tol: float | None) -> Step:
    given: dict[str, Any] = {
        "mode": tuple(kernel.mode for kernel in kernels),
        "axes": tuple(kernel.axis for kernel in kernels),
        "cval": cval,
    }
    if tol is not None:
        given["tol"] = tol
    return Step("correlate", product(kernels), given)
