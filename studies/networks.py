"""The trained networks that several studies look at: textures of scikit-image, told apart by small nets."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import libraries

SEEDS = 3
INPUTS = 512  # to calibrate on, without labels


@dataclass(frozen=True)
class Trained:
    """A network, the pictures that judge it, and inputs to calibrate on."""

    net: nn.Module
    data: Any
    inputs: Tensor

    def accuracy(self, net: nn.Module) -> float:
        """Return the percentage of held-out pictures that a network tells right."""
        return float(libraries.example("networks").accuracy(net, self.data))


@functools.cache
def pictures(seed: int, small: bool) -> Any:
    """Return cuttings of brick, grass and gravel; a few of them, if it is to be quick."""
    found = libraries.example("pictures").textures(seed)
    if not small:
        return found
    order = torch.randperm(len(found.train_x), generator=torch.Generator().manual_seed(seed))[:128]
    return type(found)(
        found.name,
        found.train_x[order],
        found.train_y[order],
        found.test_x[::9],
        found.test_y[::9],
        found.classes,
    )


@functools.cache
def trained(name: str, seed: int, small: bool) -> Trained:
    """Return a network of examples/train ("vgg" or "residual"), trained with its norms folded in."""
    data = pictures(seed, small)
    net = libraries.example("networks").trained(name, data, seed, epochs=1 if small else 12)
    libraries.example("convert_all").fuse_norms(net)
    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(seed))
    return Trained(net, data, data.train_x[order[: 64 if small else INPUTS]])


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions of more than one tap by name, from input to output."""
    return {
        name: layer
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    }


def replaced(net: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of a network with other layers in some places."""
    net = copy.deepcopy(net)
    for name, layer in layers.items():
        net.set_submodule(name, layer)
    return net
