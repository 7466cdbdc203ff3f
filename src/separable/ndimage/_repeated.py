"""Calls that repeat: on small arrays reading the arguments takes longer than filtering."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, Final, ParamSpec

import numpy as np

from ..jobs import AnyJob, Run, new_array, watching
from ._arguments import Array

P = ParamSpec("P")

# As many kinds of calls of one function are kept, the latest.
_MOST: Final = 256

# Larger weights take longer to compare than to factor again would matter.
_MOST_WEIGHTS: Final = 1024


class _Kind:
    """What calls of one kind came to: one compiled job, what it was told, and the dtype of its result."""

    __slots__ = ("dtype", "job", "seen", "telling", "told")

    def __init__(self) -> None:
        self.seen = False
        self.job: AnyJob | None = None  # None where such calls take the long way
        self.told: tuple[Any, ...] = ()
        self.telling: Callable[[Array], tuple[Any, ...]] | None = None
        self.dtype: np.dtype[Any] = np.dtype(np.float64)

    def keep(self, runs: list[Run], x: Array, result: Array) -> None:
        """Keep what ran, if that was one job from `x` to `result`."""
        if len(runs) == 1 and runs[0].source is x and runs[0].result is result:
            self.told, self.telling, self.dtype = runs[0].told, runs[0].telling, result.dtype
            self.job = runs[0].job
        self.seen = True  # last: another thread may look


def repeated(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let calls with arguments that were seen before go straight to the job that they came to then.

    Kept is what ran one real filter from the input itself into what was returned. Calls are of one kind
    where everything that the job depends on agrees: shape and dtype of the input, dtype of an output array,
    weights by value, all other arguments with their types. Arguments that do not hash take the long way, as
    does what the compiled core refuses: memory that is not aligned, an output of another shape.

    Parameters
    ----------
    function : callable
        Takes the input first, and weights second if any; does nothing to the result behind the filter.
    """
    names = list(inspect.signature(function).parameters)
    third, weighted = names.index("output"), names[1] == "weights"

    # Its key, with the types, is made in C: two fifths of the time that Python takes to build one.
    @functools.lru_cache(maxsize=_MOST, typed=True)
    def kind_of(
        shape: tuple[int, ...], dtype: Hashable, wanted: Hashable, /, *rest: Hashable, **more: Hashable
    ) -> _Kind:
        return _Kind()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Array:
        if not args or type(args[0]) is not np.ndarray:
            return function(*args, **kwargs)
        x: Array = args[0]
        output: Any
        if len(args) > third:
            output, rest, more = args[third], args[1:third] + args[third + 1 :], kwargs
        else:
            more = kwargs.copy()  # type: ignore[assignment]
            output, rest = more.pop("output", None), args[1:]
        given = type(output) is np.ndarray
        try:
            if weighted and rest:
                rest = _comparable(rest[0]) + rest[1:]
            kind = kind_of(x.shape, x.dtype, (output.dtype,) if given else output, *rest, **more)  # type: ignore[arg-type]
        except TypeError:  # something that does not hash
            return function(*args, **kwargs)
        if not kind.seen:
            with watching() as runs:
                result = function(*args, **kwargs)
            kind.keep(runs, x, result)
            return result
        if kind.job is None or not (_is_apart(x, output) if given else x.flags.c_contiguous):
            return function(*args, **kwargs)
        result = output if given else _new(x.shape, kind.dtype)
        try:
            weak = kind.job.run(x, result, *(kind.told if kind.telling is None else kind.telling(x)))
        except TypeError:  # arrays that it does not take, before anything is written
            return function(*args, **kwargs)
        return function(*args, **kwargs) if weak else result  # the long way mends what little is known of

    return call


def _comparable(weights: Any) -> tuple[Any, ...]:
    """Return what stands for the values of `weights`; TypeError where there are too many."""
    if type(weights) is list and len(weights) <= _MOST_WEIGHTS:
        # Numbers (rows in it do not hash): 1 and 1 + 0j are equal, and not the same weights.
        return tuple(weights), tuple(map(type, weights))
    if type(weights) is np.ndarray and weights.size <= _MOST_WEIGHTS:
        return weights.shape, weights.dtype, weights.tobytes()
    return (weights,)


def _is_apart(x: Array, output: Array) -> bool:
    """Return whether `output` lies in order, and shares no memory with `x`: cheap where each owns its own."""
    there = output.flags
    if not there.carray:
        return False
    if there.owndata and x.flags.owndata:
        return x is not output
    return not np.may_share_memory(x, output)


def _new(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return new_array(shape, dtype) if dtype.kind == "f" else np.empty(shape, dtype)
