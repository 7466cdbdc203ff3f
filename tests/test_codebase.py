"""The house rules that no linter knows: what may import what, what is public, how long a function is."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import separable

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "separable"

# Floors of the house, top to bottom: a module imports only from floors below its own. New modules go here.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"learn"},  # whose exercises take the network of the demo
    {"demo"},
    {"nn"},  # whose networks are timed as ONNX models
    {"onnx"},
    {"engine.peers"},
    {"engine.loader"},
    {"report"},
    {"engine"},
    {"onnx.model"},
    {"napari"},
    {"xarray"},
    {"dask"},
    {"stream"},
    {"files", "ndimage"},
    {"calibrate"},
    {"filters"},
    {"methods"},
    {"conv"},
    {"factor", "families"},
    {"cost"},
    {"arrays"},
    {"kernel"},
    {"_base"},
]
CORE = {"_core"}  # the compiled part
# Parts of a subpackage that have a floor of their own: what reads models lies below what converts them.
APART = {"engine.loader", "engine.peers", "onnx.model"}
DOORS = {"_base", "calibrate", "conv", "cost", "engine", "filters", "kernel", "methods"}  # what reaches it
OPTIONAL = {"kernel": "matplotlib", "methods": "scipy"}  # used where it is installed, imported on first use
NUMPY_ALONE = set().union(*FLOORS[FLOORS.index({"filters"}) :]) | {"__init__"}
FOLDERS = ("src", "tests", "benchmarks", "studies", "examples")  # of Python
LONGEST_FUNCTION = 60  # lines after signature and docstring: fits a screen

# Where documentation, licences and sources may point to. Packages are found by the installer's own settings.
LINKED_HOSTS = {
    "arxiv.org",
    "docs.scipy.org",
    "doi.org",
    "github.com",
    "json.schemastore.org",
    "semver.org",
    "www.w3.org",  # in the name of what SVG is
}


class Import(NamedTuple):
    file: Path
    line: int
    target: str  # dotted absolute name

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def module_of(file: Path) -> str:
    """Name of the top-level module or subpackage that the file belongs to, or of the part that is apart."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if ".".join(parts[:2]) in APART else parts[0]


def module_in(target: str) -> str:
    """Name of the same that an imported module, "separable" and so on, belongs to."""
    parts = target.split(".")[1:]
    return ".".join(parts[:2]) if ".".join(parts[:2]) in APART else parts[0]


def imports_of(file: Path) -> Iterator[Import]:
    package = ("separable", *file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = [*base, *([node.module] if node.module else [])]
            if stem == ["separable"]:  # `from separable import plan`: each name may be a module
                for alias in node.names:
                    yield Import(file, node.lineno, f"separable.{alias.name}")
            else:
                yield Import(file, node.lineno, ".".join(stem))


def floor_of(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if module in floor)


def all_imports() -> list[Import]:
    return [found for file in python_files(PACKAGE) for found in imports_of(file)]


def test_every_module_has_its_place() -> None:
    modules = {module_of(file) for file in python_files(PACKAGE)} - {"__init__"}
    assert modules == set().union(*FLOORS)


def test_no_module_is_a_drawer() -> None:
    names = {file.stem for folder in FOLDERS for file in python_files(ROOT / folder)}
    assert not names & {"util", "utils", "helper", "helpers", "common", "misc", "tools"}


def test_imports_point_downwards() -> None:
    wrong = []
    for found in all_imports():
        here, (top, *rest) = module_of(found.file), found.target.split(".")
        if here == "__init__" or top != "separable":
            continue
        there = module_in(found.target) if rest else "__init__"
        if there in CORE:
            allowed = here in DOORS
        elif there == "__init__" or there.startswith("__"):
            allowed = there == "__version__" or floor_of(here) < floor_of(
                "filters"
            )  # callers use the public facade
        elif there in APART or (PACKAGE / there).exists() or (PACKAGE / f"{there}.py").exists():
            allowed = there == here or floor_of(here) < floor_of(there)
        else:  # a verb or a value type of the facade
            allowed = floor_of(here) < floor_of("filters")
        if not allowed:
            wrong.append(str(found))
    assert not wrong


def test_the_core_package_needs_numpy_alone() -> None:
    allowed = {"numpy", "separable"} | sys.stdlib_module_names
    wrong = [
        str(found)
        for found in all_imports()
        if module_of(found.file) in NUMPY_ALONE
        and found.target.split(".")[0] not in allowed | {OPTIONAL.get(module_of(found.file))}
    ]
    assert not wrong


def test_each_module_exports_what_it_says() -> None:
    for file in python_files(PACKAGE):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
        ]
        if not names or file.name == "__init__.py":
            continue
        public = {
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        }
        assert public <= set(names[0]), file  # their order is the linter's matter


def test_public_names_are_documented() -> None:
    for name in separable.__all__:
        value = getattr(separable, name)
        if callable(value):
            assert value.__doc__, name
            parameters = getattr(value, "__code__", None)
            if parameters is not None and parameters.co_argcount:
                assert "Parameters\n" in value.__doc__, name
                assert "Returns\n" in value.__doc__, name


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return max((node.end_lineno or 0 for node in body), default=0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("folder", ["src", "benchmarks", "studies", "examples"])
def test_functions_fit_a_screen(folder: str) -> None:
    long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {code_lines(node)} lines"
        for file in python_files(ROOT / folder)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and code_lines(node) > LONGEST_FUNCTION
    ]
    assert not long


def generated() -> set[Path]:
    """The folders that building the site fills, perhaps at this moment."""
    listed = ROOT / ".gitignore"
    ignored = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    return {ROOT / line.strip("/") for line in ignored if line.startswith("/docs/")}


def text_files() -> Iterator[tuple[Path, str]]:
    folders = ("src", "cpp", "cmake", "tests", "benchmarks", "studies", "examples", "docs", ".ci")
    inside = [file for folder in folders for file in sorted((ROOT / folder).rglob("*")) if file.is_file()]
    made = generated()
    for file in [*sorted(ROOT.glob("*")), *ROOT.glob(".*"), *inside]:
        if file.is_file() and "__pycache__" not in file.parts and made.isdisjoint(file.parents):
            try:
                yield file, file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_links_lead_to_known_hosts_and_no_installer_is_told_where_to_look() -> None:
    wrong = []
    for file, text in text_files():
        name = file.relative_to(ROOT)
        linking = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # names of namespaces of XML lead nowhere
        hosts = set(re.findall(r"\w+://([\w.-]+\.[a-z]+)", linking)) - LINKED_HOSTS
        wrong += [f"{name}: {host}" for host in sorted(hosts)]
        if file != Path(__file__).resolve():
            wrong += [
                f"{name}: {option}" for option in re.findall(r"index-url|find-links|trusted-host", text)
            ]
    assert not wrong


def requirement_name(requirement: str) -> str:
    return re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9-]+==[\w.]+(; \w+ .+)?", pin)] == []
    assert {requirement_name(item) for item in wanted} - {requirement_name(pin) for pin in pins} == {
        "separable"
    }


def test_the_site_is_built_with_what_its_reference_imports() -> None:
    """A page of the reference that is named as an extra is of a module that needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]

    def brought(extra: str) -> set[str]:
        own = [re.fullmatch(r"separable\[(.*)\]", item) for item in extras[extra]]
        inner = [name for match in own if match for name in match[1].split(",")]
        return {extra}.union(*map(brought, inner))

    pages = {page.stem for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert pages & set(extras) <= brought("docs")


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert separable.__version__ == project["project"]["version"]
