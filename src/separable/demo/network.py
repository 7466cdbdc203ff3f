"""A small network that tells brick, grass and gravel apart: converted without labels, and run whole.

``examples/train/demo_network.py`` trained it on the upper two thirds of scikit-image's three textures. The
lower thirds judge it here; the conversion is calibrated on squares of the upper ones, without labels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from .. import conv, files, onnx
from .._base.extras import extra
from .._base.types import Array
from ..conv.conversion.allowance import UnmetBudgetError
from .bundled import bundled
from .stopwatch import medians

if TYPE_CHECKING:
    from onnx import ModelProto

Show: TypeAlias = Callable[[str, int, int], None]

CLASSES: Final = ("brick", "grass", "gravel")
DENSE, DATA_FREE, SEPARABLE = "dense", "data-free SVD", "separable"

SQUARE: Final = 20  # pixels along each side of what the network reads
CALIBRATION: Final = 256  # squares
BATCH: Final = 64  # squares at a time, where it is timed
BUDGET: Final = 0.45  # of the time of the original
ROOM: Final = 1.1  # times the least there is, which differs that much from one measurement to the next
ENGINE, PEER = "engine", "ONNX Runtime"
ROUNDS: Final = 20  # samples of each network in each of them
STEP: Final = 4  # pixels between the squares that the map of the mosaic is made of
_SEED: Final = 1  # the network was trained on squares drawn with another one


@dataclass(frozen=True)
class Version:
    """The network in one form.

    Attributes
    ----------
    accuracy : float
        The fraction of the held-out squares that it tells right.
    macs, params : int
        Of one square.
    seconds : float
        Median time of a batch of 64 squares in ONNX Runtime, one thread.
    labels : ndarray of int, shape ``(height, width)``
        The class of the square around each pixel of the mosaic.
    """

    accuracy: float
    macs: int
    params: int
    seconds: float
    labels: Array


@dataclass(frozen=True)
class Converted:
    """What became of the network.

    Attributes
    ----------
    versions : mapping of str to Version
        As trained; with each convolution cut to one term by its weights alone, as prior work does; and
        converted by time on calibration data.
    mosaic, truth : ndarray, shape ``(height, width)``
        Held-out textures side by side, and which is where.
    held_out : ndarray, float32, shape ``(N, 1, 20, 20)``
        The squares that the accuracy is of, and their `classes`.
    classes : ndarray of int, shape ``(N,)``
    audit : Audit
        Of the network as trained.
    separation : Separation
    times : mapping of str to mapping of str to float
        Least seconds of a batch, dense and separable, by runtime: the engine and ONNX Runtime, one thread.
    """

    versions: Mapping[str, Version]
    mosaic: Array
    truth: Array
    held_out: Array
    classes: Array
    audit: onnx.Audit
    separation: onnx.Separation
    times: Mapping[str, Mapping[str, float]]

    @property
    def squares(self) -> int:
        """How many held-out squares the accuracy is of."""
        return len(self.held_out)


def check_available() -> None:
    """Raise MissingExtraError if a package that runs the network, or brings the data, is not installed."""
    with extra("demo"):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    bundled("skimage", "data")


def run(show: Show) -> Converted:
    """Convert the network and judge it.

    Parameters
    ----------
    show : callable
        Called with (phase, steps done, steps in all).

    Returns
    -------
    Converted

    Raises
    ------
    MissingExtraError
        If a package that runs the network, or brings the data, is not installed.
    """
    check_available()
    from onnx import load_from_string

    show("converting a network", 0, 0)
    model, textures = load_from_string(trained_bytes()), _textures()
    inputs = calibration(textures)
    data_free = cut_by_weights(model)
    separation = _separated(model, inputs, show)
    audits = {
        DENSE: onnx.audit(model),
        DATA_FREE: onnx.audit(data_free),
        SEPARABLE: onnx.audit(separation.model),
    }
    show("running the networks", 0, 0)
    squares, classes = _held_out(textures)
    mosaic, truth = _mosaic(textures)
    networks = {
        DENSE: runner(model),
        DATA_FREE: runner(data_free),
        SEPARABLE: runner(separation.model),
    }
    seconds = medians(
        {name: functools.partial(network, squares[:BATCH]) for name, network in networks.items()}
    )
    versions = {
        name: Version(
            float((network(squares).argmax(axis=1) == classes).mean()),
            audits[name].macs,
            audits[name].params,
            seconds[name],
            _map(network, mosaic),
        )
        for name, network in networks.items()
    }
    show("running them whole", 0, 0)
    times = _in_both_runtimes({DENSE: model, SEPARABLE: separation.model}, squares[:BATCH])
    return Converted(versions, mosaic, truth, squares, classes, audits[DENSE], separation, times)


def _separated(model: ModelProto, inputs: Array, show: Show) -> onnx.Separation:
    """Return the network converted to a fraction of its time here, or to the least that there is."""

    def to(budget: float) -> onnx.Separation:
        return onnx.separate(
            model,
            inputs,
            budget,
            by="time",
            batch=BATCH,
            threads=1,
            progress=lambda done, total, step: show("converting a network", done, total),
        )

    budget = BUDGET
    while True:
        try:
            return to(budget)
        except UnmetBudgetError as error:
            budget = min(ROOM * error.least, 1.0)  # which the network as it is meets


def trained_bytes() -> bytes:
    """Return the file of the network as it was trained, its weights in float32.

    The package carries them in eight bits, as they were rounded when the network was made.
    """
    from onnx import load_from_string

    model = load_from_string(resources(__package__).joinpath("textures.onnx").read_bytes())
    _widen(model)
    whole: bytes = model.SerializeToString(deterministic=True)
    return whole


def _widen(model: ModelProto) -> None:
    """Put weights in float32 in the place of those in eight bits and of the nodes that widen them."""
    from onnx import numpy_helper

    graph = model.graph
    narrow = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in narrow:
        weights, scales = (numpy_helper.to_array(tensors[name]) for name in node.input)
        wide = weights * scales.reshape(-1, *[1] * (weights.ndim - 1))
        for name in node.input:
            graph.initializer.remove(tensors[name])
        graph.initializer.append(numpy_helper.from_array(wide.astype(np.float32), node.output[0]))
        graph.node.remove(node)


def runner(model: ModelProto) -> Callable[[Array], Array]:
    """Return a function from squares to scores: the network in ONNX Runtime, with one thread, warm."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def run(squares: Array) -> Array:
        batches = [squares[start : start + BATCH] for start in range(0, len(squares), BATCH)]
        scores: Array = np.concatenate([session.run(None, {name: batch})[0] for batch in batches])
        return scores

    run(np.zeros((BATCH, 1, SQUARE, SQUARE), np.float32))
    return run


def _in_both_runtimes(models: Mapping[str, ModelProto], squares: Array) -> dict[str, dict[str, float]]:
    """Return the least seconds of a batch, by form and runtime: all run in turn, with one thread each."""
    from ..engine.peers.runtimes import RUNTIMES, engine_runtime
    from ..engine.times.clock import interleaved

    peer = next(runtime for runtime in RUNTIMES if runtime.name == PEER)
    ready = {
        (form, name): runtime.ready(model, {model.graph.input[0].name: squares}, 1).call
        for form, model in models.items()
        for name, runtime in ((PEER, peer), (ENGINE, engine_runtime()))
    }
    seconds = interleaved(
        ready, ROUNDS, rest=0.0
    ).seconds  # with one thread there is none that goes on polling
    return {form: {name: min(seconds[form, name]) for name in (PEER, ENGINE)} for form in models}


def cut_by_weights(model: ModelProto) -> ModelProto:
    """Return the network with every convolution but the first as the nearest one of a single term.

    Nearest by its weights, without looking at data: Network Decoupling (Guo et al., BMVC 2018).
    """
    from onnx import ModelProto, helper, numpy_helper

    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = list(graph.node)
    first = next(node for node in nodes if node.op_type == "Conv")
    cut = {node.input[1] for node in nodes if node.op_type == "Conv" and node is not first}
    kept = [tensor for tensor in graph.initializer if tensor.name not in cut]
    del graph.node[:], graph.initializer[:]
    graph.initializer.extend(kept)
    for node in nodes:
        if node.op_type != "Conv" or node is first:
            graph.node.append(node)
            continue
        x, weight, bias = node.input
        depthwise, pointwise, _ = conv.decompose(tensors[weight], 1)
        for name, array in ((f"{node.name}.dw", depthwise), (f"{node.name}.pw", pointwise[..., None, None])):
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        between = f"{node.name}.between"
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        attributes["group"] = len(depthwise)
        names = (f"{node.name}/dw", f"{node.name}/pw")
        graph.node.append(helper.make_node("Conv", [x, f"{node.name}.dw"], [between], names[0], **attributes))
        graph.node.append(
            helper.make_node("Conv", [between, f"{node.name}.pw", bias], list(node.output), names[1])
        )
    return result


# -- data --------------------------------------------------------------------------------------------


def _textures() -> list[Array]:
    """Return the three photographs, float32, -0.5 to 0.5."""
    photos = [files.read(bundled("skimage", f"data/{name}.png")).data for name in CLASSES]
    return [photo.astype(np.float32) / 255 - 0.5 for photo in photos]


def _upper(photo: Array) -> Array:
    return photo[: len(photo) * 2 // 3]


def _lower(photo: Array) -> Array:
    return photo[len(photo) * 2 // 3 :]


def calibration(textures: list[Array] | None = None) -> Array:
    """Return squares at random places of the upper two thirds of the photographs, without labels."""
    textures = _textures() if textures is None else textures
    numbers = np.random.default_rng(_SEED)
    squares = []
    for which in numbers.integers(0, len(textures), CALIBRATION):
        windows = _windows(_upper(textures[which]), 1)
        squares.append(windows[tuple(numbers.integers(0, windows.shape[:2]))])
    return np.stack(squares)[:, np.newaxis]


def _held_out(textures: list[Array]) -> tuple[Array, Array]:
    """Return the squares that the lower thirds are made of, none overlapping another, and their classes."""
    parts = [_windows(_lower(photo), SQUARE).reshape(-1, 1, SQUARE, SQUARE) for photo in textures]
    # Shuffled, so that the batch that is timed holds all three.
    order = np.random.default_rng(_SEED).permutation(sum(map(len, parts)))
    classes = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.ascontiguousarray(np.concatenate(parts)[order]), classes[order]


def _windows(photo: Array, step: int) -> Array:
    """Return the squares of a photograph, (rows, columns, height, width)."""
    return np.lib.stride_tricks.sliding_window_view(photo, (SQUARE, SQUARE))[::step, ::step]


def _mosaic(textures: list[Array]) -> tuple[Array, Array]:
    """Return a picture of held-out textures, a disk of one on halves of the others, and which is where."""
    brick, grass, gravel = map(_lower, textures)
    height = len(brick)
    rows, columns = np.mgrid[:height, : 2 * height]
    disk = np.hypot(rows - height / 2, columns - height) < 0.38 * height
    truth = np.where(disk, 2, columns >= height)
    cut = [photo[:, : 2 * height] for photo in (brick, grass, gravel)]
    mosaic: Array = np.choose(truth, cut)
    return mosaic, truth


def _map(network: Callable[[Array], Array], mosaic: Array) -> Array:
    """Return for each pixel of the mosaic the class of the square that it is about the middle of."""
    windows = _windows(mosaic, STEP)
    squares = np.ascontiguousarray(windows.reshape(-1, 1, SQUARE, SQUARE))
    classes = network(squares).argmax(axis=1).reshape(windows.shape[:2])
    labels = classes.repeat(STEP, axis=0).repeat(STEP, axis=1)
    before = (SQUARE - STEP) // 2
    margins = [
        (before, whole - before - part) for whole, part in zip(mosaic.shape, labels.shape, strict=True)
    ]
    return np.pad(labels, margins, mode="edge")
