"""The rules of the compiled core's source: rooms, what may include what, how long a line is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPP = ROOT / "cpp"

# What each room may include besides itself. `bind` joins the core to Python, and may include all.
ROOMS: dict[str, set[str]] = {
    "base": set(),
    "io": {"base"},
    "filters": {"base", "io"},
    "layers": {"base"},
    "engine": {"base", "layers"},
    "bind": {"base", "io", "filters", "layers", "engine"},
}
MOST_MODULES = 12  # in a folder; a header and its source are one
COLUMNS = 120


def sources() -> list[Path]:
    return sorted([*CPP.rglob("*.cpp"), *CPP.rglob("*.h")])


def included(file: Path) -> list[Path]:
    names = re.findall(r'^#include "(.*)"', file.read_text(encoding="utf-8"), re.MULTILINE)
    written = {f"base/{template.stem}" for template in (ROOT / "cmake").glob("*.h.in")}  # by CMake
    return [CPP / name for name in names if name not in written]


def reached(file: Path) -> Iterator[Path]:
    """Yield all headers that `file` includes, directly or by way of others."""
    seen, todo = set(), [file]
    while todo:
        for header in included(todo.pop()):
            if header not in seen:
                seen.add(header)
                todo.append(header)
                yield header


def room_of(file: Path) -> str:
    return file.relative_to(CPP).parts[0]


def listed(name: str) -> set[Path]:
    """Return the files in one of the lists of CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return {ROOT / path for path in re.findall(r"cpp/\S+\.cpp", re.search(rf"set\({name}([^)]*)\)", text)[1])}


def test_every_source_is_compiled_once_or_once_for_each_instruction_set():
    kernels, drivers = listed("SEP_KERNELS"), listed("SEP_SOURCES")
    assert not kernels & drivers
    assert kernels | drivers == set(CPP.rglob("*.cpp"))
    assert set(CPP.rglob("kernels/*.cpp")) <= kernels
    target = re.compile(r"\bSEP_OF_TARGET\b")
    assert kernels == {file for file in CPP.rglob("*.cpp") if target.search(file.read_text(encoding="utf-8"))}


def test_kernels_include_no_driver():
    """What is compiled for AVX-512 must not hold code of the rest: their linker may choose either copy."""
    kernels, drivers = listed("SEP_KERNELS"), listed("SEP_SOURCES")
    for unit in kernels:
        headers = list(reached(unit))
        assert headers, unit
        for header in headers:
            assert header.with_suffix(".cpp") not in drivers, f"{unit} includes {header}"
            places = (unit.parent, CPP / "layers" / "kernels", CPP / "base", CPP / "io")
            assert header.parent in places, f"{unit} includes {header}"


def test_rooms_include_only_those_below_them():
    assert {path.name for path in CPP.iterdir() if path.is_dir()} == set(ROOMS)
    for file in sources():
        for header in included(file):
            assert header.exists(), f"{file} includes {header}"
            assert room_of(header) in ROOMS[room_of(file)] | {room_of(file)}, f"{file} includes {header}"


def test_no_header_includes_itself_by_way_of_others():
    assert [file for file in CPP.rglob("*.h") if file in reached(file)] == []


def test_a_folder_holds_few_modules():
    for folder in (CPP, *(path for path in CPP.rglob("*") if path.is_dir())):
        modules = {file.stem for file in folder.iterdir() if file.suffix in (".h", ".cpp")}
        assert len(modules) <= MOST_MODULES, folder


def test_lines_fit_the_columns():
    long = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in sources()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert long == []
    assert f"ColumnLimit: {COLUMNS}" in (ROOT / ".clang-format").read_text(encoding="utf-8")
