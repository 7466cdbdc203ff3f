"""Windows that slide over a signal: a stream, which computes new columns, beside whole windows."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_networks, engine_real, libraries
from benchmarks.engine_files import Array
from benchmarks.engine_latency import GROUP, REST_SECONDS, Progress, least_cell, restored
from benchmarks.filters import WrongResultError
from benchmarks.results import SEPARABLE, Quantity, Row, TableRecord
from benchmarks.timing import Effort, Stopwatch, interleave

NAME: Final = "engine-stream"
WHOLE: Final = f"{SEPARABLE}, whole windows"
HOPS: Final = 64  # that the samples of a stream are taken from, in turn
SEED: Final = 0


@dataclass(frozen=True)
class SlidingNetwork:
    """A network with random weights that looks at the last part of a signal.

    Attributes
    ----------
    title, file : str
    shape : tuple of int
        Of a window.
    axis, hop : int
        Of time, and columns that are new each time.
    build : callable
        Takes the network that is written, and returns its last tensor and the number of channels of that.
    """

    title: str
    file: str
    shape: tuple[int, ...]
    axis: int
    hop: int
    build: Callable[[_Net], tuple[str, int]]

    def path(self) -> Path:
        """Return its file, which is written if it was not yet."""
        return engine_networks.kept(
            f"{self.file}.stream.onnx", lambda file: file.write_bytes(self._model().SerializeToString())
        )

    def sample(self, _: int = 0) -> dict[str, Array]:
        """Return a window of noise."""
        return {"x": np.random.default_rng(SEED).standard_normal(self.shape).astype(np.float32)}

    def _model(self) -> Any:
        net = _Net(len(self.shape) - 2)
        return net.classifier(*self.build(net), self.shape)


class _Net:
    """Nodes and weights of a network while it is written; lengths are one for each spatial axis."""

    def __init__(self, axes: int) -> None:
        self._axes = axes
        self._nodes: list[Any] = []
        self._held: list[Any] = []
        self._random = np.random.default_rng(SEED)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def weights(self, *shape: int) -> str:
        from onnx import numpy_helper

        values = self._random.standard_normal(shape) * (2 / math.prod(shape[1:])) ** 0.5
        self._held.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(self._held)}"))
        return f"w{len(self._held) - 1}"

    def conv(
        self,
        x: str,
        channels: tuple[int, int],
        kernel: Sequence[int],
        pads: Sequence[int] = (),
        stride: Sequence[int] = (),
        **more: Any,
    ) -> str:
        (c_in, c_out), group = channels, more.get("group", 1)
        names = (self.weights(c_out, c_in // group, *kernel), self.weights(c_out))
        stride, pads = stride or (1,) * self._axes, pads or (0,) * (2 * self._axes)
        return self.node("Conv", x, *names, kernel_shape=kernel, pads=pads, strides=stride, **more)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def classifier(self, x: str, channels: int, shape: tuple[int, ...]) -> Any:
        from onnx import TensorProto, helper

        flat = self.node("Flatten", self.node("GlobalAveragePool", x))
        scores = self.node("Gemm", flat, self.weights(12, channels), self.weights(12), transB=1)
        graph = helper.make_graph(
            self._nodes,
            "sliding",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(scores, TensorProto.FLOAT, (1, 12))],
            self._held,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _ds_cnn(net: _Net) -> tuple[str, int]:
    """Return DS-CNN "S" (arXiv:1711.07128) for 49 frames of 20 bands, as in the gallery."""
    x = net.relu(net.conv("x", (1, 64), (10, 4), (5, 1, 5, 1), (2, 2)))
    for _ in range(4):
        x = net.relu(net.conv(x, (64, 64), (3, 3), (1, 1, 1, 1), group=64))
        x = net.relu(net.conv(x, (64, 64), (1, 1)))
    return x, 64


def _raw(net: _Net) -> tuple[str, int]:
    """Return the network of the gallery for 16,000 samples of sound."""
    x = net.relu(net.conv("x", (1, 32), (64,), (24, 24), (16,)))
    for before, after in itertools.pairwise((32, 64, 96, 128, 128, 128)):
        x = net.relu(net.conv(x, (before, before), (9,), (4, 4), (2,), group=before))
        x = net.relu(net.conv(x, (before, after), (1,)))
    return x, 128


def _eeg(net: _Net) -> tuple[str, int]:
    """Return a network like EEGNet (arXiv:1611.08024), for 22 electrodes and four seconds at 250 Hz."""
    x = net.conv("x", (1, 8), (1, 64), (0, 32, 0, 31))
    x = net.node("Elu", net.conv(x, (8, 16), (22, 1), group=8))
    x = net.node("AveragePool", x, kernel_shape=(1, 4), strides=(1, 4))
    x = net.conv(x, (16, 16), (1, 16), (0, 8, 0, 7), group=16)
    x = net.node("Elu", net.conv(x, (16, 16), (1, 1)))
    return net.node("AveragePool", x, kernel_shape=(1, 8), strides=(1, 8)), 16


def _causal(net: _Net) -> tuple[str, int]:
    """Return a temporal convolutional network without padding: separable layers, dilations up to 8."""
    x = net.relu(net.conv("x", (40, 64), (5,)))
    for dilation in (1, 2, 4, 8):
        x = net.relu(net.conv(x, (64, 64), (5,), group=64, dilations=(dilation,)))
        x = net.relu(net.conv(x, (64, 64), (1,)))
    return x, 64


NETWORKS: Final = (
    SlidingNetwork("DS-CNN, 49 frames, 4 new", "ds-cnn", (1, 1, 49, 20), 2, 4, _ds_cnn),
    SlidingNetwork("1-D, 16,000 samples, 1,536 new", "raw", (1, 1, 16000), 2, 1536, _raw),
    SlidingNetwork("like EEGNet, 1,000 samples, 32 new", "eeg", (1, 1, 22, 1000), 3, 32, _eeg),
    SlidingNetwork("without padding, 100 frames, 1 new", "causal", (1, 40, 100), 2, 1, _causal),
)


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure a hop of each network on one thread: the stream, whole windows, and the other runtimes.

    Raises
    ------
    WrongResultError
        If whole windows differ from ONNX Runtime's by more than is allowed, or the stream from them.
    """
    rows: list[Row] = []
    quantities: list[Quantity] = []
    if libraries.load("onnxruntime") is not None and libraries.load("onnx") is not None:
        for network in NETWORKS[:1] if quick else NETWORKS:
            progress(f"{NAME}: {network.title}")
            row, share = _row(network, effort or Effort(), only)
            rows.append(row)
            quantities.append(_gain(row, share))
    title = "A window slides on, one thread (least times a hop)"
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, quantities)


def _row(network: SlidingNetwork, effort: Effort, only: tuple[str, ...]) -> tuple[Row, float]:
    """Return the times of a hop, and the part of the multiplications that a stream does."""
    path, feeds = network.path(), network.sample()
    wanted, allowed = engine_real.reference(path, feeds)
    program = libraries.load("separable.engine").load(path, threads=1)
    stream = program.stream(network.hop, axis=network.axis)
    call = _hops(network, stream, program)
    with restored():
        loads = {name: load(path, feeds, 1) for name, load in engine_real.runtimes(only).items()}
        watches = {SEPARABLE: Stopwatch(_woken(call), call)}
        for name, loaded in loads.items():
            column = WHOLE if name == SEPARABLE else name
            watches[column] = Stopwatch(_woken(loaded.call), loaded.call)
        for watch in watches.values():
            watch.first()
        apart = engine_real.difference(loads[SEPARABLE].result(), wanted)
        if not apart <= allowed:
            raise WrongResultError(f"{network.title}: ours is {apart:.1e} of the largest output away")
        interleave(list(watches.values()), effort)
    cells = [least_cell(name, watch) for name, watch in watches.items()]
    return Row(network.title, 1, cells), stream.macs / stream.window_macs


def _hops(network: SlidingNetwork, stream: Any, program: Any) -> Callable[[], object]:
    """Return a call that goes on by one hop; what it returns was compared with whole windows."""
    axis = network.axis
    shape = list(network.shape)
    shape[axis] += HOPS * network.hop
    signal = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    length = network.shape[axis]
    ends = [length + network.hop * (number + 1) for number in range(HOPS)]
    pieces = [np.ascontiguousarray(np.take(signal, range(end - network.hop, end), axis)) for end in ends]
    result = stream.start(np.take(signal, range(length), axis))
    for piece in pieces:
        result = stream(piece)
    whole = program(np.take(signal, range(ends[-1] - length, ends[-1]), axis))
    off = engine_real.difference({"y": result}, {"y": whole})
    if not off <= engine_real.OFF:
        raise WrongResultError(f"{network.title}: the stream is {off:.1e} of the largest output away")
    turn = itertools.cycle(pieces)
    return lambda: stream(next(turn))


def _woken(call: Callable[[], object]) -> Callable[[], None]:
    """Return what lets other runtimes' threads fall asleep, then warms the caches."""

    def prepare() -> None:
        time.sleep(REST_SECONDS)
        call()

    return prepare


def _gain(row: Row, share: float) -> Quantity:
    """Return how much less time a hop takes than a whole window, beside the multiplications that it saves."""
    stream, whole = row.seconds(SEPARABLE), row.seconds(WHOLE)
    assert stream is not None
    assert whole is not None
    gain = whole / stream
    note = f"{1 / share:.1f}x fewer multiplications"
    return Quantity(f"stream, {row.label}", gain, gain, gain, "x", None, note)
