"""The scale of kernels: the range of float32, and powers of two moved between the taps of passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from .._base.types import Array
from .passes import with_scale
from .value import SeparableKernel, Term

_SUMMED: Final = 1e280  # maximum magnitude that is summed without regard to overflow

# Exponents of the l1 norm for which a kernel is summed in float32: weights of 2**-30 times the largest are
# normal numbers, and samples of up to 2**63 do not overflow. Other kernels are summed in float64.
_LEAST: Final = -96
_MOST: Final = 64

# Maximum ratio, as a power of two, of the terms of one pass that share a scale: far from the ends of float32.
SPREAD: Final = 40

# Exponent of the gain above which the first pass applies the gain of a kernel: passes that scale down would
# cost samples near the subnormal numbers their last bits.
GAIN: Final = 24


def magnitude(kernel: SeparableKernel | Array) -> int:
    """Return a power of two near the largest gain of a kernel: the exponent of its l1 norm.

    That of the largest term if there are several; 0 for a kernel of zeros.
    """
    terms = kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
    sums = [[_exponent(taps) for taps in term] for term in terms if all(taps.any() for taps in term)]
    return max(map(sum, sums), default=0)


def _exponent(values: Array) -> int:
    """Return the exponent of the sum of magnitudes, even where the sum overflows; 0 for zeros."""
    magnitudes = np.abs(values)
    if float(magnitudes.max()) < _SUMMED:
        return math.frexp(float(magnitudes.sum()))[1]
    half = math.frexp(float(values.size))[1]
    return math.frexp(float(np.ldexp(magnitudes, -half).sum()))[1] + half


def leaves_float32(kernel: SeparableKernel | Array) -> bool:
    """Return whether weights or sums of `kernel` may underflow or overflow in float32."""
    return not _LEAST <= magnitude(kernel) <= _MOST


class Placed(NamedTuple):
    """Sums of terms as passes: the kernel's axis of each pass in running order, and the taps."""

    axes: list[int]
    kernels: list[list[list[Array]]]


def placed(kernels: Sequence[Sequence[Term]], axes: Sequence[int]) -> Placed:
    """Return the passes of one or several kernels, from the array's last axis on, in range of their dtype.

    Axes with one tap need no pass: they scale another, the last to run where terms may share those before.
    Powers of two move between passes without rounding: taps of 1e-60 along one axis and 1e60 along another
    stay in range. Every pass but the last is scaled to an l1 norm in [1/2, 1), by a common factor of all
    terms where they may share taps. The last has the scale of the kernel; the first has it where it is large.

    Parameters
    ----------
    kernels : sequence of kernels
        Each a sequence of terms.
    axes : sequence of int
        The axis of the array for each axis of the kernels.
    """
    order = sorted(range(len(axes)), key=lambda n: axes[n], reverse=True)
    long_axes = [n for n in order if kernels[0][0][n].size > 1] or order[:1]
    into = long_axes[0] if sum(map(len, kernels)) == 1 else long_axes[-1]
    mantissas, powers = zip(*(_split(term, long_axes) for kernel in kernels for term in kernel), strict=True)
    terms = [
        [taps[n] for n in long_axes] for taps in (with_scale(term, long_axes, into) for term in mantissas)
    ]
    exponents = [[_exponent(line) for line in term] for term in terms]
    most = [max(column) for column in zip(*exponents, strict=True)]
    alike = all(top - n <= SPREAD for row in exponents for top, n in zip(most[:-1], row[:-1], strict=True))
    used = [(most if alike else row)[:-1] for row in exponents]
    last = [sum(row) + power for row, power in zip(used, powers, strict=True)]
    gain = max(
        (row[-1] + n for row, n, term in zip(exponents, last, terms, strict=True) if term[-1].any()),
        default=0,
    )
    scaled = []
    for term, row, n in zip(terms, used, last, strict=True):
        moved = [*(-power for power in row), n]
        if gain > GAIN:
            moved[-1] -= gain
            moved[0] += gain
        scaled.append([np.ldexp(line, power) for line, power in zip(term, moved, strict=True)])
    ready = iter(scaled)
    return Placed(long_axes, [[next(ready) for _ in kernel] for kernel in kernels])


def _split(term: Term, wide: Sequence[int]) -> tuple[list[Array], int]:
    """Return a term with single taps scaled to [1/2, 1) in magnitude, and the exponent split off."""
    mantissas, power = list(term), 0
    for axis, taps in enumerate(term):
        if axis not in wide and taps[0] != 1:
            mantissa, exponent = math.frexp(float(taps[0]))
            mantissas[axis], power = np.array([mantissa]), power + exponent
    return mantissas, power
