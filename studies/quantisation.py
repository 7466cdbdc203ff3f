"""What eight bits cost a dense network, and a separable one."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks import convert_int8, libraries
from docs.drawings.ink import Ink, curves
from studies.networks import pictures
from studies.study import Numbers, Progress, Study, Verdict, judged, table

SHENG = "[Sheng et al.](https://arxiv.org/abs/1803.08607)"
SEEDS = 2
MOBILE = "trained separable"  # as MobileNet: norms and rectifiers between the two convolutions
FORMS = ("dense", "converted", "converted, equalised", MOBILE)
TENSOR, CHANNEL, FLOAT = "int8, weights per tensor", "int8, weights per channel", "float32"
MORE = 1.0  # points that a separable network has to lose beyond the dense one


def measure(small: bool, progress: Progress) -> Numbers:
    """Train, convert and quantise networks, as the benchmark of eight bits does."""
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(1 if small else SEEDS):
        progress(f"quantisation: seed {seed}")
        for label, result in (*convert_int8.case("textures", "vgg", seed, small), *_mobile(seed, small)):
            row = rows.setdefault(label, {"accuracy": [], "change": []})
            row["accuracy"].append(result.accuracy)
            row["change"].append(result.error)
    return {"rows": rows}


def _mobile(seed: int, small: bool) -> Iterator[tuple[str, convert_int8.Result]]:
    """Yield how a network does that was trained with separable layers, its norms folded, in eight bits."""
    data, networks = pictures(seed, small), libraries.example("networks")
    torch.manual_seed(seed)
    layers = [*networks.conv(1, 32, 3, 2), nn.ReLU6()]
    for inputs, outputs, stride in ((32, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        layers += [
            depthwise,
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            *networks.conv(inputs, outputs, 1),
            nn.ReLU6(),
        ]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, data.classes))
    networks.train(net, data, 1 if small else 12)
    order = np.random.default_rng(seed).permutation(len(data.train_x))[: convert_int8.INPUTS]
    inputs_, x, classes = data.train_x.numpy()[order], data.test_x.numpy(), data.test_y.numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        convert_int8.exported(net, data.train_x[:2], path)
        yield from convert_int8.quantised(MOBILE, path, inputs_, x, classes)


def lost(numbers: Numbers, form: str, bits: str) -> float:
    """Return the points that eight bits take, mean over the seeds."""
    before, after = (numbers["rows"][f"{form}, {kind}"]["accuracy"] for kind in (FLOAT, bits))
    return float(statistics.mean(before) - statistics.mean(after))


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge what eight bits take from each form."""
    losses = {(form, bits): lost(numbers, form, bits) for form in FORMS for bits in (TENSOR, CHANNEL)}
    changes = {
        (form, bits): statistics.mean(numbers["rows"][f"{form}, {bits}"]["change"])
        for form in FORMS
        for bits in (TENSOR, CHANNEL)
    }
    return [
        judged(
            "eight bits cost a separable network far more accuracy than a dense one (1.8 % are left of "
            "MobileNetV1's 70.5)",
            SHENG,
            "points lost: "
            + "; ".join(
                f"{form}, {bits.removeprefix('int8, weights ')} {value:.1f}"
                for (form, bits), value in losses.items()
            ),
            f"the separable network loses at least {MORE:.0f} point more than the dense one, in the mean "
            "of the seeds.",
            {
                _short(form, bits): losses[form, bits] - losses["dense", bits] >= MORE
                for form in FORMS[1:]
                for bits in (TENSOR, CHANNEL)
            },
        ),
        judged(
            "eight bits change the outputs of a separable network more than those of a dense one",
            SHENG,
            "squared change over variance: "
            + "; ".join(
                f"{form}, {bits.removeprefix('int8, weights ')} {value:.1e}"
                for (form, bits), value in changes.items()
            ),
            "the squared change of the outputs is more than twice the dense network's.",
            {
                _short(form, bits): changes[form, bits] > 2 * changes["dense", bits]
                for form in FORMS[1:]
                for bits in (TENSOR, CHANNEL)
            },
        ),
    ]


def _short(form: str, bits: str) -> str:
    return f"{form.replace(',', '')} {bits.removeprefix('int8, weights ')}"


def tables(numbers: Numbers) -> str:
    """Return accuracies and changes."""
    rows = [
        [label, f"{statistics.mean(row['accuracy']):.1f}", f"{statistics.mean(row['change']):.1e}"]
        for label, row in numbers["rows"].items()
    ]
    return table(["network", "accuracy, %", "squared change of the outputs over their variance"], rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw how much eight bits change the outputs."""
    figure = Figure(figsize=(5.6, 2.0), layout="constrained")
    axes = curves(figure, ink, "squared change of the outputs over their variance", "")
    for colour, bits in zip((ink.minus, ink.plus), (TENSOR, CHANNEL), strict=True):
        values = [np.mean(numbers["rows"][f"{form}, {bits}"]["change"]) for form in FORMS[::-1]]
        axes.plot(values, range(len(FORMS)), "o", color=colour, label=bits)
    axes.set_yticks(range(len(FORMS)), FORMS[::-1])
    axes.set_ylim(-0.5, len(FORMS) - 0.5)
    axes.set_xscale("log")
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


STUDY = Study(
    "quantisation",
    "What eight bits cost",
    "deploy in eight bits",
    "held-out accuracy of a network on textures, dense, converted to rank 1 and trained as a separable "
    f"one, {SEEDS} seeds, in float32 "
    "and "
    "quantised by ONNX Runtime (static, 512 inputs), and how much its outputs change.",
    measure,
    judge,
    tables,
    draw,
    "How much eight bits change the outputs of a network, dense and separable",
)
