"""A part of ``make fuzz``: mutated image files give an image or an error that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nibabel")
pytest.importorskip("tifffile")
pytest.importorskip("PIL")

import fuzz_images

from separable import files


def test_mutated_files_give_an_image_or_an_error_that_names_them(tmp_path: Path) -> None:
    said: list[str] = []
    kinds = fuzz_images.run(150, 0, tmp_path, said.append)
    assert not said
    assert kinds.total() == 150
    assert kinds["image"] > 15  # and the rest is not refused for a reason of ours
    assert list(tmp_path.iterdir()) == []


def test_the_files_they_are_made_of_are_read(tmp_path: Path) -> None:
    refused = {}
    for name, body in fuzz_images.seeds().items():
        path = tmp_path / name
        path.write_bytes(body)
        with fuzz_images.small_machine():
            found = fuzz_images.outcome(path)
        assert not found.wrong, found
        if found.kind == "refused":
            refused[name] = found.text
    # What they hold is no picture or volume of numbers, or takes a decoder that is not installed.
    assert all(
        any(
            reason in text
            for reason in ("imagecodecs", "animation", "Cifti2Image", "16-bit colour", "DICOM is read")
        )
        for text in refused.values()
    ), refused


def test_a_file_is_the_same_in_every_run() -> None:
    assert [fuzz_images.mutated(number) for number in range(5)] == [
        fuzz_images.mutated(number) for number in range(5)
    ]


def test_what_must_not_be_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> files.Image:
        raise KeyError("shape")

    monkeypatch.setattr(fuzz_images.files, "read", broken)
    said: list[str] = []
    assert fuzz_images.run(2, 0, tmp_path, said.append) == {"raised by reading": 2}
    assert "KeyError: 'shape'" in said[0]
