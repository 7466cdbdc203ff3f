"""The floors inside the rooms of layers, models and reports: what may import what, and what is named once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from separable.conv.forms.table import FORMS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "separable"
ROOMS = ("conv", "nn", "onnx", "report", "engine")

# Top to bottom; a module imports from its own part and from those on floors below it.
FLOORS = {
    "conv": [
        {"audits"},
        {"frontiers"},
        {"layers", "conversion"},
        {"scores"},
        {"forms"},
        {"cost"},
        {"algebra"},
    ],
    # An audit predicts what a conversion keeps.
    "nn": [
        {"audits", "frontiers"},
        {"conversion"},
        {"programs"},
        {"model", "functional", "loaders"},
        {"layers"},
    ],
    "onnx": [{"audits", "frontiers"}, {"conversion"}, {"costs"}, {"model"}],
    "engine": [
        {"peers"},
        {"loader"},
        {"precision"},
        {"network", "times"},
        {"program"},
        {"passes"},
        {"graph"},
        {"recorded"},
    ],
    # Records lie below, in conv. `audits` and `conversions` are what users print and save.
    "report": [
        {"audits", "benches", "conversions", "frontiers", "programs"},
        {"paged"},
        {"pages", "pictures"},
        {"text"},
        {"values", "progress"},
    ],
}
DUTIES = (
    "separate",
    "trace",
    "rewrite",
    "network",
    "calibration",
    "count",
    "frontier",
)  # nn and onnx name them alike
PUBLIC_PAIRS = {"FrontierPoint", "Separation"}  # of classes that a user finds under one name in both packages
ELSEWHERE = {"Choice", "Cost", "Machine", "Program"}  # public names of conv and engine


def modules() -> dict[str, Path]:
    """Return each module of the package by its dotted name; a package is its ``__init__``."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        *folders, stem = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(("separable", *folders, *(() if stem == "__init__" else (stem,))))] = file
    return found


MODULES = modules()


def lazy_homes(package: str) -> dict[str, str]:
    """Return where a package loads its names from, on first use: its stub says it."""
    stub = MODULES[package].with_suffix(".pyi")
    if MODULES[package].name != "__init__.py" or not stub.exists():
        return {}
    return {
        alias.name: f"{package}.{node.module or alias.name}"
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def imports_of(module: str) -> Iterator[str]:
    """Yield the modules that a module imports anywhere, in a function or for its types as well."""
    file = MODULES[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join([*base, *filter(None, [node.module])])
        for alias in node.names if stem in MODULES else ():
            own = f"{stem}.{alias.name}"
            yield own if own in MODULES else lazy_homes(stem).get(alias.name, stem)


GRAPH = {module: sorted(set(imports_of(module)) - {module}) for module in MODULES}


def in_rooms() -> list[str]:
    return [module for module in MODULES if module.split(".")[1:2] and module.split(".")[1] in ROOMS]


@pytest.mark.parametrize("room", ROOMS)
def test_every_part_of_a_room_has_its_floor(room: str) -> None:
    inside = {path.stem for path in (PACKAGE / room).iterdir() if path.suffix == ".py" or path.is_dir()}
    assert inside - {"__init__", "__pycache__"} == set().union(*FLOORS[room])


@pytest.mark.parametrize("room", ROOMS)
def test_imports_inside_a_room_point_downwards(room: str) -> None:
    level = {part: number for number, floor in enumerate(FLOORS[room]) for part in floor}
    wrong = []
    for module in in_rooms():
        _, own, *rest = module.split(".")
        if own != room or not rest:
            continue
        for target in GRAPH[module]:
            there = target.split(".")[1:]
            if there[:1] != [room] or not there[1:] or there[1] == rest[0]:
                continue
            if level[rest[0]] >= level[there[1]]:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_circle_between_files() -> None:
    """Imports on first use and for types count: who reads one file need not read the other first."""
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            raise AssertionError(" -> ".join([*path[path.index(module) :], module]))
        if module not in done:
            for target in GRAPH[module]:
                walk(target, (*path, module))
            done.add(module)

    for module in in_rooms():
        walk(module, ())


def test_both_frameworks_name_the_same_duties_alike() -> None:
    for duty in DUTIES:
        folders = {
            room: {file.parent.name for file in (PACKAGE / room).rglob(f"{duty}.py")}
            for room in ("nn", "onnx")
        }
        assert folders["nn"] == folders["onnx"] != set(), duty


def test_at_most_twelve_modules_in_a_folder_and_none_named_for_doing() -> None:
    for room in ROOMS:
        for folder in [PACKAGE / room, *(path for path in (PACKAGE / room).rglob("*") if path.is_dir())]:
            names = {file.stem for file in folder.glob("*.py")} - {"__init__"}
            assert len(names) <= 12, folder
            assert not [name for name in names if name.endswith("ing")], folder


def test_class_names_are_unique() -> None:
    homes: dict[str, list[str]] = {}
    for module, file in MODULES.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(module)
    rooms = set(in_rooms())
    twice = {name: places for name, places in homes.items() if len(places) > 1 and rooms.intersection(places)}
    inside = {name for name, places in twice.items() if len(rooms.intersection(places)) > 1}
    assert inside <= PUBLIC_PAIRS
    assert set(twice) - inside <= ELSEWHERE, {name: twice[name] for name in set(twice) - inside - ELSEWHERE}


def test_forms_are_told_apart_in_their_own_room_alone() -> None:
    """Outside of it a form is asked, or looked up in the table: no comparison with the name of one.

    Nor with that of an order, which answers one question: `depthwise_first`.
    """
    wrong = []
    for module in [*in_rooms(), *(each for each in MODULES if each.startswith("separable.cli"))]:
        if module.startswith("separable.conv.forms"):
            continue
        for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Compare, ast.MatchValue)):
                words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                if words & set(FORMS):
                    wrong.append(f"{module}:{node.lineno} {ast.unparse(node)}")
    assert not wrong
