"""A few dozen of the damaged models of `fuzz_models`, always the same ones; its own run tries a thousand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import fuzz_models

# Those that once ended otherwise, and the first ones.
SOUND = dict.fromkeys(("audit", "separate", "engine"), "result")
NUMBERS = (73, 168, 230, 380, 896, *range(55))


@pytest.fixture(scope="module")
def sound() -> list[Any]:
    return fuzz_models.seeds()


def test_the_models_are_in_order_before_they_are_damaged(sound: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for model in sound[:6]:
        path.write_bytes(model.SerializeToString())
        assert fuzz_models.outcome(path, searching=False) == (SOUND, [])


@pytest.mark.parametrize("part", range(6))
def test_each_comes_to_a_result_or_an_error_that_names_the_file(
    part: int, sound: list[Any], tmp_path: Path
) -> None:
    wrong = []
    for number in NUMBERS[part::6]:
        kind, _, found = fuzz_models.run(number, 0, sound, tmp_path)
        wrong += [f"{number} ({kind}) {text}" for text in found]
    assert not wrong, "\n".join(wrong)
