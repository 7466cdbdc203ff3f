"""ONNX's own cases and models through the engine: what it runs natively is what they say."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")

from onnx.onnx_ml_pb2 import ModelProto  # noqa: E402 (needs onnx)
from test_engine_graph_onnx import (  # noqa: E402
    FOLDERS,
    SAYING,
    array,
    data_of,
    reason_to_skip,
    upgraded,
    with_constants,
)

import separable as sp  # noqa: E402
from separable.engine.program.lower import NATIVE, may_be_native  # noqa: E402
from separable.engine.program.native_forms import FORMS  # noqa: E402

Array = npt.NDArray[Any]

# Of whose cases all inputs but the first are weights of a network.
WEIGHTED = {
    *("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("LSTM", "GRU", "QLinearConv", "QLinearMatMul"),
}

# What has a shape only where all of its inputs are constants.
SHAPING = {"ConstantOfShape", "NonZero", "Range"}

# Operations with native steps, or a form in others, of which the engine runs no case of ONNX: all of these
# ask for more results, or scale the state before its product; one is ONNX Runtime's.
WITHOUT_CASES = {"LayerNormalization", "GRU", "QLinearAdd"}


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    """Return all of ONNX's cases of single operations, and of what they expand to."""
    state = np.random.get_state()  # noqa: NPY002 (onnx's cases seed it)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        for module in pkgutil.iter_modules(node.__path__):
            importlib.import_module(f"{node.__name__}.{module.name}")
    np.random.set_state(state)  # noqa: NPY002
    return list(node._NodeTestCases)


def is_candidate(model: ModelProto) -> bool:
    ops = {each.op_type for each in model.graph.node}
    return not reason_to_skip(model) and all(map(may_be_native, ops - {"Constant", "Identity", "Cast"}))


def with_weights(model: ModelProto, feeds: dict[str, Array]) -> ModelProto:
    """Return the model with what is a constant in networks inside; the first of its inputs hardly is."""
    ops = {node.op_type for node in model.graph.node}
    names = {
        name
        for place, (name, values) in enumerate(feeds.items())
        if place and (values.dtype.kind in "iub" or name in SAYING or ops & WEIGHTED)
    }
    return with_constants(model, feeds, set(feeds) if ops & SHAPING else names)


def run(model: ModelProto, feeds: dict[str, Array], wanted: list[Array], name: str) -> None:
    program = sp.engine.load(with_weights(model, feeds))
    found = program({each: feeds[each] for each in program.inputs})
    found = found if isinstance(found, dict) else {program.outputs[0]: found}
    for output, values in zip(model.graph.output, wanted, strict=True):
        assert found[output.name].dtype == values.dtype
        assert found[output.name].shape == values.shape
        np.testing.assert_allclose(found[output.name], values, 1e-3, 1e-5, err_msg=name)


def test_cases_of_onnx(cases: list[Any]) -> None:
    ran: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong = {}
    for case in cases:
        if not is_candidate(case.model):
            continue
        model = upgraded(case.model)
        for inputs, outputs in case.data_sets:
            feeds = {each.name: array(v) for each, v in zip(model.graph.input, inputs, strict=True)}
            try:
                run(model, feeds, [array(value) for value in outputs], case.name)
            except sp.engine.UnsupportedOperationsError as error:
                refused.update(operation.partition(" (`")[0] for operation in error.operations)
                continue
            except Exception as error:
                wrong[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ran.update({each.op_type for each in model.graph.node})
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    assert ran.total() > 700
    assert {op for op in {*NATIVE, *FORMS} if not ran[op]} <= WITHOUT_CASES
    assert set(refused) & {*NATIVE, *FORMS} <= WITHOUT_CASES  # the others: for their type, or an attribute


def test_layers_converted_from_pytorch() -> None:
    """Groups, depth, dilation, one to three axes: what ONNX's own cases leave out."""
    names = [folder for folder in sorted(FOLDERS.iterdir()) if "onv" in folder.name or "Pool" in folder.name]
    refused = []
    for folder in names:
        try:
            program = sp.engine.load(upgraded(onnx.load(folder / "model.onnx")))
        except sp.engine.UnsupportedOperationsError:
            refused.append(folder.name)
            continue
        data = folder / "test_data_set_0"
        found = program(dict(zip(program.inputs, data_of(data, "input"), strict=False)))
        (wanted,) = data_of(data, "output")
        np.testing.assert_allclose(found, wanted, 1e-3, 1e-5, err_msg=folder.name)
    assert len(names) - len(refused) >= 28
    assert all("3d" in name for name in refused)


LIGHT_MODELS = (
    "squeezenet",
    "shufflenet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "bvlc_alexnet",
    "zfnet512",
    "vgg19",
)
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.parametrize("name", LIGHT_MODELS)
def test_light_models_agree_with_onnx_runtime(name: str) -> None:
    """Without the softmax at the end: all weights are alike, and the numbers before it without measure."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = LIGHT / f"light_{name}.onnx"
    if not path.exists():
        pytest.skip("this onnx brings no light models")
    model = onnx.load(path)
    if model.graph.node[-1].op_type == "Softmax":
        (model.graph.output[0].name,) = model.graph.node[-1].input
        del model.graph.node[-1]
    program = sp.engine.load(model)
    ((given, kind),) = program.inputs.items()
    x = np.random.default_rng(0).uniform(0, 1, kind.shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, {given: x})
    np.testing.assert_allclose(program(x).ravel(), wanted.ravel(), rtol=0, atol=1e-4 * np.abs(wanted).max())
