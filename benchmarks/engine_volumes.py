"""U-Nets over three axes: ours beside the runtimes that read ONNX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_networks, engine_real, libraries
from benchmarks.engine_files import Array
from benchmarks.engine_latency import GROUP, Progress
from benchmarks.results import SEPARABLE, Row, TableRecord
from benchmarks.timing import Effort

NAME: Final = "engine-volumes"
LEVELS, WIDTH, CLASSES, SEED = 2, 16, 4, 0  # halvings, channels of the first level, of the result


@dataclass(frozen=True)
class VolumeNetwork:
    """A U-Net of two halvings with random weights.

    Attributes
    ----------
    side : int
        Voxels, along each axis.
    separable : bool
        Whether its 3 x 3 x 3 convolutions but the first are depthwise, each before a pointwise one.
    """

    side: int
    separable: bool

    @property
    def title(self) -> str:
        """What it is called."""
        return f"U-Net over three axes, {'separable' if self.separable else 'dense'}"

    def path(self) -> Path:
        """Return its file, which is written if it was not yet."""
        name = f"volumes.{self.side}.{'separable' if self.separable else 'dense'}.onnx"
        return engine_networks.kept(name, lambda file: file.write_bytes(self._model().SerializeToString()))

    def sample(self, _: int) -> dict[str, Array]:
        """Return a random volume."""
        shape = (1, 1, *(self.side,) * 3)
        return {"x": np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)}

    def _model(self) -> Any:
        net = _Net()
        x = net.block("x", 1, WIDTH, separable=False)
        x, channels = net.block(x, WIDTH, WIDTH, self.separable), WIDTH
        kept = []
        for _ in range(LEVELS):
            kept.append((x, channels))
            x = net.node("MaxPool", x, kernel_shape=[2] * 3, strides=[2] * 3)
            x, channels = net.block(x, channels, 2 * channels, self.separable), 2 * channels
            x = net.block(x, channels, channels, self.separable)
        for skip, width in reversed(kept):
            x = net.node(
                "ConvTranspose", x, net.weights(channels, width, 2), kernel_shape=[2] * 3, strides=[2] * 3
            )
            x, channels = net.node("Concat", x, skip, axis=1), width
            x = net.block(x, 2 * channels, channels, self.separable)
            x = net.block(x, channels, channels, self.separable)
        return net.model(net.conv(x, channels, CLASSES, 1), self.side)


class _Net:
    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._held: list[Any] = []
        self._random = np.random.default_rng(SEED)

    def weights(self, first: int, second: int, kernel: int) -> str:
        from onnx import numpy_helper

        shape = (first, second, *(kernel,) * 3)
        values = self._random.standard_normal(shape) * (2 / (second * kernel**3)) ** 0.5
        self._held.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(self._held)}"))
        return f"w{len(self._held) - 1}"

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def conv(self, x: str, c_in: int, c_out: int, kernel: int, group: int = 1) -> str:
        weights = self.weights(c_out, c_in // group, kernel)
        return self.node("Conv", x, weights, pads=[kernel // 2] * 6, kernel_shape=[kernel] * 3, group=group)

    def block(self, x: str, c_in: int, c_out: int, separable: bool) -> str:
        if not separable:
            return self.node("Relu", self.conv(x, c_in, c_out, 3))
        x = self.node("Relu", self.conv(x, c_in, c_in, 3, c_in))
        return self.node("Relu", self.conv(x, c_in, c_out, 1))

    def model(self, y: str, side: int) -> Any:
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            "u_net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, *(side,) * 3))],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, (1, CLASSES, *(side,) * 3))],
            self._held,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS: Final = tuple(VolumeNetwork(side, separable) for side in (32, 64) for separable in (False, True))


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure each network on one thread, all runtimes interleaved.

    Raises
    ------
    WrongResultError
        If an output is further away from ONNX Runtime's than is allowed.
    """
    rows: list[Row] = []
    if libraries.load("onnxruntime") is not None and libraries.load("onnx") is not None:
        for network in [VolumeNetwork(16, True)] if quick else NETWORKS:
            progress(f"{NAME}: {network.title}")
            rows.append(engine_real.row(network, 0, effort or Effort(), engine_real.runtimes(only)))
    title = "U-Nets over three axes, one thread (least times)"
    ratios = [(row.label, engine_real.over_best_peer(row)) for row in rows]
    beside = [engine_real.ratio_of(label, ratio) for label, ratio in ratios if ratio is not None]
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, beside)
