"""Random networks for tests of the engine: convolutions of all kinds, and what networks put between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from engine_nets import GraphNet

from separable.engine.graph.ir import Graph

Shape = tuple[int, ...]  # without the batch

ACTIVATIONS = [
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
    *("Elu", "Gelu", "Mish", "Softplus", "PRelu", "Abs", "silu"),
]


class RandomNet:
    """A network as it grows: tensors are kept with their shapes; each step takes some and makes more."""

    def __init__(self, seed: int, axes: int = 2) -> None:
        self.random = np.random.default_rng([17, seed])
        self.net = GraphNet(seed, np.float32)
        self.axes = 1 if self.random.random() < 0.2 and axes == 2 else axes
        channels = int(self.random.choice([1, 3, 4, 8, 16, 17, 24, 32, 40]))
        spatial = self.random.integers(
            *((1, 5) if self.random.random() < 0.2 else (5, 22 if axes == 2 else 10)), self.axes
        )
        self.maps: list[tuple[str, Shape]] = []
        self._keep(self.net.input("n", channels, *map(int, spatial)), (channels, *map(int, spatial)))

    def graph(self, steps: int) -> Graph:
        """Return a network of some steps; the last tensors are its outputs."""
        kinds: list[Callable[[str, Shape], None]] = [
            *(self._conv, self._conv, self._conv, self._depthwise, self._inverted, self._separable),
            *(self._grouped, self._pool, self._activation, self._residual, self._concat, self._split),
            *(self._squeeze_excite, self._norm, self._broadcast, self._resize, self._pad, self._slice),
            *(self._shuffle, self._turned, self._transposed, self._instance_norm, self._softmax),
        ]
        for _ in range(steps):
            name, shape = self.maps[-1] if self.random.random() < 0.8 else self._any()
            kinds[int(self.random.integers(len(kinds)))](name, shape)
        outputs = [self._head(*self.maps[-1])] if self.random.random() < 0.5 else [self.maps[-1][0]]
        other = self._any()[0]
        if self.random.random() < 0.3 and other != "x" and other not in outputs:
            outputs.append(other)
        return self.net.graph(*outputs, typed=False)

    # -- a step each -------------------------------------------------------------------------------------

    def _conv(self, name: str, shape: Shape) -> None:
        pointwise = self.random.random() < 0.4
        kernel = [1] * self.axes if pointwise else self._kernel(shape)
        self._convolve(name, shape, self._width(), kernel)

    def _depthwise(self, name: str, shape: Shape) -> None:
        times = int(self.random.choice([1, 1, 1, 2]))
        self._convolve(name, shape, shape[0] * times, self._kernel(shape), group=shape[0])

    def _grouped(self, name: str, shape: Shape) -> None:
        groups = int(self.random.choice([g for g in (1, 2, 3, 4, 8) if shape[0] % g == 0]))
        width = groups * int(self.random.integers(1, 9))
        self._convolve(name, shape, width, self._kernel(shape), group=groups)

    def _separable(self, name: str, shape: Shape) -> None:
        self._depthwise(name, shape)
        self._activated()
        self._convolve(*self.maps[-1], self._width(), [1] * self.axes)
        self._activated()

    def _inverted(self, name: str, shape: Shape) -> None:
        wide = shape[0] * int(self.random.integers(1, 5))
        self._convolve(name, shape, wide, [1] * self.axes)
        self._activated()
        kernel = int(self.random.choice([3, 5]))
        pads = [kernel // 2] * (2 * self.axes)
        self._convolve(*self.maps[-1], wide, [kernel] * self.axes, group=wide, plain=pads)
        self._activated()
        if self.random.random() < 0.4:
            self._squeeze_excite(*self.maps[-1])
        self._convolve(*self.maps[-1], shape[0], [1] * self.axes)
        if self.maps[-1][1] == shape:
            self._keep(self.net.node("Add", self.maps[-1][0], name), shape)

    def _squeeze_excite(self, name: str, shape: Shape) -> None:
        x = self._mean(name, shape)
        inner = max(1, shape[0] // 4)
        x = self._dense(x, shape[0], inner)
        x = self.net.node(self._pick(["Relu", "HardSwish"]), x)
        x = self._dense(x, inner, shape[0])
        gate = self.net.node(self._pick(["Sigmoid", "HardSigmoid"]), x)
        self._keep(self.net.node("Mul", name, gate), shape)

    def _norm(self, name: str, shape: Shape) -> None:
        self._keep(self.net.norm(name, shape[0]), shape)

    def _instance_norm(self, name: str, shape: Shape) -> None:
        if math.prod(shape[1:]) > 4:
            more = [self.net.normal(shape[0]) for _ in range(2)]
            self._keep(self.net.node("InstanceNormalization", name, *more, epsilon=0.1), shape)

    def _activation(self, name: str, shape: Shape) -> None:
        self._keep(self._activate(name), shape)

    def _residual(self, name: str, shape: Shape) -> None:
        same = [other for other, its in self.maps if its == shape and other != name]
        if same:
            other = self._pick(same)
            self._keep(self.net.node(self._pick(["Add", "Add", "Sub", "Mul", "Max"]), name, other), shape)
            self._activated()

    def _concat(self, name: str, shape: Shape) -> None:
        fitting = [(other, its) for other, its in self.maps if its[1:] == shape[1:]]
        chosen = [self._pick(fitting) for _ in range(int(self.random.integers(1, 3)))]
        channels = shape[0] + sum(its[0] for _, its in chosen)
        if channels <= 160:
            made = self.net.node("Concat", name, *(other for other, _ in chosen), axis=1)
            self._keep(made, (channels, *shape[1:]))

    def _split(self, name: str, shape: Shape) -> None:
        if shape[0] < 2:
            return
        first = int(self.random.integers(1, shape[0])) if self.random.random() < 0.5 else shape[0] // 2
        sizes = self.net.integers(first, shape[0] - first)
        parts = self.net.node("Split", name, sizes, outputs=2, axis=1)
        for part, channels in zip(parts, (first, shape[0] - first), strict=True):
            self._keep(part, (channels, *shape[1:]))

    def _broadcast(self, name: str, shape: Shape) -> None:
        kept = [n if self.random.random() < 0.5 else 1 for n in shape]
        first = 0 if self.random.random() < 0.7 else int(self.random.integers(0, len(kept)))
        values = self.random.uniform(0.5, 1.5, [1] * (first == 0) + kept[first:])
        operands = [name, self.net.constant(values.astype(np.float32))]
        if self.random.random() < 0.3:
            operands.reverse()
        self._keep(self.net.node(self._pick(["Add", "Mul", "Sub", "Min", "Max"]), *operands), shape)

    def _pool(self, name: str, shape: Shape) -> None:
        kernel = [min(int(self.random.integers(1, 4)), n) for n in shape[1:]]
        strides = [int(self.random.integers(1, 3)) for _ in kernel]
        pads = [int(self.random.integers(0, k // 2 + 1)) for k in kernel] * 2
        op = self._pick(["MaxPool", "AveragePool"])
        more: dict[str, Any] = {"kernel_shape": tuple(kernel), "strides": tuple(strides), "pads": tuple(pads)}
        if self.random.random() < 0.3:
            more["ceil_mode"] = 1
        if op == "AveragePool" and self.random.random() < 0.5:
            more["count_include_pad"] = 1
        self._keep(self.net.node(op, name, **more), self._pooled(shape, more))

    def _pooled(self, shape: Shape, more: dict[str, Any]) -> Shape:
        out = []
        for axis, length in enumerate(shape[1:]):
            kernel, stride = more["kernel_shape"][axis], more["strides"][axis]
            low, high = more["pads"][axis], more["pads"][len(shape) - 1 + axis]
            room = length + low + high - kernel
            count = (-(-room // stride) if "ceil_mode" in more else room // stride) + 1
            if "ceil_mode" in more and (count - 1) * stride >= length + low:
                count -= 1
            out.append(count)
        return (shape[0], *out)

    def _resize(self, name: str, shape: Shape) -> None:
        factors = [int(self.random.integers(1, 3)) for _ in shape[1:]]
        if math.prod(shape[1:]) * math.prod(factors) > 900:
            return
        scales = self.net.constant(np.array([1, 1, *factors], np.float32))
        mode = self._pick(["nearest", "linear", "cubic"])
        where = self._pick(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
        more = {"mode": mode, "coordinate_transformation_mode": where, "nearest_mode": "floor"}
        made = self.net.node("Resize", name, "", scales, **more)
        self._keep(made, (shape[0], *(n * f for n, f in zip(shape[1:], factors, strict=True))))

    def _pad(self, name: str, shape: Shape) -> None:
        low, high = ([int(self.random.integers(0, 3)) for _ in shape[1:]] for _ in range(2))
        mode = self._pick(["constant", "edge", "reflect"])
        if mode == "reflect" and min(shape[1:]) < 3:
            return
        pads = self.net.integers(0, 0, *low, 0, 0, *high)
        made = self.net.node("Pad", name, pads, mode=mode)
        self._keep(made, (shape[0], *(n + a + b for n, a, b in zip(shape[1:], low, high, strict=True))))

    def _slice(self, name: str, shape: Shape) -> None:
        axis = int(self.random.integers(len(shape)))
        length = shape[axis]
        start, step = int(self.random.integers(0, length)), int(self.random.integers(1, 3))
        count = -(-(length - start) // step)
        if count < (5 if axis else 1):
            return
        cut = [self.net.integers(each) for each in (start, length, axis + 1, step)]
        self._keep(self.net.node("Slice", name, *cut), (*shape[:axis], count, *shape[axis + 1 :]))

    def _shuffle(self, name: str, shape: Shape) -> None:
        groups = int(self.random.choice([g for g in (1, 2, 4) if shape[0] % g == 0]))
        apart = self.net.integers(0, groups, shape[0] // groups, *shape[1:])
        x = self.net.node("Reshape", name, apart)
        order = (0, 2, 1, *range(3, len(shape) + 2))
        x = self.net.node("Transpose", x, perm=order)
        self._keep(self.net.node("Reshape", x, self.net.integers(0, *shape)), shape)

    def _turned(self, name: str, shape: Shape) -> None:
        """Do something with the channels at the end."""
        rank = len(shape) + 1
        x = self.net.node("Transpose", name, perm=(0, *range(2, rank), 1))
        weights = self.net.constant(self.net.random.standard_normal((shape[0], shape[0])) / shape[0])
        x = self.net.node("MatMul", x, weights)
        if self.random.random() < 0.5:
            x = self.net.node("LayerNormalization", x, self.net.normal(shape[0]), axis=-1, epsilon=0.1)
        self._keep(self.net.node("Transpose", x, perm=(0, rank - 1, *range(1, rank - 1))), shape)

    def _softmax(self, name: str, shape: Shape) -> None:
        self._keep(self.net.node("Softmax", name, axis=int(self.random.integers(1, len(shape) + 1))), shape)

    def _transposed(self, name: str, shape: Shape) -> None:
        kernel, strides = (self.random.integers(1, 4, self.axes).tolist() for _ in range(2))
        group = int(self.random.choice([1, shape[0]]))
        width = int(self.random.integers(1, 13)) if group == 1 else 1
        pads = [min(int(self.random.integers(0, 2)), k - 1) for k in kernel] * 2
        out = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(shape[1:], strides, kernel, pads, strict=False)]
        if min(out) < 5 or math.prod(out) > 900:
            return
        weights = self._weights(shape[0], width, kernel, shape[0] // group)
        bias = self.net.normal(width * group)
        more = {"kernel_shape": tuple(kernel), "strides": tuple(strides), "pads": tuple(pads), "group": group}
        made = self.net.node("ConvTranspose", name, weights, bias, **more)
        self._keep(made, (width * group, *out))

    # -- what they are made of ---------------------------------------------------------------------------

    def _convolve(self, name: str, shape: Shape, width: int, kernel: list[int], **more: Any) -> None:
        group = more.get("group", 1)
        strides, dilations = [1] * self.axes, [1] * self.axes
        pads = more.get("plain")
        if pads is None:
            strides = [int(self.random.choice([1, 1, 2])) for _ in kernel]
            dilations = [int(self.random.choice([1, 1, 1, 2])) if k > 1 else 1 for k in kernel]
            reach = [k * d // 2 for k, d in zip(kernel, dilations, strict=True)]
            pads = [int(self.random.integers(0, each + 1)) for each in (*reach, *reach)]
        out = []
        for i, length in enumerate(shape[1:]):
            room = length + pads[i] + pads[self.axes + i] - (kernel[i] - 1) * dilations[i] - 1
            out.append(room // strides[i] + 1)
        if min(out) < 1:
            return
        inner = shape[0] // group
        weights = self._weights(width, inner, kernel, inner)
        biases = [self.net.normal(width)] if self.random.random() < 0.7 else []
        made = self.net.node(
            *("Conv", name, weights, *biases),
            kernel_shape=tuple(kernel),
            strides=tuple(strides),
            dilations=tuple(dilations),
            pads=tuple(pads),
            group=group,
        )
        self._keep(made, (width, *out))
        if self.random.random() < 0.3:
            self._norm(*self.maps[-1])
        if self.random.random() < 0.4:
            self._activated()

    def _weights(self, first: int, second: int, kernel: list[int], inner: int) -> str:
        scale = 1 / math.sqrt(inner * math.prod(kernel))
        return self.net.constant(self.net.random.standard_normal((first, second, *kernel)) * scale)

    def _mean(self, name: str, shape: Shape) -> Any:
        if self.random.random() < 0.5:
            return self.net.node("GlobalAveragePool", name)
        axes = self.net.integers(*range(2, len(shape) + 1))
        return self.net.node("ReduceMean", name, axes, keepdims=1)

    def _dense(self, x: str, inner: int, width: int) -> str:
        ones = [1] * self.axes
        weights = self._weights(width, inner, ones, inner)
        more = {"kernel_shape": tuple(ones), "strides": tuple(ones), "dilations": tuple(ones)}
        pads = (0,) * (2 * self.axes)
        return str(self.net.node("Conv", x, weights, self.net.normal(width), **more, pads=pads, group=1))

    def _head(self, name: str, shape: Shape) -> str:
        x = self._mean(name, shape)
        x = self.net.node("Flatten", x, axis=1)
        weights = self.net.constant(self.net.random.standard_normal((shape[0], 11)) / math.sqrt(shape[0]))
        x = self.net.node("Gemm", x, weights, self.net.normal(11))
        return str(self.net.node("Softmax", x, axis=-1) if self.random.random() < 0.5 else x)

    def _activate(self, name: str) -> str:
        op = self._pick(ACTIVATIONS)
        if op == "Clip":
            low, high = (self.net.constant(np.float32(each)) for each in (0, 6))
            return str(self.net.node("Clip", name, low, high))
        if op == "PRelu":
            return str(self.net.node("PRelu", name, self.net.constant(np.float32([0.3]))))
        if op == "silu":
            return str(self.net.node("Mul", name, self.net.node("Sigmoid", name)))
        return str(self.net.node(op, name))

    def _activated(self) -> None:
        if self.random.random() < 0.8:
            name, shape = self.maps[-1]
            self._keep(self._activate(name), shape)

    def _kernel(self, shape: Shape) -> list[int]:
        return [int(self.random.choice([1, 2, 3, 3, 3, 5])) for _ in shape[1:]]

    def _width(self) -> int:
        return int(self.random.choice([1, 3, 8, 12, 16, 20, 32, 48, 64]))

    def _any(self) -> tuple[str, Shape]:
        return self._pick(self.maps)

    def _pick(self, choices: list[Any]) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def _keep(self, name: Any, shape: Shape) -> None:
        self.maps.append((str(name), shape))


def random_graph(seed: int, axes: int = 2) -> Graph:
    """Return the random network of a seed: its input `x` has an open first length."""
    net = RandomNet(seed, axes)
    return net.graph(int(net.random.integers(2, 12)))
