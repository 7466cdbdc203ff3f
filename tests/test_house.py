"""Rules of the house that hold between modules: rooms, circles, tables of names, and what is asked where."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import separable as sp
from separable.arrays import arguments, boundaries, output
from separable.methods import METHODS, NAMES
from separable.methods.method import Runnable

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "separable"
MOST_MODULES = 12  # in a folder

# What may reach the compiled core.
DOORS = (
    *(
        "_base.progress",
        "calibrate",
        "conv.audits.machine",
        "conv.layers.fused",
        "cost.model",
        "filters.core",
    ),
    *("filters.core", "filters.words", "filters.plan", "kernel.passes", "methods."),
)

# One word, two things that never meet: pairs of public classes of both frameworks.
SHARED_NAMES = {"Audit", "Separation", "Layer", "Separability"}

# Modules that no test imports, and the tests that show what they do.
TESTED_BY: dict[str, str] = {}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module's name beneath the package, and its file."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), file


ALL = dict(modules())


def imports(name: str, file: Path) -> set[str]:
    """Return the modules of the package that a file imports, also where it does so late."""
    package = file.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        stem = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            full = ".".join([*stem, alias.name])
            found.add(full if full in ALL else ".".join(stem))
    return {each for each in found if each in ALL and each != name}


def test_a_folder_holds_few_modules() -> None:
    count = Counter(file.parent for _, file in modules() if file.name != "__init__.py")
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in count.items() if n > MOST_MODULES}
    assert not crowded


def test_modules_are_named_for_what_they_hold() -> None:
    assert not [name for name in ALL if re.search("ing$", name)]


def test_no_file_imports_what_imports_it() -> None:
    graph = {name: imports(name, file) for name, file in ALL.items() if name != "__init__"}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_few_modules_reach_the_core() -> None:
    wrong = []
    for name, file in ALL.items():
        text = file.read_text(encoding="utf-8")
        if re.search(r"^\s*from \.+_core import|^\s*from \.+ import _core", text, re.M):
            wrong += [] if name.startswith(DOORS) else [name]
    assert not wrong


def subclasses(kind: type) -> set[str]:
    return {kind.__name__}.union(*(subclasses(each) for each in kind.__subclasses__()))


def test_only_methods_take_their_forms_apart() -> None:
    forms = subclasses(Runnable)
    wrong = []
    for name, file in ALL.items():
        if name.startswith("methods") or name == "filters.pickles":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                asked = set(re.findall(r"\w+", ast.unparse(node.args[1])))
                wrong += [f"{name}:{node.lineno}"] if asked & forms else []
    assert not wrong


def test_names_of_methods_come_from_one_table() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    assert {*typing.get_args(typing.get_args(arguments.Method)[0]), None} == {*NAMES, None}
    listed = re.search(r"method : \{(.*?)\}", sp.Plan.__doc__ or "")
    assert listed
    assert re.findall(r'"(\w+)"', listed[1]) == list(METHODS)
    text = " ".join((sp.Plan.__doc__ or "").split())
    assert all(method.about in text for method in METHODS.values())
    planning = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    assert all(f'`"{name}"`' in planning for name in METHODS)


def test_names_of_modes_and_of_storing_come_from_one_table() -> None:
    assert typing.get_args(boundaries.ModeName) == tuple(boundaries.MODES)
    assert typing.get_args(output.Rounding) == output.ROUNDINGS
    assert typing.get_args(output.Overflow) == output.OVERFLOWS
    assert all(name in (sp.correlate.__doc__ or "") for name in boundaries.MODES)


def test_a_class_name_means_one_thing() -> None:
    homes = defaultdict(list)
    for name, file in ALL.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    assert not {kind: where for kind, where in homes.items() if len(where) > 1 and kind not in SHARED_NAMES}


def test_every_module_is_tested_somewhere() -> None:
    tested: set[str] = set()
    for file in (ROOT / "tests").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("separable"):
                stem = (node.module or "").removeprefix("separable").removeprefix(".")
                tested |= {stem, *(f"{stem}.{alias.name}".removeprefix(".") for alias in node.names)}
    reached = {name for name in ALL if name in tested}
    for name, test in TESTED_BY.items():
        assert (ROOT / "tests" / test).exists(), test
        assert name in ALL, f"{name} is gone"
        assert name not in reached, f"{name} is imported by a test: it needs no line here"
    # What is reached through a package's own names is tested with them.
    wanted = {name for name, file in ALL.items() if file.name != "__init__.py"} - reached - set(TESTED_BY)
    assert not sorted(wanted)


VERBS = (sp.correlate, sp.convolve, sp.gaussian, sp.uniform)


@pytest.mark.parametrize("verb", VERBS[1:])
def test_verbs_share_the_tail_of_their_keywords(verb: Any) -> None:
    first, other = (inspect.signature(each).parameters for each in (VERBS[0], verb))
    shared = [name for name in first if name in other]
    assert [name for name in other if name in shared] == shared
    for name in shared:
        assert (first[name].default, first[name].kind) == (other[name].default, other[name].kind), name
    tail = ["rounding", "overflow", "mask", "nan", "channel_axis"]
    assert [name for name in other if name in tail] == tail
