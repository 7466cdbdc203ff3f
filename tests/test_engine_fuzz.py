"""Two hundred damaged models through the engine, half of them with ONNX Runtime for what it does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import fuzz_models

# Those that once ended otherwise, and the first ones of another seed than the other verbs are tried on.
NUMBERS = (73, 166, 186, 854, *range(200))
PARTS = 8


@pytest.fixture(scope="module")
def sound() -> list[Any]:
    return fuzz_models.seeds()


@pytest.mark.parametrize("part", range(PARTS))
def test_each_comes_to_a_result_or_an_error_that_names_the_file(
    part: int, sound: list[Any], tmp_path: Path
) -> None:
    wrong, ends = [], set()
    for place, number in enumerate(NUMBERS[part::PARTS]):
        seed = 0 if place == 0 and part < 4 else 1
        kind, found, bad = fuzz_models.run(number, seed, sound, tmp_path, "engine")
        wrong += [f"{number}, seed {seed} ({kind}) {text}" for text in bad]
        ends.add(found["engine"])
    assert not wrong, "\n".join(wrong)
    assert {"result", "FileError"} <= ends
