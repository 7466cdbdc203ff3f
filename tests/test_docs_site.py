"""The site: it builds without warnings and without network, its links lead somewhere, its tutorials run."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TUTORIALS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))
SCRIPTS = [*TUTORIALS, *sorted((ROOT / "examples" / "gallery").glob("*.py"))]  # test_gallery.py runs these
SPHINX = ("sphinx", "myst_parser", "numpydoc", "pydata_sphinx_theme", "sphinx_gallery")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, its tutorials as text only, with warnings as errors."""
    if missing := [package for package in SPHINX if find_spec(package) is None]:
        pytest.skip(
            f"{', '.join(missing)} not installed: pip install 'separable[docs]' (Python 3.11 or newer)"
        )
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-q", "-c", "docs", "-d", str(folder / "trees"), "-D", "plot_gallery=0"]
    # A proxy that nobody serves: what would be fetched fails.
    proxies = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    command = [sys.executable, "-m", "sphinx", *options, ".", str(folder / "html")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | proxies, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_site_builds_and_its_links_lead_somewhere(site: Path) -> None:
    missing = set()
    for page in {*site.rglob("*.html")} - {*(site / "_static").rglob("*.html")}:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]*(?:src|href)="(https?://[^"]+)"', text)
        assert loaded == [], f"{page.relative_to(site)} loads {loaded}"
        for link in re.findall(r'(?:href|src)="([^"#?:]+)[#?"]', text):
            if not (page.parent / unquote(link)).exists():
                missing.add((page.relative_to(site).as_posix(), link))
    assert not missing


def test_places_that_links_name_exist_on_their_pages(site: Path) -> None:
    pages = {
        page.resolve(): page.read_text(encoding="utf-8")
        for page in site.rglob("*.html")
        if "_static" not in page.parts
    }
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    missing = set()
    for page, text in pages.items():
        for target, place in re.findall(r'href="([^"#?:]*)#([^"]+)"', text):
            other = (page.parent / unquote(target)).resolve() if target else page
            if other in places and unquote(unescape(place)) not in places[other]:
                missing.add((page.name, target, place))
    assert not missing


def test_the_site_has_a_page_of_every_page(site: Path) -> None:
    pages = {page.relative_to(ROOT).with_suffix(".html") for page in PAGES}
    pages |= {Path("docs") / script.parent.name / f"{script.stem}.html" for script in SCRIPTS}
    assert [page.as_posix() for page in sorted(pages) if not (site / page).exists()] == []
    assert (site / "index.html").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_notebook_of_a_page_is_its_script(script: Path, site: Path) -> None:
    (path,) = site.rglob(f"{script.stem}.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    told = ast.parse(script.read_text(encoding="utf-8")).body[1:]  # all but the title
    assert ast.dump(ast.parse(code)) == ast.dump(ast.Module(told, type_ignores=[]))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_first_paragraph_says_whom_a_page_is_for(page: Path) -> None:
    title, first, *_ = page.read_text(encoding="utf-8").split("\n\n")
    assert title.startswith("# ")
    assert first.startswith("For "), first


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_drawings_that_are_shown_are_drawn(page: Path) -> None:
    shown = set(re.findall(r"drawings/([\w-]+)-(?:light|dark)\.svg", page.read_text(encoding="utf-8")))
    if shown:
        pytest.importorskip("matplotlib")
        text = (ROOT / "docs" / "drawings" / "__init__.py").read_text(encoding="utf-8")
        assert shown <= set(re.findall(r'^    "([\w-]+)": ', text, flags=re.MULTILINE))


def run(script: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a tutorial from top to bottom, its pictures not shown, and return what it left behind."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    try:
        return runpy.run_path(str(script))
    finally:
        pyplot.close("all")


def test_the_page_of_results_names_all_tables() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"benchmarks/results/([\w-]+)\.md\)", text))
    assert named == {page.stem for page in (ROOT / "benchmarks" / "results").glob("*.md")}


def test_there_are_two_tutorials() -> None:
    assert [script.stem for script in TUTORIALS] == ["filter_images", "shrink_a_network"]


def test_the_tutorial_of_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("PIL.Image", "skimage", "nibabel", "scipy.ndimage"):
        pytest.importorskip(package)
    left = run(TUTORIALS[0], monkeypatch)
    assert left["difference"] < 1e-3  # type: ignore[operator]
    assert left["result"].shape == left["volume"].shape  # type: ignore[attr-defined]


def test_the_tutorial_of_networks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torch", "onnxscript", "skimage"):
        pytest.importorskip(package)
    left = run(TUTORIALS[1], monkeypatch)
    accuracy = left["accuracy"]
    trained, small, by_weights = (accuracy(left[net]) for net in ("net", "small", "by_weights"))  # type: ignore[operator]
    assert trained > 0.85  # of three classes
    assert small > trained - 0.05 > by_weights
    assert left["result"].report.macs_after < 0.21 * left["result"].report.macs_before  # type: ignore[attr-defined]
    assert "fully connected" in capsys.readouterr().out
