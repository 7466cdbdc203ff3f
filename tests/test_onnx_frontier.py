"""Frontiers of ONNX models: each point is what `separate` gives, timed as a whole, its model to be saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)

import separable as sp  # noqa: E402
from separable.onnx.conversion.network import OnnxNetwork  # noqa: E402
from separable.onnx.frontiers.frontier import frontier  # noqa: E402

BY_MACS = {"by": "macs", "never_slower": False, "threads": 1, "progress": False}


def inputs(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def found():
    return frontier(models.vgg(width=16), inputs(), [0.3, 0.6, 0.001], **BY_MACS)


def test_each_point_is_what_separate_gives(found):
    assert [point.budget for point in found.points] == [0.6, 0.3]
    assert [left.budget for left in found.left_out] == [0.001]
    for point in found.points:
        alone = sp.onnx.separate(models.vgg(width=16), inputs(), point.budget, **BY_MACS)
        assert point.report.layers == alone.report.layers
        assert (point.loss, point.interval) == (alone.report.output_change, alone.report.interval)
        assert point.model.SerializeToString() == alone.model.SerializeToString()
        assert point.milliseconds is not None
    assert found.runtime == "the engine"


def test_a_point_is_saved_whole(found, tmp_path: Path):
    path = tmp_path / "half.onnx"
    found.points[0].save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["half.onnx"]
    assert sp.onnx.audit(path).macs == sp.onnx.audit(found.points[0].model).macs
    x = inputs(2)
    dense, kept = (sp.engine.load(model)(x) for model in (models.vgg(width=16), found.original.model))
    np.testing.assert_allclose(dense, kept, rtol=1e-5, atol=1e-6)


def test_unchanged_weights_are_held_once(found):
    first, second = (point._separation._stored.tensors for point in (found.original, found.points[0]))
    shared = set(first) & set(second)
    assert all(first[name] is second[name] for name in shared)


def test_what_does_not_pay_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OnnxNetwork, "milliseconds", lambda self, i, new: 1.0 if new is None else 0.4)
    monkeypatch.setattr(OnnxNetwork, "other_milliseconds", lambda self: 0.0)
    monkeypatch.setattr(
        OnnxNetwork, "whole_milliseconds", lambda self, *given: [4.0, *(4.0 + len(new) for new in given)]
    )
    done = frontier(models.vgg(width=16), inputs(), threads=1, progress=False)
    assert done.points == ()
    reasons = {left.reason for left in done.left_out}
    assert reasons == {"as a whole it is slower: the cheapest forms leave 2 of the time"}
    assert "it does not pay here" in str(done)
    by_macs = frontier(models.vgg(width=16), inputs(), [0.5], by="macs", threads=1, progress=False)
    assert by_macs.left_out[0].reason.startswith("every layer was put back")


def test_times_are_of_the_runtime_and_the_batch_that_were_asked_for():
    options = {**BY_MACS, "runtime": "onnxruntime", "batch": 4}
    done = frontier(models.vgg(width=16), inputs(), [0.5], **options)
    assert str(done).startswith("net: loss over time in ONNX Runtime, 4 inputs")
    assert done.points[0].report.runtime == "ONNX Runtime"


def test_wrong_arguments_are_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"`budgets` holds 0\.5 twice"):
        frontier("missing.onnx", inputs(), [0.5, 0.5])
    with pytest.raises(ValueError, match="`calibration`"):
        frontier(models.vgg(width=16), inputs(0), [0.5])
    with pytest.raises(ValueError, match=r"missing\.onnx"):
        frontier("missing.onnx", inputs(), [0.5])
