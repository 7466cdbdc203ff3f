"""The parts of the benchmarks' networks, as plain torch modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["relu", "relu6", "silu", "hard-swish", "none"]


class HardSwish(nn.Module):
    """The activation of MobileNetV3; exporters write one operator for it, or what it is made of."""

    spelt = False  # as four operators

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x * clip(x + 3, 0, 6) / 6``."""
        return x * functional.relu6(x + 3) / 6 if self.spelt else functional.hardswish(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard-swish": HardSwish,
    "none": nn.Identity,
}


def same_padding(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Return TensorFlow's padding "SAME" in torch's order: last axis first, before and after."""
    pads: list[int] = []
    for size, taps, step in zip(reversed(sizes), reversed(kernel), reversed(stride), strict=True):
        total = max(0, (-(-size // step) - 1) * step + taps - size)
        pads += [total // 2, total - total // 2]
    return pads


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    activation: Activation = "relu",
    groups: int = 1,
    padding: int | None = None,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Return convolution, batch norm, activation; the padding keeps the size of stride 1."""
    pad = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps),
    ]
    if activation != "none":
        layers.append(ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


def depthwise(
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    activation: Activation = "relu",
    eps: float = 1e-5,
) -> nn.Sequential:
    """Return a depthwise convolution with its batch norm and activation."""
    return conv(channels, channels, kernel, stride, activation, channels, eps=eps)


class SqueezeExcite(nn.Module):
    """Channels scaled by what two small layers make of their means."""

    def __init__(self, channels: int, squeezed: int, activation: Activation, gate: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            ACTIVATIONS[activation](),
            nn.Conv2d(squeezed, channels, 1),
            gate,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` scaled."""
        scaled: Tensor = x * self.layers(x)
        return scaled


class Residual(nn.Module):
    """A branch added to its input, or to what a shortcut makes of it; then an activation."""

    def __init__(
        self, branch: nn.Module, shortcut: nn.Module | None = None, activation: Activation = "none"
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of the sum."""
        y: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return y


class Shuffled(nn.Module):
    """A unit of ShuffleNetV2: halves of the channels, one of them convolved, interleaved again."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.halves = stride == 1  # else both branches see all channels
        first = half if self.halves else inputs
        self.branch = nn.Sequential(
            conv(first, half), depthwise(half, 3, stride, "none"), conv(half, half, activation="relu")
        )
        self.other = (
            nn.Identity()
            if self.halves
            else nn.Sequential(depthwise(inputs, 3, stride, "none"), conv(inputs, half))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return both halves, shuffled in two groups."""
        kept, taken = x.chunk(2, dim=1) if self.halves else (x, x)
        y = torch.cat([self.other(kept), self.branch(taken)], dim=1)
        channels, height, width = y.shape[1:]
        pairs = y.reshape(-1, 2, channels // 2, height, width).transpose(1, 2)
        return pairs.reshape(-1, channels, height, width)


class Head(nn.Module):
    """Global mean and what follows it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return one row an image."""
        y: Tensor = self.layers(torch.flatten(self.pool(x), 1))
        return y


class Split(nn.Module):
    """YOLO's C2f: half of the channels passes through a chain, all of whose stages are kept side by side."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.first = conv(inputs, outputs, activation="silu")
        pairs = [
            nn.Sequential(conv(half, half, 3, activation="silu"), conv(half, half, 3, activation="silu"))
            for _ in range(depth)
        ]
        self.chain = nn.ModuleList([Residual(pair) if residual else pair for pair in pairs])
        self.last = conv((2 + depth) * half, outputs, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last convolution makes of all stages."""
        stages = list(self.first(x).chunk(2, dim=1))
        for link in self.chain:
            stages.append(link(stages[-1]))
        y: Tensor = self.last(torch.cat(stages, dim=1))
        return y


class PyramidPool(nn.Module):
    """YOLO's SPPF: the same max pool up to three times, all results side by side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels // 2, activation="silu")
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.last = conv(2 * channels, channels, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        """Return what the last convolution makes of all of them."""
        stages = [self.first(x)]
        for _ in range(3):
            stages.append(self.pool(stages[-1]))
        y: Tensor = self.last(torch.cat(stages, dim=1))
        return y
