"""Conversion at full rank of well-known architectures, in torch and in ONNX: the outputs must stay."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import libraries
from benchmarks.results import Quantity, QuantityRecord

NAME = "convert-architectures"
UNIT = 1e-6
BOUND = 1e-4  # relative: largest difference over the largest output
SEED = 2026

# What is asked for, in turn. A layer without the form stays dense.
FORMS = ("dw-pw", "pw-dw", "spatial", "low-rank")

Arrays = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Architecture:
    """A network with random weights.

    Attributes
    ----------
    name : str
    library : str
        That builds it; "" for what is written here.
    build : callable
    shape : tuple of int
        Of one input.
    """

    name: str
    library: str
    build: Callable[[], Any]
    shape: tuple[int, ...]


def measure(
    run: str,
    quick: bool,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Return, for each architecture and each face, the worst relative error of all forms."""
    quantities: list[Quantity] = []
    if libraries.load("torch") is not None:
        for each in architectures(quick):
            progress(f"{NAME}: {each.name}")
            quantities += _rows(each)
    title = (
        "Conversion at full rank: largest change of an output over the largest output, on inputs not "
        "calibrated on, the worst of four forms (random weights; norms have seen three batches)"
    )
    return QuantityRecord(NAME, "Conversion", title, run, quick, quantities)


def architectures(quick: bool) -> list[Architecture]:
    """Return those whose library is installed; with `quick` the one that needs none."""
    own = [Architecture("U-Net", "", _unet, (3, 32, 32))]
    if quick:
        return own
    vision, timm, transformers = _torchvision(), libraries.load("timm"), libraries.load("transformers")
    image = (3, 64, 64)
    found = [*own]
    if vision is not None:
        models = vision.models
        found += [
            Architecture("ResNet-18", "torchvision", lambda: models.resnet18(num_classes=10), image),
            Architecture(
                "VGG-11, its convolutions", "torchvision", lambda: models.vgg11_bn().features, image
            ),
            Architecture("RegNetY-400MF", "torchvision", lambda: models.regnet_y_400mf(), image),
            Architecture("DenseNet-121", "torchvision", lambda: models.densenet121(), image),
            Architecture("MobileNetV2", "torchvision", lambda: models.mobilenet_v2(), image),
            Architecture("DeepLabV3, MobileNetV3", "torchvision", lambda: _deeplab(vision), image),
            Architecture("3-D ResNet, three stages", "torchvision", lambda: _volumes(vision), (3, 4, 32, 32)),
        ]
    if timm is not None:
        found += [
            Architecture("ConvNeXt-atto", "timm", lambda: timm.create_model("convnext_atto"), image),
            Architecture("EfficientNet-B0", "timm", lambda: timm.create_model("efficientnet_b0"), image),
        ]
    if transformers is not None:
        found += [
            Architecture("wav2vec 2.0", "transformers", lambda: _wav2vec(transformers), (1600,)),
            Architecture("Whisper's encoder", "transformers", lambda: _whisper(transformers), (80, 64)),
            Architecture("HiFi-GAN decoder", "transformers", lambda: _vocoder(transformers), (12, 80)),
        ]
    return found


def _torchvision() -> Any:
    """Import torchvision; where it was built for another torch, without its compiled operators."""
    try:
        return libraries.load("torchvision")
    except RuntimeError:  # operator torchvision::nms does not exist
        import torch

        operators: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision.operators = operators  # type: ignore[attr-defined]
        return libraries.load("torchvision")


def _deeplab(vision: Any) -> Any:
    return vision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )


def _volumes(vision: Any) -> Any:
    """Return the 3-D ResNet of Tran et al., 2018, without its last stage, whose factors take minutes."""
    from torch import nn

    parts = vision.models.video.resnet
    model = parts.VideoResNet(parts.BasicBlock, [parts.Conv3DSimple] * 4, [2, 2, 2, 1], parts.BasicStem)
    model.layer4, model.fc = nn.Identity(), nn.Linear(256, 5)
    return model


def _wav2vec(transformers: Any) -> Any:
    config = transformers.Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(64, 64, 64),
        conv_stride=(5, 2, 2),
        conv_kernel=(10, 3, 2),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    return transformers.Wav2Vec2Model(config)


def _whisper(transformers: Any) -> Any:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = transformers.WhisperConfig(
        d_model=64, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, max_source_positions=32
    )
    return WhisperEncoder(config)


def _vocoder(transformers: Any) -> Any:
    config = transformers.SpeechT5HifiGanConfig(
        upsample_initial_channel=64,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_dilation_sizes=[[1, 3, 5]] * 3,
    )
    return transformers.SpeechT5HifiGan(config)


def _unet() -> Any:
    """Ronneberger, Fischer and Brox, 2015, with two levels."""
    import torch
    from torch import nn

    def twice(inputs: int, outputs: int) -> nn.Module:
        steps: list[nn.Module] = []
        for channels in (inputs, outputs):
            steps += [
                nn.Conv2d(channels, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*steps)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList([twice(3, 16), twice(16, 32)])
            self.bottom = twice(32, 64)
            self.up = nn.ModuleList([nn.ConvTranspose2d(64, 32, 2, 2), nn.ConvTranspose2d(32, 16, 2, 2)])
            self.join = nn.ModuleList([twice(64, 32), twice(32, 16)])
            self.last = nn.Conv2d(16, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = []
            for down in self.down:
                x = down(x)
                kept.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottom(x)
            for up, join in zip(self.up, self.join, strict=True):
                x = join(torch.cat([kept.pop(), up(x)], 1))
            y: torch.Tensor = self.last(x)
            return y

    return UNet()


def _rows(each: Architecture) -> list[Quantity]:
    import torch

    torch.manual_seed(SEED)
    model = _lived_in(each.build(), each.shape)
    inputs, held_out = torch.randn(2, *each.shape), torch.randn(2, *each.shape)
    label = f"{each.name} ({each.library})" if each.library else each.name
    rows = [_row(f"{label}, torch", [_in_torch(model, inputs, held_out, form) for form in FORMS])]
    if libraries.load("onnx") is not None and libraries.load("onnxruntime") is not None:
        exported = _exported(model, inputs)
        results = [_in_onnx(exported, inputs.numpy(), held_out.numpy(), form) for form in FORMS]
        rows.append(_row(f"{label}, ONNX", results))
    return rows


def _lived_in(model: Any, shape: Sequence[int]) -> Any:
    """Let norms gather statistics: with those of a new network, outputs grow or vanish with depth."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the mean of all batches
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, *shape))
    return model.eval()


@dataclass(frozen=True)
class _Result:
    """What one conversion did."""

    form: str
    error: float
    convolutions: int
    converted: int
    left: Counter[str]  # convolutions that stay, by the reason


def _in_torch(model: Any, inputs: Any, held_out: Any, form: str) -> _Result:
    import torch

    import separable as sp
    from separable.nn.model.outcomes import floats_of

    done = sp.nn.separate(model, inputs, rank="full", forms=(form,))
    with torch.no_grad():
        before, after = ([y.numpy() for y in floats_of(m(held_out))] for m in (model, done.model))
    return _result(form, before, after, done.report)


def _in_onnx(model: bytes, inputs: Any, held_out: Any, form: str) -> _Result:
    import onnx

    import separable as sp

    proto = onnx.load_from_string(model)
    done = sp.onnx.separate(proto, inputs, rank="full", forms=(form,), never_slower=False)
    before, after = (_run(each, held_out) for each in (model, done.model.SerializeToString()))
    return _result(form, before, after, done.report)


def _result(form: str, before: Arrays, after: Arrays, report: Any) -> _Result:
    error = max(
        float(np.abs(new - old).max() / np.abs(old).max()) for new, old in zip(after, before, strict=True)
    )
    converted = sum(row.form != "dense" for row in report.layers)
    left = Counter(row.reason for row in report.layers if row.form == "dense")
    return _Result(form, error, len(report.layers), converted, left)


def _exported(model: Any, inputs: Any) -> bytes:
    import torch

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "model.onnx")
        torch.onnx.export(model, (inputs,), path, dynamo=False, opset_version=17)
        return path.read_bytes()


def _run(model: bytes, x: Any) -> Arrays:
    ort = libraries.load("onnxruntime")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: Arrays = session.run(None, {session.get_inputs()[0].name: x})
    return found


def _row(label: str, results: Sequence[_Result]) -> Quantity:
    worst = max(result.error for result in results) / UNIT
    counts = ", ".join(f"{result.form} {result.converted}" for result in results)
    reasons = Counter[str]()
    for result in results:
        reasons |= result.left
    left = "; ".join(f"{reason or 'dense'} ({count})" for reason, count in sorted(reasons.items()))
    note = f"of {results[0].convolutions} convolutions converted: {counts}" + (
        f". Left: {left}" if left else ""
    )
    return Quantity(label, worst, worst, worst, f"x {UNIT:.0e}", BOUND / UNIT, note)
