"""Small networks of dense convolutions, and their training on two cores: two take under a minute.

A residual network of 18 layers and a U-Net take a few minutes each.
"""

from __future__ import annotations

import itertools

import torch
from pictures import Pictures
from torch import Tensor, nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Return a convolution and its batch norm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Block(nn.Module):
    """A residual block: two convolutions, and a 1x1 one around them where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(inputs, outputs, 3, stride), nn.ReLU(), *conv(outputs, outputs))
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified sum of both ways."""
        return F.relu(self.body(x) + self.shortcut(x))


def vgg(classes: int, first: int = 1) -> nn.Module:
    """Return five convolutions of 3x3 in a row: 32, 64, 64, 128 at half the size, 128 channels.

    `first` is the stride of the first one.
    """
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 32, first), (32, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
        layers += [*conv(inputs, outputs, 3, stride), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))


def residual(classes: int, first: int = 1) -> nn.Module:
    """Return a residual net of seven convolutions of 3x3 (32, 64, 128 channels) and two shortcuts of 1x1.

    `first` is the stride of the first one.
    """
    blocks = [Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)]
    return nn.Sequential(*conv(1, 32, 3, first), nn.ReLU(), *blocks, *head)


def resnet18(classes: int, width: int = 32) -> nn.Module:
    """Return a residual net of 18 layers, whose four stages have `width` channels, then twice as many each.

    It halves pictures twice at once, and again before each stage but the first.
    """
    stages = [width, 2 * width, 4 * width, 8 * width]
    blocks: list[nn.Module] = []
    for inputs, outputs in zip([width, *stages], stages, strict=False):
        blocks += [Block(inputs, outputs, 1 if inputs == outputs else 2), Block(outputs, outputs, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1], classes)]
    return nn.Sequential(*conv(1, width, 3, 2), nn.ReLU(), nn.MaxPool2d(2), *blocks, *head)


class UNet(nn.Module):
    """A U-Net of three levels: a class for each pixel. Each level has two convolutions on either side."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        pairs = zip([1, *widths], widths, strict=False)
        self.down = nn.ModuleList(self._level(inputs, outputs) for inputs, outputs in pairs)
        self.up = nn.ModuleList(self._level(deep + flat, flat) for flat, deep in itertools.pairwise(widths))
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def _level(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(*conv(inputs, outputs), nn.ReLU(), *conv(outputs, outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Return scores ``(N, classes, height, width)``."""
        seen: list[Tensor] = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if seen else x)
            seen.append(x)
        for level, flat in zip(reversed(self.up), seen[-2::-1], strict=True):
            x = level(torch.cat([F.interpolate(x, scale_factor=2.0), flat], 1))
        return self.head(x)


NETWORKS = {"vgg": vgg, "residual": residual}
LARGER = {"resnet18": resnet18, "unet": UNet}  # for pictures of 64 x 64


def trained(name: str, data: Pictures, seed: int, epochs: int = 12) -> nn.Module:
    """Return a network trained on labelled pictures, in inference mode.

    Parameters
    ----------
    name : {"vgg", "residual"}
    data : Pictures
    seed : int
        Of the weights and of the order of the pictures.
    epochs : int, optional

    Returns
    -------
    Module
    """
    torch.manual_seed(seed)
    net = NETWORKS[name](data.classes, first=1 if data.train_x.shape[-1] < 16 else 2)
    return train(net, data, epochs)


def train(net: nn.Module, data: Pictures, epochs: int, batch: int = 64) -> nn.Module:
    """Train a network on labelled pictures; return it in inference mode."""
    steps = epochs * -(-len(data.train_x) // batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for some in torch.randperm(len(data.train_x)).split(batch):
            if len(some) == 1:  # a batch norm has nothing to learn from one picture
                schedule.step()
                continue
            loss = F.cross_entropy(net(data.train_x[some]), data.train_y[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, data: Pictures) -> float:
    """Return the percentage of the held-out pictures that are told right."""
    found = torch.cat([net(x).argmax(dim=1) for x in data.test_x.split(256)])
    return 100 * float((found == data.test_y).float().mean())


def overlaps(given: Tensor, wanted: Tensor, classes: int) -> Tensor:
    """Return the IoU of each class over all samples: what is of it in both, of what is of it in either."""
    both = [((given == k) & (wanted == k)).sum() for k in range(classes)]
    either = [((given == k) | (wanted == k)).sum() for k in range(classes)]
    return torch.stack(both) / torch.stack(either)
