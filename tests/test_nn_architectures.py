"""Small networks of every build, written exactly in each form: the outputs stay, in torch and in ONNX."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import separable as sp
from separable.conv.forms.table import FORMS

torch = pytest.importorskip("torch")

from separable.nn.model.outcomes import floats_of  # noqa: E402
from tests.small_networks import NETWORKS, built  # noqa: E402

# torch's own word on one of the networks: SAME padding of an even kernel costs it a copy.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

PAIRED = [form for form in FORMS if form != "dense"]
WORST = 1e-4  # the largest difference over the largest output


def apart(got, wanted) -> float:
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, wanted, strict=True))


def answers(model, x) -> list[np.ndarray]:
    with torch.no_grad():
        return [y.numpy() for y in floats_of(model(x))]


def having(form: str, model) -> int:
    """Count the layers that have a form: with 1 tap "low-rank" alone, "spatial" with two long axes."""
    kinds = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    kernels = [getattr(module, "kernel_size", ()) for module in model.modules() if isinstance(module, kinds)]
    long = [sum(taps > 1 for taps in kernel) for kernel in kernels]
    return sum(count >= {"low-rank": 0, "spatial": 2}.get(form, 1) for count in long)


def checked_rows(report, form: str, name: str, model) -> None:
    forms = [row.form for row in report.layers]
    assert forms.count(form) == having(form, model)
    assert forms.count(form) + forms.count("dense") == len(forms)
    assert all(row.reason for row in report.layers if row.form == "dense")
    assert report.budget is None


@pytest.mark.parametrize("form", PAIRED)
@pytest.mark.parametrize("name", NETWORKS)
def test_full_rank_in_torch(name, form):
    model, x = built(name)
    held_out = torch.randn_like(x)
    result = sp.nn.separate(model, x, rank="full", forms=[form])
    assert apart(answers(result.model, held_out), answers(model, held_out)) < WORST
    assert result.report.output_change < 1e-8
    checked_rows(result.report, form, name, model)


@pytest.mark.parametrize("name", NETWORKS)
def test_full_rank_with_norms_kept(name):
    model, x = built(name)
    converted = sp.nn.separate(model, x, rank="full", forms=["dw-pw"], keep_norms=True).model
    norms = [sum("BatchNorm" in type(m).__name__ for m in each.modules()) for each in (model, converted)]
    assert norms[0] == norms[1]
    assert apart(answers(converted, x), answers(model, x)) < WORST


@pytest.mark.parametrize("name", NETWORKS)
def test_full_rank_in_onnx(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, x = built(name)
    x = x[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), tmp_path / "net.onnx", dynamo=False, opset_version=17)

    def run(proto) -> list[np.ndarray]:
        session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: np.flip(x.numpy(), 0).copy()})

    proto = onnx.load(tmp_path / "net.onnx")
    wanted = run(proto)
    for form in PAIRED:
        result = sp.onnx.separate(proto, x.numpy(), rank="full", forms=[form], never_slower=False)
        onnx.checker.check_model(result.model, full_check=True)
        assert apart(run(result.model), wanted) < WORST
        checked_rows(result.report, form, name, model)
