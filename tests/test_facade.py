"""The public face: lazy, complete, and never shadowed by a submodule of the same name."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import separable as sp


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_is_sorted_and_is_what_dir_shows():
    assert sorted(sp.__all__) == sp.__all__
    assert dir(sp) == sp.__all__


@pytest.mark.parametrize("name", sp.__all__)
def test_every_public_name_loads(name):
    assert getattr(sp, name) is not None


def test_old_names_of_values_stay():
    assert sp.KernelError is sp.ErrorBounds


@pytest.mark.parametrize(
    "package",
    [sp, sp.nn, importlib.import_module("separable.nn.layers"), sp.onnx, sp.conv, sp.families, sp.ndimage],
)
def test_type_checkers_read_the_list_that_names_are_loaded_from(package):
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    seen = [(alias.name, node.module) for node in stub.body if hasattr(node, "names") for alias in node.names]
    assert sorted({name for name, _ in seen} | set(package.__all__)) == package.__all__
    assert len(seen) == len({name for name, _ in seen})
    for name, home in seen:
        loaded = importlib.import_module(f"{package.__name__}.{home or name}")
        assert getattr(package, name) is (getattr(loaded, name) if home else loaded)


@pytest.mark.parametrize(
    "statement",
    [
        "import separable.plan, separable.factor",
        "from separable.plan import Plan; from separable.factor import factor",
        "from separable import filters",
        "from separable import plan, factor",
        "import importlib as i; i.import_module('separable.plan'); i.import_module('separable.factor')",
    ],
)
def test_a_verb_is_never_replaced_by_its_submodule(statement):
    code = f"{statement}\nimport separable as sp, types\n" + (
        "assert isinstance(sp.plan, types.FunctionType), sp.plan\n"
        "assert isinstance(sp.factor, types.FunctionType), sp.factor\n"
        "from separable.plan import plan, Plan\n"
        "assert sp.plan is plan and sp.Plan is Plan\n"
    )
    run_python(code)


def test_families_is_a_submodule():
    assert sp.families is sys.modules["separable.families"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'separable' has no attribute 'corelate'"):
        sp.corelate  # noqa: B018
