"""The reference: every public name has a page, and an example in its docstring that runs."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from test_docs import Finder

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted({*(ROOT / "docs" / "reference").glob("*.md")} - {ROOT / "docs" / "reference" / "index.md"})
PACKAGES = [
    ".".join(stub.parent.relative_to(ROOT / "src").parts)
    for stub in sorted((ROOT / "src" / "separable").rglob("__init__.pyi"))
]
ELSEWHERE = {"separable.nn.layers"}  # its names are those of separable.nn
MODULES = [
    "separable.conv.cost",
    "separable.nn.functional",
]  # public names themselves, with names of their own


def public_names(package: str) -> list[str]:
    """What a stub lists, or a module's `__all__`, without the modules among them."""
    try:
        home = importlib.import_module(package)
        names = {name: getattr(home, name) for name in home.__all__}
    except ImportError as error:
        pytest.skip(str(error))
    return [name for name, value in names.items() if not isinstance(value, (ModuleType, str))]


def on_pages() -> set[str]:
    """The names in the autosummaries of the reference, each with its package."""
    names = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        module = re.search(r"^\.\. currentmodule:: (\S+)$", text, flags=re.MULTILINE)
        assert module is not None, f"{page.name} names no module"
        names |= {f"{module[1]}.{name}" for name in re.findall(r"^   (\w+)$", text, flags=re.MULTILINE)}
    return names


def named(name: str) -> Any:
    package, _, own = name.rpartition(".")
    return getattr(importlib.import_module(package), own)


@pytest.mark.parametrize("package", [*PACKAGES, *MODULES])
def test_every_public_name_has_an_example_that_runs(package: str) -> None:
    home = importlib.import_module(package)
    missing = []
    for name in public_names(package):
        value = inspect.unwrap(getattr(home, name))
        module = "separable._base.errors" if value.__module__ == "separable" else value.__module__
        examples = Finder().find(importlib.import_module(module))
        own = [found for found in examples if found.name == f"{module}.{value.__name__}"]
        lines = [example for found in own for example in found.examples]
        if "Examples\n" not in (value.__doc__ or "") or not lines:
            missing.append(name)
        missing += [name for example in lines if "+SKIP" in example.source]
    assert not missing


def test_every_public_name_has_a_page_of_the_reference() -> None:
    names = {
        f"{package}.{name}" for package in {*PACKAGES, *MODULES} - ELSEWHERE for name in public_names(package)
    }
    shown = {id(named(name)) for name in on_pages()}  # what two packages share stands on the page of one
    assert sorted(name for name in names - on_pages() if id(named(name)) not in shown) == []
    assert sorted(on_pages() - names) == []
