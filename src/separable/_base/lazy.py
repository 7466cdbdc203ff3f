"""Packages whose names are loaded on first use: their stub is the one list of them, with the home of each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple


class Lazy(NamedTuple):
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package."""

    getattr: Callable[[str], Any]
    dir: Callable[[], list[str]]
    all: list[str]


def attach(
    package: str,
    file: str,
    loading: Callable[[], AbstractContextManager[object]] = nullcontext,
    hint: Callable[[str, list[str]], str] = lambda name, names: "",
) -> Lazy:
    """Return the bindings by which a package loads its names on first use.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    file : str
        Its ``__file__``. Beside it lies the stub ``__init__.pyi``, which type checkers read as well: lines
        ``from .home import name as name``, and ``from . import submodule as submodule``. What it annotates
        is the package's own.
    loading : callable, optional
        Returns the context in which a name is loaded, which may explain what is missing.
    hint : callable, optional
        Given a name that does not exist, and all that do, returns the end of the message.

    Returns
    -------
    Lazy
    """
    homes, own = _read(f"{file.removesuffix('.py')}.pyi")
    names = sorted([*homes, *own])

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint(name, names)}")
        home = homes[name]
        with loading():
            if home:
                value = getattr(importlib.import_module(f"{package}.{home}"), name)
            else:
                value = importlib.import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return Lazy(load, lambda: names, names)


def _read(stub: str) -> tuple[dict[str, str], list[str]]:
    """Return the module of each name of a stub ("": it is a submodule), and the names that it annotates."""
    homes, own = {}, []
    with open(stub, encoding="utf-8") as lines:  # a parser takes longer to import than all of this
        for line in lines:
            words = line.split()
            if words[:1] == ["from"]:
                homes[words[3]] = words[1].removeprefix(".")
            elif words and words[0].endswith(":"):
                own.append(words[0][:-1])
    return homes, own
