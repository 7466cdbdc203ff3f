"""The networks whose time is compared, as ONNX files with random weights; made once, then kept.

Nothing is downloaded. The weights are those of a seeded generator, and batch norms hold the statistics of a
random batch, so that activations neither vanish nor explode. Files are kept in the folder for temporary files
under a name that follows from this code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import libraries

FOLDED = "folded"  # the exporter of today: batch norms are in the convolutions, activations are one operator
RAW = "raw"  # the one before: batch norms stand apart, a hard-swish is Add, Clip, Mul and Div
FLAVOURS = (FOLDED, RAW)
OPSETS = {FOLDED: 18, RAW: 17}  # 18 is the oldest that today's exporter writes by itself
SOURCES = ("engine_blocks.py", "engine_architectures.py", "engine_networks.py")
SEED = 2026
INPUT, OUTPUT, BATCH = "x", "y", "batch"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A network of the benchmarks.

    Attributes
    ----------
    name : str
        As in file names.
    title : str
    architecture : str
        What builds it in `engine_architectures`; a comma leads to its arguments.
    shape : tuple of int
        Of one input, channels first.
    millions : float or None
        Multiply-adds of one input as published, where they are.
    times : float
        As how many times as fast as the best float32 peer it was promised.
    """

    name: str
    title: str
    architecture: str
    shape: tuple[int, ...]
    millions: float | None
    times: float | None = None


NETWORKS = (
    Network("mobilenet-v1", "MobileNetV1, 224 x 224", "mobilenet_v1", (3, 224, 224), 569, 1.15),
    Network("mobilenet-v1-512", "MobileNetV1, 512 x 512", "mobilenet_v1", (3, 512, 512), None, 1.02),
    Network("mobilenet-v2", "MobileNetV2, 224 x 224", "mobilenet_v2", (3, 224, 224), 301, 1.4),
    Network("mobilenet-v3", "MobileNetV3-Large, 224 x 224", "mobilenet_v3_large", (3, 224, 224), 217, 1.5),
    Network("efficientnet-b0", "EfficientNet-B0, 224 x 224", "efficientnet_b0", (3, 224, 224), 386, 1.6),
    Network("xception", "Xception, 299 x 299", "xception", (3, 299, 299), None, 1.15),
    Network("ds-cnn-s", "DS-CNN S, 49 x 10 MFCC", "ds_cnn,S", (1, 49, 10), None, 2.0),
    Network("ds-cnn-m", "DS-CNN M, 49 x 10 MFCC", "ds_cnn,M", (1, 49, 10), None, 2.0),
    Network("ds-cnn-l", "DS-CNN L, 49 x 10 MFCC", "ds_cnn,L", (1, 49, 10), None, 2.0),
    Network("matchboxnet", "MatchboxNet 3 x 2 x 64, 1-D, 200 frames", "matchboxnet", (64, 200), None, 2.0),
    Network("quartznet", "QuartzNet 5 x 5, 1-D, 200 frames", "quartznet", (64, 200), None, 2.0),
    Network("resnet-18", "ResNet-18, 224 x 224", "resnet,2,2,2,2", (3, 224, 224), 1814),
    Network("resnet-50", "ResNet-50, 224 x 224", "resnet,3,4,6,3,bottleneck", (3, 224, 224), 4089, 0.85),
    Network("vgg16", "VGG16, 224 x 224", "vgg16", (3, 224, 224), 15470),
    Network("shufflenet-v2", "ShuffleNetV2 x1.0, 224 x 224", "shufflenet_v2", (3, 224, 224), 146),
    Network("detector", "Detector like YOLOv8n, 320 x 320", "Detector", (3, 320, 320), None),
    Network("u-net", "U-Net of 16 channels, SiLU, 256 x 256", "UNet", (3, 256, 256), None),
)


def named(name: str) -> Network:
    """Return the network of that name."""
    return next(network for network in NETWORKS if network.name == name)


def folder() -> Path:
    """Return where files made by this code, with these libraries, are kept."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((Path(__file__).parent / source).read_bytes())
    for library in ("torch", "onnx", "onnxscript"):
        digest.update(str(getattr(libraries.load(library), "__version__", "")).encode())
    owner = os.getuid() if hasattr(os, "getuid") else ""
    found = Path(tempfile.gettempdir()) / f"separable-networks-{owner}" / digest.hexdigest()[:16]
    found.mkdir(parents=True, exist_ok=True)
    return found


def path(network: Network, flavour: str = FOLDED) -> Path:
    """Return the network's ONNX file, which is made if it is not there yet.

    Raises
    ------
    ValueError
        If its multiply-adds are not the published ones within one percent.
    """
    return kept(f"{network.name}.{flavour}.onnx", lambda file: _export(network, flavour, file))


def kept(name: str, make: Callable[[Path], object]) -> Path:
    """Return the file of that name, and let `make` write it if it is not there: all of it or nothing."""
    target = folder() / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch, name)
            make(made)
            made.replace(target)
    return target


def sample(network: Network, batch: int) -> Floats:
    """Return random inputs."""
    shape = (batch, *network.shape)
    return np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)


def module(network: Network, flavour: str = FOLDED) -> Any:
    """Return the network as a torch module for inference; the same weights each time."""
    import torch

    from benchmarks import engine_architectures, engine_blocks

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        name, *arguments = network.architecture.split(",")
        build = getattr(engine_architectures, name)
        if name == "resnet":
            build = build([int(count) for count in arguments[:4]], "bottleneck" in arguments)
        elif arguments:
            build = build(*arguments)
        net = build()
        _randomize(torch, net)
        _settle_norms(torch, net, torch.from_numpy(sample(network, 2)))
    for layer in net.modules():
        if isinstance(layer, engine_blocks.HardSwish):
            layer.spelt = flavour == RAW
    return net


def _randomize(torch: Any, net: Any) -> None:
    """Draw the weights so that each layer keeps the variance of its input behind a ReLU."""
    nn = torch.nn
    for layer in net.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            layer.weight.normal_(0, math.sqrt(2 / layer.weight[0].numel()))
            if layer.bias is not None:
                layer.bias.normal_(0, 0.1)
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.weight.uniform_(0.7, 1.3)
            layer.bias.normal_(0, 0.2)


def _settle_norms(torch: Any, net: Any, x: Any) -> None:
    """Give every batch norm the mean and the variance of what `x` becomes where it stands."""
    norms = [m for m in net.modules() if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    others = [m for m in net.modules() if isinstance(m, torch.nn.Dropout)]
    for layer in others:
        layer.eval()
    net(x)
    net.eval()


def macs(network: Network) -> int:
    """Return the multiply-adds of one input: convolutions, with borders as if inside, and matrix products."""
    return int(kept(f"{network.name}.macs", lambda file: file.write_text(str(_count(network)))).read_text())


def _count(network: Network) -> int:
    """Count by running the module once."""
    import torch

    net, total = module(network), 0

    def count(layer: Any, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += layer.weight[0].numel() * output[0].numel()

    for layer in net.modules():
        if isinstance(layer, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.from_numpy(sample(network, 1)))
    return total


def _export(network: Network, flavour: str, file: Path) -> None:
    import torch

    found = macs(network) / 1e6
    if network.millions is not None and not abs(found / network.millions - 1) < 0.01:
        raise ValueError(
            f"{network.title} has {found:.1f} M multiply-adds, published are {network.millions} M."
        )
    inputs = (torch.from_numpy(sample(network, 2)),)
    options: dict[str, Any] = {
        "input_names": [INPUT],
        "output_names": [OUTPUT],
        "opset_version": OPSETS[flavour],
    }
    if flavour == FOLDED:
        axes = {0: torch.export.Dim(BATCH, min=1, max=1024)}
        options |= {"dynamo": True, "dynamic_shapes": (axes,), "external_data": False, "verbose": False}
    else:
        options |= {"dynamo": False, "dynamic_axes": {INPUT: {0: BATCH}, OUTPUT: {0: BATCH}}}
        options |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with _silence():
        torch.onnx.export(module(network, flavour), inputs, file, **options)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what exporters say: one is deprecated, the other looks for libraries that it can do without."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
