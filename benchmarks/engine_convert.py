"""Command line: a network into another runtime's files, in a process of its own, for converters are large.

``python -m benchmarks.engine_convert litert|ncnn MODEL.onnx BATCH TARGET``
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import engine_networks
from benchmarks.engine_peers import network_of


def main(arguments: list[str]) -> None:
    """Convert; the target appears whole or not at all."""
    kind, path, batch, target = arguments
    convert: dict[str, Callable[[Any, Any, Path], None]] = {"litert": _litert, "ncnn": _ncnn}
    import torch

    network, flavour = network_of(Path(path))
    net = engine_networks.module(network, flavour)
    with tempfile.TemporaryDirectory(dir=Path(target).parent) as folder, torch.no_grad():
        made = Path(folder, Path(target).name)
        convert[kind](net, torch.from_numpy(engine_networks.sample(network, int(batch))), made)
        beside = sorted(made.parent.iterdir(), key=lambda file: file == made)  # the target last
        for file in beside:
            if file.is_file():
                shutil.move(file, Path(target).parent / file.name)


def _litert(net: Any, x: Any, target: Path) -> None:
    import litert_torch

    if x.ndim == 4:
        net = litert_torch.to_channel_last_io(net, args=[0])
        x = x.movedim(1, -1).contiguous()
    litert_torch.convert(net, (x,)).export(str(target))


def _ncnn(net: Any, x: Any, target: Path) -> None:
    import pnnx
    import torch

    net = torch.nn.Sequential(OrderedDict(net=net))  # it writes Python, where no name begins with a digit
    stem = target.parent / "traced"
    weights = target.with_suffix(".bin")
    pnnx.export(net, f"{stem}.pt", (x,), ncnnparam=str(target), ncnnbin=str(weights), fp16=False, optlevel=2)
    for file in target.parent.iterdir():
        if file not in (target, weights):
            file.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
