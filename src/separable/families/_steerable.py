"""Derivatives of Gaussians in any direction, as sums of a few along the axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from ._gaussians import gaussian_derivatives
from ._parameters import PerAxis, PerAxisInt, check_count, sine_cosine


@dataclass(frozen=True)
class Steerable:
    """A derivative of a Gaussian that can be turned: a basis, and the weights that turn it.

    Filter with the basis once; ``weights(angle)`` then mix the results into the answer of the filter turned
    to any angle, one for the whole image or another in each pixel. Where few angles are wanted,
    ``at(angle)`` is the turned kernel itself.

    Attributes
    ----------
    basis : tuple of SeparableKernel
        The partial derivatives of one total order: ``order + 1`` of them in 2-D; one term each.
    orders : tuple of tuple of int
        The order along each axis, for each of the basis.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> edges = sp.families.steerable(2.0)
    >>> image = np.random.default_rng(0).random((60, 60))
    >>> answers = sp.plan(list(edges.basis), image.shape, "float64")(image)  # once
    >>> turned = np.tensordot(edges.weights(0.3), answers, 1)  # then any angle for two products a pixel
    >>> bool(np.allclose(turned, sp.correlate(image, edges.at(0.3))))
    True
    """

    basis: tuple[SeparableKernel, ...]
    orders: tuple[tuple[int, ...], ...]

    def weights(self, direction: npt.ArrayLike) -> FloatArray:
        """Return the weight of each filter of the basis.

        Parameters
        ----------
        direction : array_like
            In 2-D angles in radians, any shape, from the columns' axis (axis 1) towards the rows' (axis 0).
            Otherwise vectors along the last axis, shape ``(..., ndim)``; their length does not matter.

        Returns
        -------
        ndarray, shape ``(len(basis), ...)``, float64

        Raises
        ------
        TypeError, ValueError
            If `direction` is not finite real numbers, has another number of components, or a vector is zero.

        Notes
        -----
        The directional derivative to a power: ``(d . grad)**n`` by the multinomial theorem [1]_.

        References
        ----------
        .. [1] W. T. Freeman, E. H. Adelson, The design and use of steerable filters, IEEE Trans. Pattern
           Analysis and Machine Intelligence 13, 1991.
        """
        unit = _unit(direction, self.basis[0].ndim)
        mixed = []
        for orders in self.orders:
            ways = math.factorial(sum(orders)) // math.prod(map(math.factorial, orders))
            powers = [part**n for part, n in zip(unit, orders, strict=True)]
            mixed.append(ways * np.multiply.reduce(powers))
        return np.array(mixed)

    def at(self, direction: npt.ArrayLike) -> SeparableKernel:
        """Return the derivative in one direction as a kernel.

        Parameters
        ----------
        direction : float or sequence of float
            One angle in 2-D, one vector otherwise; as for :meth:`weights`.

        Returns
        -------
        SeparableKernel
            At most ``len(basis)`` terms. Kernels of several directions have the same taps, bit by bit,
            along every axis but the first, so that filtering with all of them at once shares those passes.

        Raises
        ------
        TypeError, ValueError
            As :meth:`weights`, and where several directions are given.
        """
        weights = self.weights(direction)
        if weights.ndim != 1:
            raise ValueError(
                f"`direction` has shape {np.shape(direction)}; expected one direction: "
                "call at() for each, or mix the basis by weights()."
            )
        mixed = [
            [weight * first, *others]
            for weight, kernel in zip(weights, self.basis, strict=True)
            if weight
            for first, *others in kernel.terms
        ]
        return SeparableKernel(mixed)


def steerable(
    sigma: PerAxis,
    order: SupportsIndex = 1,
    *,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
    ndim: SupportsIndex | None = None,
) -> Steerable:
    """Return the derivative of a Gaussian in every direction at once.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation, > 0, in pixels. With one for all axes the kernel in another direction is the
        kernel turned; otherwise it is that derivative of the same upright Gaussian.
    order : int, optional
        Order of the derivative: 1 answers to edges, 2 to lines.
    truncate, radius, ndim
        As for :func:`gaussian`.

    Returns
    -------
    Steerable
        Exact: what it gives in a direction is ``rotated_gaussian`` there, with that order, to rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> lines = sp.families.steerable(3.0, order=2)
    >>> len(lines.basis), lines.orders
    (3, ((2, 0), (1, 1), (0, 2)))
    >>> turned = sp.families.rotated_gaussian((3.0, 3.0), 0.5, order=(0, 2))
    >>> bool(np.allclose(lines.at(0.5).dense(), turned))
    True
    """
    total = check_count("order", order)
    jet = gaussian_derivatives(sigma, total, truncate=truncate, radius=radius, ndim=ndim)
    chosen = [orders for orders in jet if sum(orders) == total]
    return Steerable(tuple(jet[orders] for orders in chosen), tuple(chosen))


def _unit(direction: npt.ArrayLike, ndim: int) -> list[FloatArray]:
    """Return the components of unit vectors, one array per axis."""
    array = np.asarray(direction)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise TypeError(f"`direction` is {direction!r}; expected finite numbers.")
    if ndim == 2:
        return [*sine_cosine(array)]
    if array.ndim == 0 or array.shape[-1] != ndim:
        raise ValueError(f"`direction` has shape {array.shape}; expected vectors of {ndim} components.")
    vectors = array.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1)
    if not lengths.all():
        raise ValueError("`direction` is a zero vector; expected one that points somewhere.")
    return [vectors[..., axis] / lengths for axis in range(ndim)]
