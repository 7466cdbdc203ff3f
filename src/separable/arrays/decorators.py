"""What stands in front of public functions: other libraries' arrays and keywords, and signatures to read."""

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

# Aliases of types in signatures, by name: where `help` should show the choices, not the alias.
_ALIASES = ("Mode", "Method", "Rounding", "Overflow", "Nan", "Origin", "Axes")


def verb(function: Callable[P, T]) -> Callable[P, T]:
    """Let a filter of ndarrays take other arrays too, as its first argument `x` and as its keyword `output`.

    What it does more for plain ndarrays is a look at their types. Keywords that it does not have are answered
    with the one that was meant.
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
    """Answer keywords that a function does not have with the one that was meant."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            raise_for_keywords(function, kwargs, error)
            raise

    return functools.wraps(function)(readable(call, function))


def raise_for_keywords(function: Callable[..., Any], given: dict[str, Any], error: TypeError) -> None:
    """Raise for a keyword that `function` does not have, if one was `given`: `error` came of it."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            hint = meant_keyword(name, parameters)
            raise TypeError(f"{function.__name__}() has no keyword `{name}`.{hint}") from error


def readable(call: T, function: Callable[..., Any]) -> T:
    """Give `call` the signature of `function`, with the choices of its arguments in place of aliases."""
    signature = inspect.signature(function)
    space: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    shown = [
        parameter.replace(annotation=_spelled(parameter.name, parameter.annotation, space))
        for parameter in signature.parameters.values()
    ]
    call.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return call


def _spelled(name: str, annotation: Any, space: dict[str, Any]) -> Any:
    """Return the type that an alias of ours stands for; other annotations as they are written."""
    if not isinstance(annotation, str):
        return annotation
    if name == "mode" and annotation in ("str", "Any"):  # SciPy's functions take one name, or any sequence
        return ModeName if annotation == "str" else Mode
    holder, _, alias = annotation.rpartition(".")
    if alias not in _ALIASES:
        return annotation
    return getattr(space[holder], alias) if holder else space[alias]
