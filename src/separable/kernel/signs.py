"""What direct sums can be, and what other ways to filter make of it: signs, zeros, the range of the samples.

A sum of products >= 0 is not negative, a sum of zeros is 0, and a mean lies between the smallest and the
largest sample. Users take roots and logarithms and look for zeros. Transforms round relative to the largest
samples of their block, and terms that cancel leave rounding errors: neither keeps any of that by itself.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from .._base.types import Array
from .value import SeparableKernel

# Weights sum to 1 within the rounding of what made them.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

# A transform rounds by at most 7 units times the logarithm of its length, in the 2-norm (N. J. Higham,
# Accuracy and Stability of Numerical Algorithms, theorem 24.2); and the products.
_OF_A_TRANSFORM: Final = 8.0

# Results of at most so many units of the largest are little but rounding: by trial they err by 10 at most.
_LITTLE_BUT_ROUNDING: Final = 16.0


def terms_keep(kernel: SeparableKernel, weights: SeparableKernel | Array) -> bool:
    """Return whether a sum of terms is negative, and not 0, only where sums with `weights` can be.

    Parameters
    ----------
    kernel : SeparableKernel
        The terms.
    weights : SeparableKernel or ndarray
        The kernel that they stand for.

    Returns
    -------
    bool
        True if no term reaches where a weight is 0 and, for weights of one sign, all terms have that sign.
    """
    if kernel.rank == 1 or sum(n > 1 for n in kernel.shape) < 2:  # terms along one axis are added up first
        return True
    dense = np.asarray(weights.dense() if isinstance(weights, SeparableKernel) else weights)
    sign = sign_of(dense)
    if sign and any(math.prod(map(sign_of, term)) != sign for term in kernel.terms):
        return False
    nothing = dense == 0
    if not nothing.any():
        return True
    return not any((nothing & _reach(term)).any() for term in kernel.terms)


def sign_of(weights: Array) -> int:
    """Return 1 if no weight is negative, -1 if none is positive, 0 if there are both."""
    return 1 if weights.min() >= 0 else -1 if weights.max() <= 0 else 0


def _reach(term: tuple[Array, ...]) -> Array:
    reach = np.ones((), bool)
    for taps in term:
        reach = reach[..., None] & (taps != 0)
    return reach


class Signs(NamedTuple):
    """What sums of products with a dense kernel can be.

    Attributes
    ----------
    sign : int
        Of the weights, as `sign_of`.
    nonzero : int
        How many weights are not 0.
    norm : float
        Root of the sum of their squares.
    mean : bool
        They are >= 0, and their sum is 1.
    """

    sign: int
    nonzero: int
    norm: float
    mean: bool

    @classmethod
    def of(cls, weights: Array) -> Signs:
        """Return those of `weights`, float64."""
        exponent = math.frexp(float(np.abs(weights).max()))[1]  # squares of 1e-200 would vanish
        norm = math.ldexp(float(np.linalg.norm(np.ldexp(weights, -exponent))), exponent)
        sign = sign_of(weights)
        mean = sign > 0 and abs(float(weights.sum()) - 1) <= _ROUNDING * math.sqrt(weights.size)
        return cls(sign, int(np.count_nonzero(weights)), norm, mean)

    def look_at(self, staged: Array, values: Array, samples: int) -> Doubts:
        """Look at what transforms of `samples` each made of a block.

        Parameters
        ----------
        staged : ndarray
            The block, finite.
        values : ndarray
            What came out, finite.
        samples : int
            Length of a transform.

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
    """Which results of a block may differ from direct sums in sign, or be no zeros where those are."""

    one_sign: int  # of all direct sums; 0: they have both, or may
    low: float  # the smallest sample of the block
    high: float
    sizes: Array  # of the results; times their sign where they have one
    error: float  # of a result, at most
    little: float  # results up to this are little but rounding

    @property
    def none(self) -> bool:
        """No result is so small that it might be 0 or negative."""
        return float(self.sizes.min()) > self.error

    def unsettled(self, reached: Array | None) -> bool:
        """Return whether a result has no sign but by chance; `reached`: where it is not 0."""
        if not self.one_sign:
            return False
        small = self.sizes <= self.little
        return bool(small.any() if reached is None else (small & reached).any())
