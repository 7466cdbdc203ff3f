"""Sums and root sums of squares of several filters of one input, block by block, in the first's array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from .._base.types import Array
from ..filters.core import new_array
from ._arguments import Target, is_wide
from ._run import How, Step, chain_values, computed_dtype

# Samples of a block: three blocks of float64 fit the L2 cache.
_BLOCK: Final = 1 << 15


def parts_of(parts: Sequence[Sequence[Step]], x: Array, target: Target, how: How) -> Iterator[Array]:
    """Yield the result of each chain of steps on `x`, in floats.

    The first is stored in the caller's array if that has the dtype and shares no memory with `x`, and may be
    overwritten; all others use one more array in turn.
    """
    first = second = None
    if not (is_wide(x.dtype) or is_wide(target.dtype)):
        dtype = computed_dtype(x, target)
        direct = (
            target.array is not None and target.dtype == dtype and not np.may_share_memory(x, target.array)
        )
        first = target.array if direct else _beside(x, dtype)
        second = _beside(x, dtype) if len(parts) > 1 else None
    for number, steps in enumerate(parts):
        yield chain_values(steps, x, target, how, second if number else first)


def _beside(x: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return a new array in the memory order of `x`."""
    return new_array(x.shape[::-1], dtype).T if x.flags.fnc else new_array(x.shape, dtype)


def accumulator(x: Array, target: Target) -> Array:
    """Return the accumulator of a callable's results: the caller's array, unless that holds integers."""
    if target.dtype.kind in "biu":
        return np.empty(x.shape, computed_dtype(x, target))
    return target.allocated(x.shape)


def total(parts: Iterator[Array]) -> Array:
    """Return the sum of the parts, accumulated in the first."""
    result = next(parts)
    for part in parts:
        result += part
    return result


def length(parts: Iterator[Array], count: int) -> Array:
    """Return the root of the sum of squares of `count` parts, in the first; only that is overwritten.

    Squares, sums and roots are computed block by block, so that each part crosses memory once: at 4096 x 4096
    that halves the time of the whole gradient.
    """
    result = next(parts)
    if count == 1:
        np.multiply(result, result, out=result)
        return np.sqrt(result, out=result)
    for number, part in enumerate(parts, 2):
        room = np.empty(min(_BLOCK, part.size), part.dtype)
        for sums, values in _blocks(result, part):
            if number == 2:
                np.multiply(sums, sums, out=sums)
            squares = room[: values.size].reshape(values.shape)
            sums += np.multiply(values, values, out=squares)
            if number == count:
                np.sqrt(sums, out=sums)
    return result


def _blocks(result: Array, part: Array) -> Iterator[tuple[Array, Array]]:
    """Yield blocks of both arrays in memory order; those of the first are writeable."""
    if result.size <= _BLOCK:
        yield result, part
        return
    kinds: Any = [["readwrite"], ["readonly"]]
    with np.nditer([result, part], ["external_loop", "buffered"], kinds, buffersize=_BLOCK) as blocks:
        yield from blocks
