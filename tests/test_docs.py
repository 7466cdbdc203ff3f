"""The documentation is run: every Python example in README, docs and docstrings, commands, links."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import separable
import separable.filters.verbs

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[int, str, list[str]]]:
    """Return (first line, text, packages it needs) of each fenced block in the language.

    Examples beside packages that are not among those of the tests say so: "```python needs=keras".
    """
    text = page.read_text(encoding="utf-8")
    fence = rf"^```{language}(?: needs=([\w,]+))?\n(.*?)^```$"
    return [
        (
            text.count("\n", 0, block.start(2)) + 1,
            block.group(2),
            (block.group(1) or "").split(",") if block.group(1) else [],
        )
        for block in re.finditer(fence, text, flags=re.MULTILINE | re.DOTALL)
    ]


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pages_with_examples() -> list[Any]:
    """Pages with Python; warnings are no errors where packages run that are not among those of the tests."""
    other = pytest.mark.filterwarnings("default")
    needs = {page: [need for _, _, need in blocks(page, "python")] for page in PAGES}
    return [
        pytest.param(page, id=name(page), marks=[other] if any(needs[page]) else [])
        for page in PAGES
        if needs[page]
    ]


@pytest.mark.parametrize("page", pages_with_examples())
def test_python_examples(page: Path) -> None:
    shared: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    report: list[str] = []
    missing = set()
    for line, text, needs in blocks(page, "python"):
        example = doctest.DocTestParser().get_doctest(text, shared, name(page), name(page), line - 1)
        assert example.examples, f"{name(page)}:{line} is Python that shows no result"
        if absent := {package for package in needs if not is_installed(package)}:
            missing |= absent
            continue
        runner.run(example, out=report.append, clear_globs=False)
        shared = example.globs
    assert not report, "".join(report)
    if missing and not runner.tries:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    assert runner.tries > 0


def modules() -> list[str]:
    """The modules with examples in their docstrings, wherever they lie."""
    package = ROOT / "src" / "separable"
    with_examples = [file for file in package.rglob("*.py") if ">>> " in file.read_text(encoding="utf-8")]
    names = [file.relative_to(package).with_suffix("").parts for file in with_examples]
    return sorted(".".join(("separable", *parts)).removesuffix(".__init__") for parts in names)


class Finder(doctest.DocTestFinder):
    """Finds the examples of decorated functions too, and of errors that are shown as the package's own."""

    def _from_module(self, module: ModuleType | None, object: object) -> bool:
        inner = inspect.unwrap(object)  # type: ignore[arg-type]
        if module is not None and getattr(inner, "__module__", "") == separable.__name__:
            return f"class {inner.__name__}" in inspect.getsource(module)  # type: ignore[attr-defined]
        return super()._from_module(module, inner)  # type: ignore[no-any-return, misc]


def test_examples_of_decorated_functions_are_found() -> None:
    found = {example.name for example in Finder().find(separable.filters.verbs) if example.examples}
    assert {
        f"separable.filters.verbs.{verb}" for verb in ("correlate", "convolve", "gaussian", "uniform")
    } <= found


@pytest.mark.parametrize("module", modules())
def test_docstring_examples(module: str) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    for example in Finder().find(importlib.import_module(module)):
        runner.run(example, out=report.append)
    assert runner.tries > 0
    assert not report, "".join(report)


def command_lines() -> list[str]:
    lines = [line for page in PAGES for _, text, _ in blocks(page, "sh") for line in text.splitlines()]
    return sorted({line.partition("#")[0].strip() for line in lines if line.startswith("separable ")})


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with the files that the documentation names."""
    nibabel = pytest.importorskip("nibabel")
    image = pytest.importorskip("PIL.Image")
    onnx = pytest.importorskip("onnx")
    import onnx_models

    onnx.save(onnx_models.vgg(width=16), tmp_path / "model.onnx")
    samples = np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", image=samples)
    (tmp_path / "photos").mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    for number, colour in enumerate(colours):
        image.fromarray(colour).save(tmp_path / "photos" / f"{number}.png")
    image.fromarray(np.arange(240, dtype=np.uint8).reshape(12, 20)).save(tmp_path / "photo.png")
    volume = nibabel.Nifti1Image(np.ones((6, 7, 8), np.float32), np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(volume, tmp_path / "brain.nii.gz")
    np.save(tmp_path / "x.npy", samples[:2])
    np.save(tmp_path / "scan.npy", samples[:, 0] * 1000)
    image.fromarray(colours[0, ..., 0]).save(
        tmp_path / "stack.tif", save_all=True, append_images=[image.fromarray(c) for c in colours[1:, ..., 0]]
    )
    np.save(tmp_path / "kernel.npy", np.multiply.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]))
    return tmp_path


@pytest.mark.parametrize("line", command_lines())
def test_command_lines(line: str, inputs: Path, command) -> None:
    assert Path.cwd() == inputs
    done = command(shlex.split(line)[1:])
    assert done.code == 0, done.err
    assert done.out.strip()


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    real = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    prose = {
        target
        for page in PAGES
        for target in re.findall(r"`make ([a-z]+)\b", page.read_text(encoding="utf-8"))
    }
    typed = {
        line.split()[1]
        for page in PAGES
        for _, text, _ in blocks(page, "sh")
        for line in text.splitlines()
        if line[:5] == "make "
    }
    assert {"demo", "test"} <= typed
    assert (prose | typed) - real == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    hint = "; `make bench` writes RESULTS.md, and it belongs into the repository"
    assert not missing, f"{name(page)} links to {missing}{hint if 'RESULTS.md' in str(missing) else ''}"


def test_the_operations_of_the_engine_are_all_on_its_page() -> None:
    pytest.importorskip("onnx")
    from separable.engine.program.lower import NATIVE
    from separable.engine.program.native_forms import FORMS

    page = (ROOT / "docs" / "networks" / "engine.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([A-Z]\w+)`", page))
    assert {*NATIVE, *FORMS} - told == set()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^make ([\w-]+)", shown, flags=re.MULTILINE)) == set(phony) - {"help"}


def test_what_the_readme_says_of_networks_is_what_was_measured() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    told = re.search(
        r"\| network, batch 1.*?\n\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert told
    rows = [[cell.strip(" *") for cell in row.split("|")[1:-1]] for row in told[0].strip().splitlines()[2:]]
    compared = [row for row in rows if "bfloat16" not in row[0]]  # that peer stands in the long tables
    assert len(compared) == len(rows) - 1
    for name, *ratios in compared:
        network = re.split(r" \(|,", name)[0]
        line = next(line for line in results.splitlines() if re.match(rf"\| \[`engine-.*\) {network},", line))
        assert re.findall(r"([\d.]+)x", line)[:2] == ratios, name
