"""A cache of jobs by the arguments of calls: on small arrays checking them takes longer than filtering."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, Final, ParamSpec, TypeAlias

import numpy as np

from .._base.caches import budget, size_of
from .._base.foreign import output_of
from .._base.types import Array
from ..arrays.decorators import raise_for_keywords, readable
from ..filters.core import Told, WatchedRun, new_array, watching
from ..methods.method import Job
from ._arguments import is_plain, types_of

P = ParamSpec("P")

# Maximum kinds of calls kept per function, the most recent.
_MOST: Final = 256

# Types of `output` other than arrays.
_NAMES: Final = (type, np.dtype, str)

# Maximum weights in a key: comparing larger ones takes longer than it saves.
_MOST_WEIGHTS: Final = 1024

# Places or names of tuples among the arguments, and the types of their entries.
Tuples: TypeAlias = tuple[tuple[Any, tuple[type, ...]], ...]


class _Kind:
    """The compiled job of calls of one kind, its storing arguments, and the dtype of the result."""

    __slots__ = ("dtype", "job", "seen", "size", "telling", "threads", "told", "tuples")

    def __init__(self, size: int) -> None:
        self.size = size  # bytes of the key and of this object
        self.seen = False
        self.job: Job | None = None  # None: such calls are not shortcut
        self.threads = 1
        self.told: Told = ()
        self.telling: Callable[[Array], Told] | None = None
        self.dtype: np.dtype[Any] = np.dtype(np.float64)
        self.tuples: Tuples = ()

    def keep(self, runs: list[WatchedRun], x: Array, result: Array, tuples: Tuples | None) -> None:
        """Store the run, if it was one job from `x` to `result` and all other arguments may be in a key."""
        self.tuples = tuples or ()
        if tuples is not None and len(runs) == 1 and runs[0].source is x and runs[0].result is result:
            self.told, self.telling, self.dtype = runs[0].told, runs[0].telling, result.dtype
            self.threads, self.job = runs[0].threads, runs[0].job
        self.seen = True  # set last: other threads read the rest once it is
        budget.count_shortcut(self.size)


def repeated(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let calls with arguments seen before run the same job directly.

    A job is kept if it was the only one, from the input itself into the array returned. Calls are of one kind
    if everything that the job depends on is equal: shape and dtype of the input, dtype of an output array,
    weights by value, all other arguments with their types. Calls with arguments that do not hash are not
    shortcut, nor those that the core refuses: memory that is not aligned, an output of another shape.

    Parameters
    ----------
    function : callable
        Takes the input first, and weights second if any; does not change the result after the filter.
    """
    names = list(inspect.signature(function).parameters)
    third, weighted = names.index("output"), names[1] == "weights"
    through = outward(function)

    # `lru_cache` builds the key, with the types, in C: two fifths of the time of doing so in Python.
    @functools.lru_cache(maxsize=_MOST, typed=True)
    def kind_of(
        shape: tuple[int, ...], dtype: Hashable, wanted: Hashable, /, *rest: Hashable, **more: Hashable
    ) -> _Kind:
        return _Kind(size_of(shape, rest, more))

    budget.add_shortcut(kind_of.cache_clear)

    def call(*args: P.args, **kwargs: P.kwargs) -> Array:
        if not args or type(args[0]) is not np.ndarray:
            return through(*args, **kwargs)
        x: Array = args[0]
        output: Any
        if len(args) > third:
            output, rest, more = args[third], args[1:third] + args[third + 1 :], kwargs
        else:
            more = kwargs.copy()  # type: ignore[assignment]
            output, rest = more.pop("output", None), args[1:]
        into_array = type(output) is np.ndarray
        if not (into_array or output is None or isinstance(output, _NAMES)) or more.get("mask") is not None:
            return through(*args, **kwargs)  # arrays hash by identity, not by value
        taps = 0  # number of leading entries that represent the weights
        try:
            if weighted and rest:
                key = _comparable(rest[0])
                rest, taps = key + rest[1:], len(key)
            kind = kind_of(x.shape, x.dtype, (output.dtype,) if into_array else output, *rest, **more)  # type: ignore[arg-type]
        except TypeError:  # an argument does not hash
            return through(*args, **kwargs)
        if not kind.seen:
            with watching() as runs:
                result = through(*args, **kwargs)
            kind.keep(runs, x, result, _tuples(rest[taps:], more))
            return result
        if kind.job is None or not (_is_apart(x, output) if into_array else x.flags.c_contiguous):
            return through(*args, **kwargs)
        for place, types in kind.tuples:
            values: Any = more[place] if type(place) is str else rest[taps + place]
            if tuple(map(type, values)) != types:
                return through(*args, **kwargs)
        result = output if into_array else _new(x.shape, kind.dtype)
        try:
            told = kind.told if kind.telling is None else kind.telling(x)
            weak = kind.job.run(x, result, kind.threads, *told)
        except TypeError:  # raised before anything is written
            return through(*args, **kwargs)
        return through(*args, **kwargs) if weak else result  # the verb computes weak results again

    return functools.wraps(function)(readable(call, function))


def outward(function: Callable[P, Array]) -> Callable[P, Array]:
    """Let a function return `output` itself where it wrote into the memory of another library's array.

    Keywords that the function does not have are answered with the one that was meant.

    Parameters
    ----------
    function : callable
        Has a parameter `output`, and returns the ndarray that it gets there.
    """
    third = list(inspect.signature(function).parameters).index("output")

    def call(*args: P.args, **kwargs: P.kwargs) -> Array:
        output: Any = args[third] if len(args) > third else kwargs.get("output")
        try:
            if output is None or isinstance(output, (np.ndarray, *_NAMES)):
                return function(*args, **kwargs)
            memory = output_of(output)
            if len(args) > third:
                args = (*args[:third], memory, *args[third + 1 :])  # type: ignore[assignment]
            else:
                kwargs["output"] = memory
            result = function(*args, **kwargs)
        except TypeError as error:
            raise_for_keywords(function, kwargs, error)
            raise
        return output if result is memory else result

    return functools.wraps(function)(readable(call, function))


def _comparable(weights: Any) -> tuple[Any, ...]:
    """Return a hashable key of the values of `weights`; TypeError where there are too many."""
    if type(weights) in (list, tuple) and len(weights) <= _MOST_WEIGHTS:
        # Numbers (rows in it do not hash): 1 and 1 + 0j are equal, and not the same weights.
        types = types_of(tuple(weights))
        if types is not None:
            return tuple(weights), types
    if type(weights) is np.ndarray and weights.size <= _MOST_WEIGHTS:
        return weights.shape, weights.dtype, weights.tobytes()
    raise TypeError("these weights are not compared")


def _tuples(rest: tuple[Any, ...], more: Any) -> Tuples | None:
    """Return the tuples among the arguments; None if one may not be in a key."""
    tuples = []
    for place, value in (*enumerate(rest), *more.items()):
        if type(value) is tuple:
            types = types_of(value)
            if types is None:
                return None
            tuples.append((place, types))
        elif not is_plain(value):
            return None
    return tuple(tuples)


def _is_apart(x: Array, output: Array) -> bool:
    """Return whether `output` is contiguous and shares no memory with `x`: cheap where both own theirs."""
    flags = output.flags
    if not flags.carray:
        return False
    if flags.owndata and x.flags.owndata:
        return x is not output
    return not np.may_share_memory(x, output)


def _new(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return new_array(shape, dtype) if dtype.kind == "f" else np.empty(shape, dtype)
