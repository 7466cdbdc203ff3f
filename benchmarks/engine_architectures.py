"""The networks whose time is compared, as published, written as plain torch modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.engine_blocks import (
    ACTIVATIONS,
    Activation,
    Head,
    PyramidPool,
    Residual,
    Shuffled,
    Split,
    SqueezeExcite,
    conv,
    depthwise,
    same_padding,
)

CLASSES = 1000  # of ImageNet
KEYWORDS = 12  # of the speech commands, "silence" and "unknown" among them


def mobilenet_v1() -> nn.Module:
    """Howard et al., 2017, arXiv 1704.04861: width 1.0."""
    widths = (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
    strides = (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)
    layers, inputs = [conv(3, 32, 3, 2, "relu6")], 32
    for outputs, stride in zip(widths, strides, strict=True):
        layers += [depthwise(inputs, 3, stride, "relu6"), conv(inputs, outputs, activation="relu6")]
        inputs = outputs
    return nn.Sequential(*layers, Head(nn.Linear(inputs, CLASSES)))


def _inverted(
    inputs: int,
    expanded: int,
    outputs: int,
    kernel: int,
    stride: int,
    activation: Activation,
    excite: nn.Module | None = None,
    eps: float = 1e-5,
) -> nn.Module:
    """Return an inverted residual: expansion, depthwise, squeeze-excite, projection."""
    layers: list[nn.Module] = []
    if expanded != inputs:
        layers.append(conv(inputs, expanded, activation=activation, eps=eps))
    layers.append(depthwise(expanded, kernel, stride, activation, eps))
    if excite is not None:
        layers.append(excite)
    layers.append(conv(expanded, outputs, activation="none", eps=eps))
    branch = nn.Sequential(*layers)
    return Residual(branch) if stride == 1 and inputs == outputs else branch


def mobilenet_v2() -> nn.Module:
    """Sandler et al., 2018, arXiv 1801.04381: width 1.0."""
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    layers: list[nn.Module] = [conv(3, 32, 3, 2, "relu6")]
    inputs = 32
    for ratio, outputs, count, stride in stages:
        for number in range(count):
            step = stride if number == 0 else 1
            layers.append(_inverted(inputs, ratio * inputs, outputs, 3, step, "relu6"))
            inputs = outputs
    return nn.Sequential(*layers, conv(inputs, 1280, activation="relu6"), Head(nn.Linear(1280, CLASSES)))


def mobilenet_v3_large() -> nn.Module:
    """Howard et al., 2019, arXiv 1905.02244: "Large", width 1.0."""
    hard: Activation = "hard-swish"
    blocks: list[tuple[int, int, int, bool, Activation, int]] = [
        (3, 16, 16, False, "relu", 1),
        (3, 64, 24, False, "relu", 2),
        (3, 72, 24, False, "relu", 1),
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
        (3, 240, 80, False, hard, 2),
        (3, 200, 80, False, hard, 1),
        (3, 184, 80, False, hard, 1),
        (3, 184, 80, False, hard, 1),
        (3, 480, 112, True, hard, 1),
        (3, 672, 112, True, hard, 1),
        (5, 672, 160, True, hard, 2),
        (5, 960, 160, True, hard, 1),
        (5, 960, 160, True, hard, 1),
    ]
    eps = 1e-3
    layers: list[nn.Module] = [conv(3, 16, 3, 2, hard, eps=eps)]
    inputs = 16
    for kernel, expanded, outputs, excited, activation, stride in blocks:
        squeezed = _multiple_of_8(expanded / 4)
        excite = SqueezeExcite(expanded, squeezed, "relu", nn.Hardsigmoid()) if excited else None
        layers.append(_inverted(inputs, expanded, outputs, kernel, stride, activation, excite, eps))
        inputs = outputs
    head = Head(nn.Linear(960, 1280), ACTIVATIONS[hard](), nn.Linear(1280, CLASSES))
    return nn.Sequential(*layers, conv(inputs, 960, activation=hard, eps=eps), head)


def _multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8 that is not a tenth less, as the papers round widths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def efficientnet_b0() -> nn.Module:
    """Tan and Le, 2019, arXiv 1905.11946."""
    stages = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ]
    layers: list[nn.Module] = [conv(3, 32, 3, 2, "silu")]
    inputs = 32
    for ratio, kernel, stride, outputs, count in stages:
        for number in range(count):
            expanded, step = ratio * inputs, stride if number == 0 else 1
            excite = SqueezeExcite(expanded, inputs // 4, "silu", nn.Sigmoid())
            layers.append(_inverted(inputs, expanded, outputs, kernel, step, "silu", excite))
            inputs = outputs
    return nn.Sequential(*layers, conv(inputs, 1280, activation="silu"), Head(nn.Linear(1280, CLASSES)))


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    """Return Xception's separable convolution: nothing stands between its halves."""
    return [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def xception() -> nn.Module:
    """Chollet, 2017, arXiv 1610.02357."""
    layers: list[nn.Module] = [conv(3, 32, 3, 2, padding=0), conv(32, 64, 3, padding=0)]
    for inputs, outputs, first in ((64, 128, False), (128, 256, True), (256, 728, True)):
        layers.append(_xception_down(inputs, outputs, outputs, first))
    for _ in range(8):
        branch: list[nn.Module] = []
        for _ in range(3):
            branch += [nn.ReLU(), *_separable(728, 728)]
        layers.append(Residual(nn.Sequential(*branch)))
    layers.append(_xception_down(728, 728, 1024, True))
    layers += [*_separable(1024, 1536), nn.ReLU(), *_separable(1536, 2048), nn.ReLU()]
    return nn.Sequential(*layers, Head(nn.Linear(2048, CLASSES)))


def _xception_down(inputs: int, middle: int, outputs: int, activated: bool) -> nn.Module:
    branch = [
        *([nn.ReLU()] if activated else []),
        *_separable(inputs, middle),
        nn.ReLU(),
        *_separable(middle, outputs),
        nn.MaxPool2d(3, 2, 1),
    ]
    return Residual(nn.Sequential(*branch), conv(inputs, outputs, 1, 2, "none"))


def ds_cnn(size: str) -> Callable[[], nn.Module]:
    """Zhang et al., 2017, "Hello Edge", arXiv 1711.07128: "S", "M" or "L", on 49 x 10 coefficients."""
    channels, blocks, steps = {
        "S": (64, 4, ((2, 2), (1, 1))),
        "M": (172, 4, ((2, 1), (2, 2))),
        "L": (276, 5, ((2, 1), (2, 2))),
    }[size]

    def build() -> nn.Module:
        sizes, inputs = (49, 10), 1
        layers: list[nn.Module] = []
        for number in range(blocks + 1):
            kernel, stride = ((10, 4) if number == 0 else (3, 3)), steps[number] if number < 2 else (1, 1)
            layers.append(nn.ZeroPad2d(tuple(same_padding(sizes, kernel, stride))))  # type: ignore[arg-type]
            groups = inputs  # 1 in the first layer, which is an ordinary convolution
            layers += [nn.Conv2d(inputs, channels, kernel, stride, groups=groups, bias=False)]
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            if number > 0:
                layers.append(conv(channels, channels))
            sizes = (-(-sizes[0] // stride[0]), -(-sizes[1] // stride[1]))
            inputs = channels
        return nn.Sequential(*layers, Head(nn.Linear(channels, KEYWORDS)))

    return build


def _line(
    inputs: int,
    outputs: int,
    taps: int,
    stride: int = 1,
    dilation: int = 1,
    activated: bool = True,
) -> list[nn.Module]:
    """Return a separable convolution along time."""
    padding = dilation * (taps // 2)
    depth = nn.Conv1d(inputs, inputs, taps, stride, padding, dilation, groups=inputs, bias=False)
    point = nn.Conv1d(inputs, outputs, 1, bias=False)
    return [depth, point, nn.BatchNorm1d(outputs), *([nn.ReLU()] if activated else [])]


def _line_block(inputs: int, outputs: int, taps: int, repeats: int) -> nn.Module:
    branch: list[nn.Module] = []
    for number in range(repeats):
        source = inputs if number == 0 else outputs
        branch += _line(source, outputs, taps, activated=number < repeats - 1)
    shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs))
    return Residual(nn.Sequential(*branch), shortcut, "relu")


def matchboxnet() -> nn.Module:
    """Majumdar and Ginsburg, 2020, arXiv 2004.08531: 3 x 2 x 64, on 64 mel bands."""
    layers = _line(64, 128, 11)
    inputs = 128
    for taps in (13, 15, 17):
        layers.append(_line_block(inputs, 64, taps, 2))
        inputs = 64
    layers += _line(64, 128, 29, dilation=2)
    layers += [nn.Conv1d(128, 128, 1, bias=False), nn.BatchNorm1d(128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(128, 30, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def quartznet() -> nn.Module:
    """Kriman et al., 2019, arXiv 1910.10261: 5 x 5, on 64 mel bands."""
    layers = _line(64, 256, 33, stride=2)
    inputs = 256
    for outputs, taps in ((256, 33), (256, 39), (512, 51), (512, 63), (512, 75)):
        layers.append(_line_block(inputs, outputs, taps, 5))
        inputs = outputs
    layers += _line(512, 512, 87, dilation=2)
    layers += [nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(1024, 29, 1))


def resnet(counts: Sequence[int], bottleneck: bool) -> Callable[[], nn.Module]:
    """He et al., 2015, arXiv 1512.03385; a bottleneck has its stride in the 3 x 3 convolution."""

    def block(inputs: int, width: int, stride: int) -> nn.Module:
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            parts = [
                conv(inputs, width),
                conv(width, width, 3, stride),
                conv(width, outputs, activation="none"),
            ]
        else:
            parts = [conv(inputs, width, 3, stride), conv(width, outputs, 3, activation="none")]
        shortcut = conv(inputs, outputs, 1, stride, "none") if stride > 1 or inputs != outputs else None
        return Residual(nn.Sequential(*parts), shortcut, "relu")

    def build() -> nn.Module:
        layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, count in enumerate(counts):
            width = 64 << stage
            for number in range(count):
                layers.append(block(inputs, width, 2 if number == 0 and stage > 0 else 1))
                inputs = 4 * width if bottleneck else width
        return nn.Sequential(*layers, Head(nn.Linear(inputs, CLASSES)))

    return build


def vgg16() -> nn.Module:
    """Simonyan and Zisserman, 2014, arXiv 1409.1556: configuration D, without batch norms."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, CLASSES))


def shufflenet_v2() -> nn.Module:
    """Ma et al., 2018, arXiv 1807.11164: x1.0."""
    layers: list[nn.Module] = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 24
    for outputs, count in ((116, 4), (232, 8), (464, 4)):
        for number in range(count):
            layers.append(Shuffled(inputs, outputs, 2 if number == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, conv(inputs, 1024), Head(nn.Linear(1024, CLASSES)))


class Detector(nn.Module):
    """A small detector in the manner of YOLOv8n: backbone, neck that goes up and down, three heads."""

    def __init__(self, width: int = 16, outputs: int = 84) -> None:
        super().__init__()
        a, b, c, d, e = (width << step for step in range(5))
        self.stem = nn.Sequential(conv(3, a, 3, 2, "silu"), conv(a, b, 3, 2, "silu"), Split(b, b, 1, True))
        self.middle = nn.Sequential(conv(b, c, 3, 2, "silu"), Split(c, c, 2, True))
        self.deep = nn.Sequential(conv(c, d, 3, 2, "silu"), Split(d, d, 2, True))
        self.deepest = nn.Sequential(conv(d, e, 3, 2, "silu"), Split(e, e, 1, True), PyramidPool(e))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up_deep, self.up_middle = Split(d + e, d, 1, False), Split(c + d, c, 1, False)
        self.down_middle, self.down_deep = conv(c, c, 3, 2, "silu"), conv(d, d, 3, 2, "silu")
        self.join_deep, self.join_deepest = Split(c + d, d, 1, False), Split(d + e, e, 1, False)
        self.heads = nn.ModuleList(
            nn.Sequential(conv(each, c, 3, activation="silu"), nn.Conv2d(c, outputs, 1)) for each in (c, d, e)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one column of outputs for each place of each scale."""
        middle = self.middle(self.stem(x))
        deep = self.deep(middle)
        deepest = self.deepest(deep)
        deep = self.up_deep(torch.cat([self.up(deepest), deep], 1))
        fine = self.up_middle(torch.cat([self.up(deep), middle], 1))
        coarse = self.join_deep(torch.cat([self.down_middle(fine), deep], 1))
        coarsest = self.join_deepest(torch.cat([self.down_deep(coarse), deepest], 1))
        scales = zip(self.heads, (fine, coarse, coarsest), strict=True)
        return torch.cat([head(scale).flatten(2) for head, scale in scales], 2)


class UNet(nn.Module):
    """Ronneberger et al., 2015, arXiv 1505.04597, of a quarter of the width, with resizing on the way up."""

    def __init__(self, width: int = 16, levels: int = 4, outputs: int = 2) -> None:
        super().__init__()
        widths = [width << level for level in range(levels + 1)]
        self.down = nn.ModuleList(_twice(a, b) for a, b in itertools.pairwise([3, *widths]))
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        pairs = list(itertools.pairwise(widths))[::-1]
        self.join = nn.ModuleList(_twice(a + b, a) for a, b in pairs)
        self.last = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of the samples of an image."""
        kept: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else self.pool(x))
            kept.append(x)
        kept.pop()
        for join in self.join:
            x = join(torch.cat([kept.pop(), self.up(x)], 1))
        y: Tensor = self.last(x)
        return y


def _twice(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        conv(inputs, outputs, 3, activation="silu"), conv(outputs, outputs, 3, activation="silu")
    )
