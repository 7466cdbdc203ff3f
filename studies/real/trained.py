"""A residual network of 18 layers and a U-Net, trained here by examples/train on pictures of 64 x 64."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import ModelProto

from benchmarks import convert_int8, libraries
from studies.real.subject import Array, Subject

SEED: Final = 0
EPOCHS: Final = {"resnet18": 8, "unet": 6}
BATCH: Final = {"resnet18": 64, "unet": 8}


def residual(calibration: int, held_out: int) -> Subject:
    """Return a residual network of 18 layers that tells six photographs by their cuttings."""
    data, model = trained("resnet18", "scenes", calibration, held_out)
    source = "examples/train; cuttings of 64 x 64 of six photographs, held out: their lower thirds"
    return _subject("ResNet-18", source, "classes right", data, model, calibration, _right, 0.4)


def unet(calibration: int, held_out: int) -> Subject:
    """Return a U-Net that tells brick, grass and gravel in each pixel."""
    data, model = trained("unet", "surfaces", calibration, held_out)
    source = (
        "examples/train; brick, grass and gravel that meet in a picture of 64 x 64, held out: lower thirds"
    )
    return _subject("U-Net", source, "mean IoU", data, model, calibration, overlap, 0.6)


def _subject(
    name: str,
    source: str,
    score: str,
    data: Any,
    model: ModelProto,
    calibration: int,
    scores: Callable[[Array, Array], Array],
    budget: float,
) -> Subject:
    """Return a subject; `scores` takes the classes that a network gives, and those wanted."""
    classes = data.test_y.numpy()
    return Subject(
        name,
        source,
        score,
        model,
        data.train_x.numpy()[_some(len(data.train_x), calibration)],
        data.test_x.numpy(),
        lambda outputs: scores(outputs.argmax(1), classes),
        (budget,),
    )


def _right(given: Array, wanted: Array) -> Array:
    return np.asarray(given == wanted, float)


def overlap(given: Array, wanted: Array) -> Array:
    """Return the mean IoU of each picture ``(N, height, width)``, over the classes that are there."""
    means = []
    for one, other in zip(given, wanted, strict=True):
        classes = np.union1d(one, other)
        means.append(
            np.mean([((one == k) & (other == k)).sum() / ((one == k) | (other == k)).sum() for k in classes])
        )
    return np.array(means)


@functools.cache
def trained(network: str, pictures: str, calibration: int, held_out: int) -> tuple[Any, ModelProto]:
    """Return pictures, and a network of examples/train trained on them, as ONNX."""
    networks, sets = libraries.example("networks"), libraries.example("pictures")
    per_class = {"scenes": 6}.get(pictures, 1)
    small = calibration < 64
    sizes = {"train": 32 // per_class} if small else {}
    data = sets.LARGER_SETS[pictures](SEED, **sizes, test=-(-held_out // per_class))
    torch.manual_seed(SEED)
    net = networks.LARGER[network](data.classes, **({"width": 4} if small else {}))
    networks.train(net, data, 1 if small else EPOCHS[network], BATCH[network])
    libraries.example("convert_all").fuse_norms(net)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{network}.onnx"
        convert_int8.exported(net, data.train_x[:2], path)
        return data, onnx.load(path)


def _some(count: int, wanted: int) -> Array:
    return np.random.default_rng(SEED).permutation(count)[:wanted]
