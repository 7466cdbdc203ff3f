"""The wheel that is tested here: by itself in a bare environment, without compiler, network or extras.

``make test`` builds a wheel into build/wheels, with NumPy's beside it, and installs from it. The tests here
take that file: nothing is compiled again. ``make wheel`` does the same and more, for several Pythons.
"""

from __future__ import annotations

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import wheels

import separable as sp
from separable import _core

BUILT = wheels.ROOT / "build" / "wheels"
TOOLS = ("auditwheel", "patchelf") if sys.platform == "linux" else ()


@pytest.fixture(scope="module")
def built() -> Path:
    """Return the wheel that the package under test was installed from."""
    if wheels.ROOT / "src" in Path(sp.__file__).resolve().parents:
        pytest.skip("run from the sources: no wheel was installed")
    files = list(BUILT.glob("separable-*.whl"))
    if not files:
        pytest.skip("no wheel in build/wheels, where `make test` puts the one that it installs")
    (wheel,) = files
    return wheel


@pytest.fixture(scope="module")
def repaired(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return it as auditwheel writes it for other Linux systems; elsewhere as it is."""
    if missing := [tool for tool in TOOLS if find_spec(tool) is None and not (wheels.BIN / tool).exists()]:
        pytest.skip(f"{', '.join(missing)} not installed: pip install {' '.join(missing)}")
    return wheels.repaired(built, tmp_path_factory.mktemp("repaired"))


def members(wheel: Path) -> set[str]:
    """Return the names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_wheel_is_what_is_tested(built: Path) -> None:
    core = Path(_core.__file__)
    with zipfile.ZipFile(built) as archive:
        inside = archive.read(f"separable/{core.name}")
    assert inside == core.read_bytes(), "the wheel in build/wheels is another one: `make test` renews both"


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_the_wheel_is_for_many_linux_systems(built: Path, repaired: Path) -> None:
    assert repaired.stem.rpartition("-")[2].startswith(("manylinux", "musllinux"))
    assert not members(built) ^ members(repaired)  # no library of this system had to go with it


def test_the_wheel_works_alone(repaired: Path, tmp_path: Path) -> None:
    python = wheels.bare_environment(sys.executable, tmp_path)
    needed = [str(wheel) for wheel in BUILT.glob("*.whl") if not wheel.name.startswith("separable-")]
    said = wheels.try_out(repaired, python, tmp_path, options=["--no-index", *needed])
    assert said.startswith(f"separable {sp.__version__} from {python.parents[1].resolve()}")
    assert said.endswith("works, NumPy alone")
