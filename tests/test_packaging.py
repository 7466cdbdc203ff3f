"""What stands outside of pyproject.toml says the same: conda's recipe, the citation, the workflow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import separable as sp

if sys.version_info < (3, 11):
    pytest.skip("reads pyproject.toml by the standard library", allow_module_level=True)

import tomllib

yaml = pytest.importorskip("yaml")
jinja2 = pytest.importorskip("jinja2")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "pyproject.toml").exists():
    pytest.skip("not a checkout", allow_module_level=True)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA_NAMES = {"pytorch": "torch"}  # conda's name -> the one of pyproject.toml


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _floors(requirements: list[str]) -> dict[str, str]:
    """Return name -> oldest version."""
    split = [re.fullmatch(r"([\w-]+)(?:\[.*\])? ?(?:>=([\w.]+))?(?:;.*)?", item) for item in requirements]
    return {CONDA_NAMES.get(match[1], match[1]): match[2] for match in split if match}


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """Return the recipe as it is rendered; a name that no renderer knows is an error."""
    text = _read("conda/recipe.yaml")
    rendering = jinja2.Environment(
        variable_start_string="${{", variable_end_string="}}", undefined=jinja2.StrictUndefined
    )
    known = {"compiler": "{}_compiler".format, "stdlib": "{}_stdlib".format, "PYTHON": "python"}
    return yaml.safe_load(rendering.from_string(text).render(**yaml.safe_load(text)["context"], **known))


def test_the_recipe_is_of_this_version(recipe: dict[str, Any]) -> None:
    assert recipe["package"] == {"name": "separable", "version": sp.__version__}
    assert (ROOT / "conda" / recipe["source"]["path"]).resolve() == ROOT
    about, project = recipe["about"], PROJECT["project"]
    assert about["summary"] == project["description"]
    assert about["license"] == project["license"]
    assert (ROOT / about["license_file"]).exists()


def test_the_recipe_asks_for_what_the_project_asks_for(recipe: dict[str, Any]) -> None:
    wanted = recipe["requirements"]
    assert "cxx_compiler" in wanted["build"]
    python = {"python": PROJECT["project"]["requires-python"].removeprefix(">=")}
    assert _floors(wanted["run"]) == {**_floors(PROJECT["project"]["dependencies"]), **python}
    assert {name: floor for name, floor in _floors(wanted["host"]).items() if floor} == _floors(
        PROJECT["build-system"]["requires"]
    )
    extras = PROJECT["project"]["optional-dependencies"]
    optional = _floors([item for extra in extras.values() for item in extra])
    bounds = _floors(wanted["run_constraints"])
    assert len(bounds) == len(wanted["run_constraints"])
    assert bounds == {name: optional[name] for name in bounds}


def test_the_oldest_cmake_is_told_once(recipe: dict[str, Any]) -> None:
    oldest = re.search(r"cmake_minimum_required\(VERSION ([\d.]+)\)", _read("CMakeLists.txt"))
    assert oldest
    assert _floors(recipe["requirements"]["build"])["cmake"] == oldest[1]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(_read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == sp.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["authors"] == PROJECT["project"]["authors"]


def test_one_wheel_with_the_stable_abi() -> None:
    """Python 3.12 builds it; cibuildwheel tests it in each later one that the project says it supports."""
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == "cp312"
    built = PROJECT["tool"]["cibuildwheel"]["build"].split()
    said = [item.rpartition(" ")[2] for item in PROJECT["project"]["classifiers"] if "Python :: 3." in item]
    assert built == [f"cp{version.replace('.', '')}-*" for version in said]


def test_the_workflow_runs_what_exists_and_holds_no_secret() -> None:
    text = _read(".github/workflows/publish.yml")
    jobs = yaml.safe_load(text)["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(step.get("uses", "actions/").startswith("actions/") for step in steps)
    targets = set(re.findall(r"^([a-z-]+):", _read("Makefile"), flags=re.MULTILINE))
    made = {step["run"].split()[1] for step in steps if step.get("run", "").startswith("make ")}
    assert made == {"docs", "test-napari", "wheel"} & targets
    assert "secrets." not in text


def test_all_that_is_tracked_is_spelled_and_nothing_that_programs_write() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True)
    tracked = {name.split("/")[0] for name in names.stdout.splitlines()}
    spelled = re.search(r"^SPELLED := ((?:.*\\\n)*.*)$", _read("Makefile"), flags=re.MULTILINE)
    assert spelled is not None
    # Tests misspell on purpose; hidden files are of tools.
    wanted = {name for name in tracked if not name.startswith(".") and name != "tests"}
    assert set(spelled[1].replace("\\\n", " ").split()) == wanted
