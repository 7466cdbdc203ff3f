"""Eight bits after a conversion: static quantisation in ONNX Runtime, channels equalised or not."""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import separable as sp
from benchmarks import libraries
from benchmarks.quantiser import quantise
from benchmarks.results import Quantity, QuantityRecord

NETWORKS = (("digits", "vgg"), ("digits", "residual"), ("textures", "vgg"))
SEEDS = 2
INPUTS = 512  # to calibrate on, for the conversion and for the quantiser
BATCH = 64

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Result:
    """How a model does on held-out pictures."""

    accuracy: float  # percent
    error: float  # of its outputs: squared change from eight bits over their variance; 0 for float32


def measure(
    run: str,
    quick: bool,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Train small networks, convert them, and quantise what they were and what they have become."""
    quantities = []
    missing = [
        n
        for n in ("torch", "onnx", "onnxscript", "onnxruntime", "sklearn", "skimage")
        if not libraries.load(n)
    ]
    for data, network in () if missing else NETWORKS[: 1 if quick else None]:
        found: dict[str, list[Result]] = {}
        for seed in range(1 if quick else SEEDS):
            progress(f"convert-int8: {data} {network}, seed {seed}")
            for label, result in case(data, network, seed, quick):
                found.setdefault(label, []).append(result)
        quantities += [_quantity(f"{data} {network}, {label}", results) for label, results in found.items()]
    title = (
        "Held-out accuracy in eight bits (QDQ, static); converted: all but the first layer in dw-pw, T = 1"
    )
    return QuantityRecord("convert-int8", "Conversion", title, run, quick, quantities)


def _quantity(label: str, results: list[Result]) -> Quantity:
    rates = [result.accuracy for result in results]
    errors = [result.error for result in results]
    note = f"squared change of the outputs {statistics.geometric_mean(errors):.1e}" if min(errors) > 0 else ""
    return Quantity(label, statistics.mean(rates), min(rates), max(rates), "%", None, note)


def case(data: str, network: str, seed: int, quick: bool) -> Iterator[tuple[str, Result]]:
    """Yield how a trained network does, dense and converted, in float32 and in eight bits."""
    pictures, model = trained(data, network, seed, quick)
    # Some sets come class by class: of each class as many as chance has it.
    order = np.random.default_rng(seed).permutation(len(pictures.train_x))
    inputs = pictures.train_x.numpy()[order[: BATCH if quick else INPUTS]]
    x, classes = pictures.test_x.numpy(), pictures.test_y.numpy()
    onnx = libraries.load("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exported(model, pictures.train_x[:2], path)
        yield from quantised("dense", path, inputs, x, classes)
        first = next(node.name for node in onnx.load(path).graph.node if node.op_type == "Conv")
        for equalise in (False, True):
            done = sp.onnx.separate(
                path,
                inputs,
                rank=1,
                forms=["dw-pw"],
                skip=[first],
                threads=1,
                equalise=equalise,
                progress=False,
            )
            small = path.with_name("converted.onnx")
            done.save(small)
            label = "converted, equalised" if equalise else "converted"
            yield from quantised(label, small, inputs, x, classes)


def trained(data: str, network: str, seed: int, quick: bool) -> tuple[Any, Any]:
    """Return pictures, and a network that was trained on them."""
    found = libraries.example("pictures").SETS[data](seed)
    return found, libraries.example("networks").trained(network, found, seed, epochs=1 if quick else 12)


def exported(model: Any, example: Any, path: Path) -> None:
    """Write a module of torch as an ONNX file, for any number of inputs."""
    torch = libraries.load("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself is built of
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=True,
            dynamic_shapes=[{0: "N"}],
            external_data=False,
            verbose=False,
        )


def quantised(
    label: str, path: Path, inputs: Array, x: Array, classes: Array
) -> Iterator[tuple[str, Result]]:
    """Yield how a model does on held-out pictures, in float32 and in eight bits in two ways."""
    wanted = _run(path, x)
    yield f"{label}, float32", Result(_accuracy(wanted, classes), 0.0)
    for per_channel in (False, True):
        small = path.with_name("int8.onnx")
        quantise(path, small, inputs, per_channel=per_channel)
        got = _run(small, x)
        error = float(np.square(got - wanted).mean() / np.square(wanted - wanted.mean(axis=0)).mean())
        how = "channel" if per_channel else "tensor"
        yield f"{label}, int8, weights per {how}", Result(_accuracy(got, classes), error)


def _session(path: Path) -> Any:
    runtime = libraries.load("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(path: Path, x: Array) -> Array:
    session = _session(path)
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: x[start : start + BATCH]})[0] for start in range(0, len(x), BATCH)]
    return np.concatenate(parts)


def _accuracy(scores: Array, classes: Array) -> float:
    return 100 * float(np.mean(scores.argmax(axis=1) == classes))
