"""The public face: lazy, complete, and never shadowed by a submodule of the same name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import separable as sp

SOURCE = Path(sp.__file__)


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


def test_type_checkers_see_the_same_names():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for name, _ in seen} | {"__version__"} == set(sp.__all__)
    assert seen == {(name, home) for name, home in sp._HOMES.items()}


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
