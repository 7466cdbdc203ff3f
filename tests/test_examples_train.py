"""What the gallery shares, in examples/train: words, scans, scores and times."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TRAIN = Path(__file__).resolve().parents[1] / "examples" / "train"


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports modules of examples/train, and forgets them."""
    for package in ("torch", "scipy", "skimage", "PIL", "nibabel", "onnxruntime"):
        pytest.importorskip(package)
    import importlib

    monkeypatch.syspath_prepend(str(TRAIN))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (TRAIN / f"{name}.py").exists():
            del sys.modules[name]


def test_every_word_can_be_said_without_espeak(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = train("words")
    monkeypatch.setattr(words, "ESPEAK", None)
    voices = words.voices(2, held_out=False, seed=0)
    said = dict(words.all_spoken(voices[:1], len(words.OTHERS)))
    assert set(said) == {*words.COMMANDS, *words.OTHERS}
    for word, samples in said.items():
        assert 0.1 * words.RATE < len(samples) <= words.RATE, word
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(1)
    other = words.spoken("yes", voices[1])
    assert len(other) != len(said["yes"]) or np.abs(other - said["yes"]).max() > 0.1
    np.testing.assert_array_equal(words.spoken("yes", voices[1]), other)


def test_a_formant_is_where_the_table_has_it(train: Any) -> None:
    formants = train("formants")
    formants.SPELLED["long"] = "iy iy iy iy"
    for tract in (1.0, 1.2):
        said = formants.speak("long", pitch=100, pace=1, tract=tract, seed=0)
        middle = said[len(said) // 2 :][:4096]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        frequencies = np.fft.rfftfreq(len(middle), 1 / 16_000)
        above = (frequencies > 1500) & (frequencies < 2900)
        strongest = frequencies[above][spectrum[above].argmax()]
        assert strongest == pytest.approx(2290 * tract, abs=110)  # within a harmonic


def test_clips_hold_what_their_classes_say(train: Any) -> None:
    words = train("words")
    tone = np.sin(np.arange(8000) / 5).astype(np.float32)
    clips, classes = words.clips([("yes", tone), ("dog", tone)] * 60, copies=1, cut=0.2, seed=0)
    assert clips.shape == (120, words.RATE)
    names = [words.CLASSES[number] for number in classes]
    loudness = np.sqrt((clips**2).mean(axis=1))
    assert {"yes", "other", "silence"} == set(names)
    assert max(loudness[np.array(names) == "silence"]) < min(loudness[np.array(names) == "yes"])


def test_a_sentence_says_where_its_words_are(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = train("words")
    monkeypatch.setattr(words, "ESPEAK", None)
    sound, spans = words.sentence(words.voices(1, held_out=True, seed=0)[0], 4, seed=0)
    assert [word in words.COMMANDS for *_, word in spans] == [False, True, False, True]
    for begin, end, _ in spans:
        loud = np.abs(sound[int(begin * words.RATE) : int(end * words.RATE)]).max()
        before = np.abs(sound[int((begin - 0.3) * words.RATE) : int(begin * words.RATE)]).max()
        assert loud > 10 * before


def test_scans_are_labelled_by_their_rule_and_held_out_by_halves(train: Any) -> None:
    scans = train("scans")
    data = scans.tissues(3, (16, 16, 8), seed=0)
    assert data.train_x.shape == (3, 1, 16, 16, 8)
    assert data.train_y.shape == (3, 16, 16, 8)
    assert data.test_x.shape[1:] == (1, 64, 96, 24)
    second = scans.scan(1)
    assert set(np.unique(second.classes)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(data.test_y[0].numpy(), second.classes[64:])
    means = [second.volume[second.classes == k].mean() for k in (1, 2, 3)]
    assert means == sorted(means)
    badly = scans.as_badly_scanned(second.volume, np.random.default_rng(0))
    assert badly.dtype == np.float32
    assert 0.05 < np.abs(badly - second.volume)[second.classes > 0].mean() < 0.5


def test_overlaps_are_counted_by_hand(train: Any) -> None:
    import torch

    networks = train("networks")
    given, wanted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    assert networks.overlaps(given, wanted, 2).tolist() == pytest.approx([1 / 2, 2 / 3])


def test_surfaces_have_the_size_that_is_asked_for(train: Any) -> None:
    pictures = train("pictures")
    data = pictures.surfaces(0, train=2, test=1, size=80)
    assert data.train_x.shape == (2, 1, 80, 80)
    assert data.test_y.shape == (1, 80, 80)


def test_runs_take_turns(train: Any) -> None:
    order: list[str] = []
    side_by_side = train("side_by_side")
    least = side_by_side.least_times({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == ["a", "b"] * 3
    assert all(0 <= seconds < 1 for seconds in least.values())
