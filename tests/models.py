"""Networks with published counts, in plain torch: from the tables of their papers, nothing trained.

The channels are those of the papers; batch norms are there because published parameters count their affine
part. Padding is half a kernel where the papers say "same": at stride 2 it gives the same sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Residual(nn.Module):
    """``body(x) + shortcut(x)``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class SqueezeExcite(nn.Module):
    """Scales channels by a gate that sees their means."""

    def __init__(self, channels: int, squeezed: int, act: Activation, gate: Activation) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            act(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def divisible(channels: float, by: int = 8) -> int:
    """Round to a multiple of `by`, never down by more than a tenth (MobileNetV2's reference code)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    act: Activation | None = nn.ReLU,
) -> list[nn.Module]:
    """Return a convolution, its batch norm, and an activation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), *([act()] if act else [])]


def head(*layers: nn.Module) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers]


def mobilenet_v1(width: float = 1.0, dense: bool = False) -> nn.Module:
    """arXiv:1704.04861, table 1; `dense` is its table 4: full convolutions, counted without batch norms."""
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    channels = int(32 * width)
    layers = conv(3, channels, 3, 2)
    for outputs, stride in rows:
        wide = int(outputs * width)
        if dense:
            layers += conv(channels, wide, 3, stride)
        else:
            layers += [*conv(channels, channels, 3, stride, groups=channels), *conv(channels, wide)]
        channels = wide
    if dense:
        layers = [layer for layer in layers if not isinstance(layer, nn.BatchNorm2d)]
    return nn.Sequential(*layers, *head(nn.Linear(channels, 1000)))


def inverted_residual(
    channels: int,
    expanded: int,
    outputs: int,
    kernel: int,
    stride: int,
    act: Activation,
    excite: nn.Module | None = None,
) -> nn.Module:
    body = nn.Sequential(
        *(conv(channels, expanded, act=act) if expanded != channels else []),
        *conv(expanded, expanded, kernel, stride, groups=expanded, act=act),
        *([excite] if excite else []),
        *conv(expanded, outputs, act=None),
    )
    return Residual(body) if stride == 1 and channels == outputs else body


def mobilenet_v2() -> nn.Module:
    """arXiv:1801.04381, table 2: expansion, channels, repeats, stride."""
    rows = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    channels, layers = 32, conv(3, 32, 3, 2, act=nn.ReLU6)
    for expansion, outputs, repeats, first in rows:
        for stride in (first, *[1] * (repeats - 1)):
            layers.append(inverted_residual(channels, expansion * channels, outputs, 3, stride, nn.ReLU6))
            channels = outputs
    return nn.Sequential(*layers, *conv(channels, 1280, act=nn.ReLU6), *head(nn.Linear(1280, 1000)))


def mobilenet_v3(size: str) -> nn.Module:
    """arXiv:1905.02244, tables 1 and 2: kernel, expanded, channels, squeeze-excite, hard-swish, stride."""
    large = """3 16 16 - R 1, 3 64 24 - R 2, 3 72 24 - R 1, 5 72 40 S R 2, 5 120 40 S R 1, 5 120 40 S R 1,
        3 240 80 - H 2, 3 200 80 - H 1, 3 184 80 - H 1, 3 184 80 - H 1, 3 480 112 S H 1, 3 672 112 S H 1,
        5 672 160 S H 2, 5 960 160 S H 1, 5 960 160 S H 1"""
    small = """3 16 16 S R 2, 3 72 24 - R 2, 3 88 24 - R 1, 5 96 40 S H 2, 5 240 40 S H 1, 5 240 40 S H 1,
        5 120 48 S H 1, 5 144 48 S H 1, 5 288 96 S H 2, 5 576 96 S H 1, 5 576 96 S H 1"""
    rows, hidden = {"large": (large, 1280), "small": (small, 1024)}[size]
    channels, layers, expanded = 16, conv(3, 16, 3, 2, act=nn.Hardswish), 0
    for kernel, expanded, outputs, squeeze, swish, stride in _rows(rows):
        act = nn.Hardswish if swish == "H" else nn.ReLU
        excite = (
            SqueezeExcite(expanded, divisible(expanded / 4), nn.ReLU, nn.Hardsigmoid)
            if squeeze == "S"
            else None
        )
        layers.append(inverted_residual(channels, expanded, outputs, kernel, stride, act, excite))
        channels = outputs
    layers += [*conv(channels, expanded, act=nn.Hardswish)]
    return nn.Sequential(*layers, *head(nn.Linear(expanded, hidden), nn.Hardswish(), nn.Linear(hidden, 1000)))


def _rows(text: str) -> list[tuple[int, int, int, str, str, int]]:
    fields = [row.split() for row in text.split(",")]
    return [(int(k), int(e), int(c), se, act, int(s)) for k, e, c, se, act, s in fields]


def separable(inputs: int, outputs: int) -> list[nn.Module]:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return [depthwise, *conv(inputs, outputs, act=None)]


def xception() -> nn.Module:
    """arXiv:1610.02357, figure 5, for 299x299."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((3, 32, 2), (32, 64, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    def shrinking(inputs: int, middle: int, outputs: int, first: bool = False) -> nn.Module:
        body = [] if first else [nn.ReLU()]
        body += [*separable(inputs, middle), nn.ReLU(), *separable(middle, outputs), nn.MaxPool2d(3, 2, 1)]
        return Residual(nn.Sequential(*body), nn.Sequential(*conv(inputs, outputs, 1, 2, act=None)))

    def middle() -> nn.Module:
        steps = [step for _ in range(3) for step in (nn.ReLU(), *separable(728, 728))]
        return Residual(nn.Sequential(*steps))

    layers += [shrinking(64, 128, 128, first=True), shrinking(128, 256, 256), shrinking(256, 728, 728)]
    layers += [middle() for _ in range(8)] + [shrinking(728, 728, 1024)]
    layers += [*separable(1024, 1536), nn.ReLU(), *separable(1536, 2048), nn.ReLU()]
    return nn.Sequential(*layers, *head(nn.Linear(2048, 1000)))


# Width, depth and resolution of EfficientNet-B0 to B7 (arXiv:1905.11946 and its reference code).
EFFICIENTNETS = [
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 300),
    (1.4, 1.8, 380),
    (1.6, 2.2, 456),
    (1.8, 2.6, 528),
    (2.0, 3.1, 600),
]


def efficientnet(number: int) -> nn.Module:
    """arXiv:1905.11946, table 1: repeats, kernel, stride, expansion, channels."""
    rows = [
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    ]
    width, depth, _ = EFFICIENTNETS[number]
    channels = divisible(32 * width)
    layers = conv(3, channels, 3, 2, act=nn.SiLU)
    for repeats, kernel, first, expansion, base in rows:
        outputs = divisible(base * width)
        for stride in (first, *[1] * (math.ceil(repeats * depth) - 1)):
            expanded = expansion * channels
            excite = SqueezeExcite(expanded, max(1, channels // 4), nn.SiLU, nn.Sigmoid)
            layers.append(inverted_residual(channels, expanded, outputs, kernel, stride, nn.SiLU, excite))
            channels = outputs
    wide = divisible(1280 * width)
    return nn.Sequential(*layers, *conv(channels, wide, act=nn.SiLU), *head(nn.Linear(wide, 1000)))


def ds_cnn(size: str) -> nn.Module:
    """arXiv:1711.07128 (Hello Edge), for 49x10 features and 12 words: batch norms folded into biases."""
    channels, first, strides = {
        "S": (64, (2, 2), [1, 1, 1, 1]),
        "M": (172, (2, 1), [2, 1, 1, 1]),
        "L": (276, (2, 1), [2, 1, 1, 1, 1]),
    }[size]
    # "Same" of the reference code: what is odd stands after the axis.
    padding = nn.ZeroPad2d((1, 1 if first[1] == 2 else 2, 4, 5))
    layers: list[nn.Module] = [padding, nn.Conv2d(1, channels, (10, 4), first), nn.ReLU()]
    for stride in strides:
        layers += [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels), nn.ReLU()]
        layers += [nn.Conv2d(channels, channels, 1), nn.ReLU()]
    return nn.Sequential(*layers, *head(nn.Linear(channels, 12)))


def on_meta(build: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """Build a network without memory for its weights."""
    with torch.device("meta"):
        return build(*arguments)


def image(size: int) -> Sequence[int]:
    return (1, 3, size, size)
