"""Decorators of public functions: arrays of other libraries, hints for keywords, readable signatures."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .._base.foreign import through
from .._base.words.messages import meant_keyword
from .arguments import Mode
from .boundaries import ModeName

P = ParamSpec("P")
T = TypeVar("T")

# Names of type aliases that `help` shows as the choices they stand for.
_ALIASES = ("Mode", "Method", "Rounding", "Overflow", "Nan", "Origin", "Axes")


def verb(function: Callable[P, T]) -> Callable[P, T]:
    """Let a filter of ndarrays take other libraries' arrays as first argument `x` and as keyword `output`.

    For plain ndarrays it adds only a check of types. Unknown keywords raise with the closest known one.
    """
    filtered: Callable[..., Any] = function

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if type(x) is np.ndarray:
                if "output" not in kwargs:
                    return filtered(x, *args, **kwargs)
                output = kwargs["output"]
                if type(output) is np.ndarray or isinstance(output, np.dtype):
                    return filtered(x, *args, **kwargs)
            output = kwargs.pop("output", None)
            return through(lambda source, into: filtered(source, *args, output=into, **kwargs), x, output)
        except TypeError as error:
            raise_for_keywords(function, kwargs, error)
            raise

    return functools.wraps(function)(readable(call, function))  # type: ignore[return-value]


def hinting(function: Callable[P, T]) -> Callable[P, T]:
    """Let unknown keywords of a function raise with the closest known one."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            raise_for_keywords(function, kwargs, error)
            raise

    return functools.wraps(function)(readable(call, function))


def raise_for_keywords(function: Callable[..., Any], given: dict[str, Any], error: TypeError) -> None:
    """Raise TypeError for an unknown keyword in `given`, if there is one: the cause of `error`."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            hint = meant_keyword(name, parameters)
            raise TypeError(f"{function.__name__}() has no keyword `{name}`.{hint}") from error


def readable(call: T, function: Callable[..., Any]) -> T:
    """Return `call` with the signature of `function`, aliases replaced by the choices they stand for."""
    signature = inspect.signature(function)
    space: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    shown = [
        parameter.replace(annotation=_spelled(parameter.name, parameter.annotation, space))
        for parameter in signature.parameters.values()
    ]
    call.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return call


def _spelled(name: str, annotation: Any, space: dict[str, Any]) -> Any:
    """Return the type behind one of `_ALIASES`; other annotations unchanged."""
    if not isinstance(annotation, str):
        return annotation
    if name == "mode" and annotation in ("str", "Any"):  # SciPy's functions take one name, or any sequence
        return ModeName if annotation == "str" else Mode
    holder, _, alias = annotation.rpartition(".")
    if alias not in _ALIASES:
        return annotation
    return getattr(space[holder], alias) if holder else space[alias]
