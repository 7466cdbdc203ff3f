"""Packages whose names are loaded on first use: their stub is the one list of them, with the home of each."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple


class Lazy(NamedTuple):
    """What a package binds as its ``__getattr__``, ``__dir__`` and ``__all__``."""

    getattr: Callable[[str], Any]
    dir: Callable[[], list[str]]
    all: list[str]


def attach(
    package: str,
    file: str,
    loading: Callable[[], AbstractContextManager[object]] = nullcontext,
    hint: Callable[[str, list[str]], str] = lambda name, names: "",
) -> Lazy:
    """Return what a package needs to load its names on first use.

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
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = _homes(stub)
    own = [ast.unparse(node.target) for node in stub.body if isinstance(node, ast.AnnAssign)]
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


def _homes(stub: ast.Module) -> dict[str, str]:
    """Return the module of each name of a stub; of submodules, which are their own, an empty one."""
    return {
        alias.name: node.module or ""
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
