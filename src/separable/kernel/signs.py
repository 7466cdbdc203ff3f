"""The signs, zeros and range of direct sums, and whether other methods keep them.

A sum of products >= 0 is not negative, a sum of zeros is 0, and a mean lies between the smallest and the
largest sample. Users take roots and logarithms and look for zeros. Transforms, which round relative to the
largest samples of their block, and terms that cancel guarantee none of this.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from .._base.types import Array
from .value import SeparableKernel

# Tolerance of the sum of a mean, times the root of the number of weights: 8 roundings of float64.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

# Rounding error of a transform and the products, in unit roundoffs times log2 of the length, in the 2-norm: 7
# for the transform (N. J. Higham, Accuracy and Stability of Numerical Algorithms, theorem 24.2).
_OF_A_TRANSFORM: Final = 8.0

# Magnitude, in unit roundoffs of the largest result, up to which results may be rounding errors: the largest
# errors measured are 10.
_LITTLE_BUT_ROUNDING: Final = 16.0


def terms_keep(kernel: SeparableKernel, weights: SeparableKernel | Array) -> bool:
    """Return whether a sum of terms keeps the signs and zeros of direct sums with `weights`.

    Parameters
    ----------
    kernel : SeparableKernel
        The terms.
    weights : SeparableKernel or ndarray
        The kernel that they approximate.

    Returns
    -------
    bool
        True if all terms are 0 where a weight is 0 and, for weights of one sign, have that sign.
    """
    if kernel.rank == 1 or sum(n > 1 for n in kernel.shape) < 2:  # terms along one axis are added up first
        return True
    dense = np.asarray(weights.dense() if isinstance(weights, SeparableKernel) else weights)
    sign = sign_of(dense)
    if sign and any(math.prod(map(sign_of, term)) != sign for term in kernel.terms):
        return False
    zeros = dense == 0
    if not zeros.any():
        return True
    return not any((zeros & _reach(term)).any() for term in kernel.terms)


def sign_of(weights: Array) -> int:
    """Return 1 if no weight is negative, -1 if none is positive, 0 if both signs occur."""
    return 1 if weights.min() >= 0 else -1 if weights.max() <= 0 else 0


def _reach(term: tuple[Array, ...]) -> Array:
    reach = np.ones((), bool)
    for taps in term:
        reach = reach[..., None] & (taps != 0)
    return reach


class Signs(NamedTuple):
    """The facts of a dense kernel that decide signs, zeros and range of direct sums.

    Attributes
    ----------
    sign : int
        The sign of the weights, from `sign_of`.
    nonzero : int
        Number of nonzero weights.
    norm : float
        Their l2 norm.
    mean : bool
        They are >= 0 and sum to 1.
    """

    sign: int
    nonzero: int
    norm: float
    mean: bool

    @classmethod
    def of(cls, weights: Array) -> Signs:
        """Return the facts of `weights`, float64."""
        exponent = math.frexp(float(np.abs(weights).max()))[1]  # squares of 1e-200 underflow
        norm = math.ldexp(float(np.linalg.norm(np.ldexp(weights, -exponent))), exponent)
        sign = sign_of(weights)
        mean = sign > 0 and abs(float(weights.sum()) - 1) <= _ROUNDING * math.sqrt(weights.size)
        return cls(sign, int(np.count_nonzero(weights)), norm, mean)

    def look_at(self, staged: Array, values: Array, samples: int) -> Doubts:
        """Return the doubts about results of a block that transforms of `samples` samples computed.

        Parameters
        ----------
        staged : ndarray
            The block, finite.
        values : ndarray
            The results, finite.
        samples : int
            Size of a transform.

        Returns
        -------
        Doubts
        """
        low, high = float(staged.min()), float(staged.max())
        one_sign = self.sign if low >= 0 else -self.sign if high <= 0 else 0
        largest = max(abs(float(values.min())), abs(float(values.max())))
        unit = float(np.finfo(values.dtype).eps) / 2
        growth = _OF_A_TRANSFORM * unit * max(math.log2(samples), 1.0) * math.sqrt(samples)
        error = growth * (self.norm * max(abs(low), abs(high)) + largest) + float(np.finfo(values.dtype).tiny)
        sizes = values if one_sign > 0 else -values if one_sign < 0 else np.abs(values)
        return Doubts(one_sign, low, high, sizes, error, _LITTLE_BUT_ROUNDING * unit * largest)


class Doubts(NamedTuple):
    """The facts that tell which results of a block may differ from direct sums in sign, or in being 0."""

    one_sign: int  # of all direct sums; 0: both may occur
    low: float  # the smallest sample of the block
    high: float
    sizes: Array  # magnitudes of the results; with `one_sign`, results times it
    error: float  # bound of the rounding error of a result
    little: float  # results up to this may be rounding errors

    @property
    def none(self) -> bool:
        """Whether every result exceeds the rounding error, so that none may be 0 or negative."""
        return float(self.sizes.min()) > self.error

    def unsettled(self, reached: Array | None) -> bool:
        """Return whether rounding decides the sign of a result; `reached`: where direct sums are not 0."""
        if not self.one_sign:
            return False
        small = self.sizes <= self.little
        return bool(small.any() if reached is None else (small & reached).any())
