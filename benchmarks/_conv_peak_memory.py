"""Child process of :mod:`benchmarks.conv_memory`: run one step, print [bytes of a result, extra peak]."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks import libraries
from benchmarks._peak_memory import _peak, _resident
from benchmarks.conv_cases import TRAINING
from benchmarks.conv_torch import memory_format
from benchmarks.conv_training import our_block, torch_block
from benchmarks.conv_works import ConvWork, block_convs
from benchmarks.results import SEPARABLE


def main(step: dict[str, Any]) -> None:
    """Measure `step` and print the result as JSON."""
    torch = libraries.load("torch")
    channels, sizes = step["channels"], tuple(step["sizes"])
    work = ConvWork("", TRAINING, channels, channels, sizes, sizes, 3, ())
    layout = "channels_last"
    ours = step["who"] == SEPARABLE
    blocks = [
        our_block(torch, block_convs(work)) if ours else torch_block(torch, block_convs(work), layout)
        for _ in range(step["depth"])
    ]
    network = torch.nn.Sequential(*blocks)
    form = memory_format(torch, layout, len(sizes))
    _train(
        network, torch.rand(1, channels, *(8 for _ in sizes)).contiguous(memory_format=form)
    )  # loads, packs
    x = torch.rand(step["batch"], channels, *sizes).contiguous(memory_format=form)
    before = _resident()
    _train(network, x)
    print(json.dumps([x.nbytes, _peak() - before]))


def _train(network: Any, x: Any) -> None:
    network.zero_grad()
    x.requires_grad_()  # as in the middle of a network
    network(x).sum().backward()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
