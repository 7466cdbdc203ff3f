"""Calls that repeat: on small arrays reading the arguments takes longer than filtering."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, ParamSpec, cast

import numpy as np

from ..jobs import AnyJob, new_array, watching
from ._arguments import Array

P = ParamSpec("P")

# As many kinds of calls of one function are kept; then all are forgotten.
_MOST: Final = 256

# Larger weights take longer to compare than to factor again would matter.
_MOST_WEIGHTS: Final = 1024


class _Prepared(NamedTuple):
    """The one compiled job that such a call came to, and what it was told."""

    job: AnyJob
    told: tuple[Any, ...]
    dtype: np.dtype[Any]  # of the result


def repeated(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let calls with arguments that were seen before go straight to the job that they came to then.

    Kept is what ran one real filter from the input itself into what was returned. The key is everything that
    the job depends on: shape and dtype of the input and of an output array, weights by value, all other
    arguments with their types. Arguments that do not hash take the long way, as does an output that the
    compiled core cannot write to.

    Parameters
    ----------
    function : callable
        Takes the input first, and weights second if any; does nothing to the result behind the filter.
    """
    names = list(inspect.signature(function).parameters)
    third, weighted = names.index("output"), names[1] == "weights"
    kept: dict[Hashable, _Prepared | None] = {}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Array:
        x: Any = args[0] if args else None
        output = kwargs.get("output") if len(args) <= third else args[third]
        try:
            key = _key(x, output, args[1:], kwargs, third, weighted)
            known = kept.get(key, _UNSEEN)
        except TypeError:  # something that does not hash, or no array
            return function(*args, **kwargs)
        if known is _UNSEEN:
            with watching() as runs:
                result = function(*args, **kwargs)
            if len(kept) >= _MOST:
                kept.clear()
            one = len(runs) == 1 and runs[0].source is x and runs[0].result is result
            kept[key] = _Prepared(runs[0].job, runs[0].told, result.dtype) if one else None
            return result
        target = None if known is None else _target(x, output, known.dtype)
        if known is None or target is None:
            return function(*args, **kwargs)
        known.job.run(x, target, *known.told)
        return target

    return call


_UNSEEN: Final = cast("_Prepared", object())


def _key(
    x: Any, output: Any, rest: tuple[Any, ...], kwargs: dict[str, Any], third: int, weighted: bool
) -> tuple[Any, ...]:
    """Return the key of a call, which hashes if it has one; TypeError where the input is no array."""
    if type(x) is not np.ndarray:
        raise TypeError
    if weighted and rest:
        taps = rest[0]
        if type(taps) is list and len(taps) <= _MOST_WEIGHTS:
            # Numbers (rows in it do not hash): 1 and 1 + 0j are equal, and not the same weights.
            rest = (tuple(taps), tuple(map(type, taps)), *rest[1:])
            third += 1
        elif type(taps) is np.ndarray and taps.size <= _MOST_WEIGHTS:
            rest = (taps.shape, taps.dtype, taps.tobytes(), *rest[1:])
            third += 2
    if type(output) is np.ndarray:
        wanted: Any = (output.shape, output.dtype)
        if "output" in kwargs:
            kwargs = {**kwargs, "output": None}
        else:
            rest = (*rest[: third - 1], None, *rest[third:])
    else:
        wanted = None
    return x.shape, x.dtype, wanted, rest, *map(type, rest), *kwargs.items(), *map(type, kwargs.values())


def _target(x: Any, output: Any, dtype: np.dtype[Any]) -> Array | None:
    """Return the array to write into; None if a closer look is needed."""
    if not x.flags.aligned:
        return None
    if type(output) is np.ndarray:
        return output if output.flags.carray and not np.may_share_memory(x, output) else None
    if not x.flags.c_contiguous:
        return None
    return new_array(x.shape, dtype) if dtype.kind == "f" else np.empty(x.shape, dtype)
