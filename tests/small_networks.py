"""Small networks of every build, in plain torch, with numbers in them as training would leave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.models import Residual, inverted_residual

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def step(inputs: int, outputs: int, kernel: int = 3, ndim: int = 2, **options: Any) -> list[nn.Module]:
    """Return a convolution, its batch norm and a rectifier that overwrites."""
    options = {"padding": kernel // 2, "bias": False, **options}
    conv = CONVS[ndim](inputs, outputs, kernel, **options)
    return [conv, NORMS[ndim](outputs), nn.ReLU(inplace=True)]


def vgg() -> nn.Module:
    layers = [*step(3, 8), *step(8, 12), nn.MaxPool2d(2), *step(12, 16), nn.Conv2d(16, 10, 3)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5))


class Block(nn.Module):
    """Of a residual net; the sum is taken in place."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x)
        return F.relu(y)


def resnet() -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(*step(3, 8, 7, stride=2), Block(8, 8, 1), Block(8, 16, 2), *head)


class Dense(nn.Module):
    """Of a densely connected net: norms come first, results are put side by side."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 8, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, y], dim=1)


def densenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Dense(8, 4), Dense(12, 4), nn.AvgPool2d(2), Dense(16, 4)
    )


def mobilenet() -> nn.Module:
    blocks = [
        inverted_residual(8, 24, 8, 3, 1, nn.ReLU6),
        inverted_residual(8, 24, 12, 5, 2, nn.Hardswish),
    ]
    return nn.Sequential(*step(3, 8, stride=2), *blocks, nn.Conv2d(12, 20, 1), nn.SiLU())


class UNet(nn.Module):
    """Down, up by transposed convolutions, and across."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Sequential(*step(3, 8)), nn.Sequential(*step(8, 12, stride=2))
        self.up = nn.ConvTranspose2d(12, 8, 2, 2)
        self.join = nn.Sequential(*step(16, 8))
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.down1(x)
        coarse = self.down2(fine)
        return {"out": self.last(self.join(torch.cat([fine, self.up(coarse)], 1))), "coarse": coarse}


def signals() -> nn.Module:
    return nn.Sequential(
        *step(4, 8, 9, 1, stride=2, padding_mode="circular"),
        *step(8, 10, 5, 1, padding="same"),
        nn.Conv1d(10, 6, 4, groups=2, padding=1, dilation=2),
    )


def volumes() -> nn.Module:
    return nn.Sequential(*step(2, 6, 3, 3), *step(6, 8, 3, 3, stride=(1, 2, 2)), nn.Conv3d(8, 4, (1, 3, 3)))


class Atrous(nn.Module):
    """A head that looks at several scales, on features that are padded by reflection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*step(3, 8, padding_mode="reflect"))
        self.rates = nn.ModuleList([nn.Conv2d(8, 6, 3, padding=rate, dilation=rate) for rate in (1, 2, 4)])
        self.even = nn.Conv2d(18, 8, (2, 4), padding="same")
        self.last = nn.Conv2d(8, 3, 5, padding=2, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        sizes = features.shape[2:]
        y = self.even(torch.cat([rate(features) for rate in self.rates], 1))
        return F.interpolate(self.last(F.gelu(y)), sizes, mode="bilinear")


def regnet() -> nn.Module:
    body = nn.Sequential(*step(12, 24, 1), *step(24, 24, 3, groups=4), *step(24, 12, 1)[:2])
    return nn.Sequential(*step(3, 12), Residual(body), nn.ReLU())


def convnext() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.GroupNorm(1, 8), nn.Conv2d(8, 32, 1))
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), Residual(nn.Sequential(body, nn.GELU(), nn.Conv2d(32, 8, 1))))


class Excited(nn.Module):
    """Squeeze and excitation: channels are scaled by what all of the picture says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))))


def efficientnet() -> nn.Module:
    inside = [*step(8, 24, 1)[:2], nn.SiLU(), *step(24, 24, 5, groups=24)[:2], nn.SiLU(), Excited(24)]
    return nn.Sequential(
        *step(3, 8, stride=2)[:2], nn.SiLU(), Residual(nn.Sequential(*inside, *step(24, 8, 1)[:2]))
    )


def speech() -> nn.Module:
    """The start of wav2vec 2.0, and its positions by a weight-normed convolution in groups."""
    position = parametrizations.weight_norm(nn.Conv1d(12, 12, 8, padding=4, groups=3), dim=2)
    body = nn.Sequential(position, nn.ConstantPad1d((0, -1), 0.0), nn.GELU())
    return nn.Sequential(
        nn.Conv1d(1, 8, 10, 5, bias=False),
        nn.GroupNorm(8, 8),
        nn.GELU(),
        nn.Conv1d(8, 12, 3, 2),
        nn.GELU(),
        Residual(body),
    )


def decoder() -> nn.Module:
    """Up from a code, as generators and autoencoders do."""
    grown = [nn.ConvTranspose2d(12, 10, 4, 2, 1), nn.BatchNorm2d(10), nn.LeakyReLU(0.2), *step(10, 8)]
    return nn.Sequential(
        nn.Conv2d(6, 12, 3, padding=1),
        *grown,
        nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 3, 3, padding=1),
        nn.Tanh(),
    )


NETWORKS: dict[str, tuple[Any, Sequence[int]]] = {
    "vgg": (vgg, (3, 12, 12)),
    "resnet": (resnet, (3, 16, 16)),
    "densenet": (densenet, (3, 10, 10)),
    "mobilenet": (mobilenet, (3, 16, 16)),
    "unet": (UNet, (3, 12, 12)),
    "signals": (signals, (4, 40)),
    "volumes": (volumes, (2, 5, 8, 8)),
    "atrous": (Atrous, (3, 14, 14)),
    "regnet": (regnet, (3, 9, 9)),
    "convnext": (convnext, (3, 16, 16)),
    "efficientnet": (efficientnet, (3, 16, 16)),
    "speech": (speech, (1, 200)),
    "decoder": (decoder, (6, 5, 5)),
}


def built(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return a network in inference mode, and 8 inputs of it."""
    torch.manual_seed(seed)
    build, shape = NETWORKS[name]
    return lived_in(build()).eval(), torch.randn(8, *shape)


@torch.no_grad()
def lived_in(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and factors as training does."""
    for module in model.modules():
        if isinstance(module, tuple(NORMS.values())):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_()
    return model
