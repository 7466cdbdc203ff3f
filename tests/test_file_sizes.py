"""What is tracked can be read, and what is installed is small."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT, DATA = 200_000, 100_000  # bytes


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [path for name in names.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _is_text(path: Path) -> bool:
    return b"\0" not in path.read_bytes()[:8000]  # as git tells it


def test_tracked_texts_can_be_read() -> None:
    tracked = _tracked()
    assert Path(__file__) in tracked
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked if _is_text(path)}
    assert {name: size for name, size in sizes.items() if size > TEXT} == {}


def test_the_package_carries_no_large_data() -> None:
    package = ROOT / "src" / "separable"
    files = [path for path in _tracked() if package in path.parents]
    assert package / "demo" / "textures.onnx" in files
    assert {path.name: path.stat().st_size for path in files if path.stat().st_size > DATA} == {}
