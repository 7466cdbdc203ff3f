"""Networks out of published packages, where their wheels lie in SEPARABLE_STUDIES_CACHE; none is fetched."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import separable as sp
from benchmarks import engine_files, engine_real
from benchmarks.engine_files import RealNetwork
from studies.real import packages

CASES = [(network, case) for network in engine_files.NETWORKS for case in range(len(network.cases))]


@pytest.mark.parametrize(("network", "case"), CASES, ids=[f"{one.name}-{case}" for one, case in CASES])
def test_a_real_network_runs_whole_and_as_in_onnx_runtime(network: RealNetwork, case: int) -> None:
    if not network.is_here():
        pytest.skip(f"the wheel of {' '.join(network.wheel)} is not there")
    feeds = network.sample(case)
    program = sp.engine.load(network.path(), threads=1)
    found = program(feeds)
    results = found if isinstance(found, dict) else {program.outputs[0]: found}
    wanted, allowed = engine_real.reference(network.path(), feeds)
    assert engine_real.difference(results, wanted) <= allowed
    assert not any(operation.kind.startswith("ONNX Runtime") for operation in program.plan().operations)


def test_lines_of_text_of_any_width_share_packed_weights_and_few_plans() -> None:
    network = engine_files.named("ocr-reading")
    if not network.is_here():
        pytest.skip("the wheel of rapidocr-onnxruntime is not there")
    program = sp.engine.load(network.path(), threads=1, plans=4)
    rng = np.random.default_rng(0)
    sizes = []
    for width in rng.integers(16, 120, 12) * 4:
        program(rng.standard_normal((1, 3, 48, int(width)), np.float32))
        sizes.append(program.weights_bytes)
    assert len(program._plans) == 4
    assert max(sizes) <= 1.2 * sizes[0]


def test_a_real_network_in_eight_bits_runs_whole() -> None:
    """Its LSTM takes the weights that its levels stand for; ONNX Runtime rounds what these multiply too."""
    wheel = packages.kept_wheel(*engine_files.DDDD)
    if wheel is None:
        pytest.skip("the wheel of ddddocr is not there")
    model = packages.network(*engine_files.DDDD, "ddddocr/common_old.onnx")
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    program = sp.engine.load(model, threads=1)
    for width in (120, 160):
        x = np.random.default_rng(width).standard_normal((1, 1, 64, width)).astype(np.float32)
        (wanted,) = session.run(None, {"input1": x})
        given = program(x)
        assert np.abs(given - wanted).max() < 0.02 * np.abs(wanted).max()
        assert (given.argmax(-1) == wanted.argmax(-1)).mean() > 0.95
    kinds = [step.kind for step in program.steps()]
    assert sum(kind.startswith("8-bit") for kind in kinds) == 22
    assert not any(kind.startswith("ONNX Runtime") for kind in kinds)
