"""
Segmentation, atrous and separable
==================================

For people who need a class for each pixel on a CPU: you get a network of atrous separable convolutions with
image pooling and a bilinear head, its IoU, operations and milliseconds beside those of the same network with
dense convolutions, in one native program.
"""

# %%
# The scenes
# ----------
#
# Two or three of brick, grass and gravel meet in a picture, of any contrast, and each pixel is to be told.
# The surfaces are scikit-image's photographs: those to learn from are cut from the upper two thirds, those to
# judge by from the lower thirds. How pictures are made and networks trained lies in ``examples/train``.

import os
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

import separable as sp

sys.path += [str(Path(sys.argv[0]).resolve().parents[1] / "train"), "../train"]  # as a script, as a notebook
from networks import overlaps, train
from pictures import surfaces
from side_by_side import exported, least_times, runtimes

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
CLASSES = ("brick", "grass", "gravel")
WIDTH = 8 if SMALL else 32  # channels of the first layer
EPOCHS = 1 if SMALL else 10

data = surfaces(0, train=16 if SMALL else 240, test=1)
scenes = surfaces(1, train=1, test=4 if SMALL else 60, size=160)
print(f"{len(data.train_x)} scenes of 64 x 64 to learn from, {len(scenes.test_x)} of 160 x 160 to judge by")

# %%
# The network
# -----------
#
# As in DeepLab (Chen et al., *Encoder-decoder with atrous separable convolution*, ECCV 2018): an encoder that
# keeps a quarter of the size; five branches over it that look near, further, far and, by the mean over the
# picture, everywhere; and a head that is resized. An atrous convolution has holes between its taps: it sees
# further, and costs no more.


def layer(inputs, outputs, separable, stride=1, rate=1):
    """Return a 3 x 3 convolution with norm and ReLU: depthwise and pointwise, or dense."""
    if not separable:
        dense = nn.Conv2d(inputs, outputs, 3, stride, padding=rate, dilation=rate, bias=False)
        return nn.Sequential(dense, nn.BatchNorm2d(outputs), nn.ReLU())
    return sp.nn.DepthwiseSeparableConv2d(
        inputs, outputs, 3, stride, padding=rate, dilation=rate, bias=False,
        norm=nn.BatchNorm2d, activation="relu", output_norm=nn.BatchNorm2d, output_activation="relu",
    )  # fmt: skip


def pointwise(inputs, outputs):
    """Return a 1 x 1 convolution with norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class ImagePooling(nn.Module):
    """What the whole picture is on average, laid under each of its pixels."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU())

    def forward(self, x):
        """Return features of the size of `x`."""
        return F.interpolate(self.mix(x.mean((2, 3), keepdim=True)), x.shape[2:], mode="bilinear")


class Segmenter(nn.Module):
    """An encoder of stride 4, five branches over it, and a head that is resized to the picture."""

    def __init__(self, separable, width=WIDTH, rates=(2, 4, 6)):
        super().__init__()
        rows = [(1, 2, 2, 1), (2, 2, 1, 1), (2, 3, 1, 2), (3, 3, 1, 2)]  # widths, stride, rate
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            *[layer(a * width, b * width, separable, stride, rate) for a, b, stride, rate in rows],
        )  # fmt: skip
        self.branches = nn.ModuleList([pointwise(3 * width, width), ImagePooling(3 * width, width)])
        self.branches += [layer(3 * width, width, separable, rate=rate) for rate in rates]
        self.head = nn.Sequential(pointwise(5 * width, 2 * width), nn.Conv2d(2 * width, len(CLASSES), 1))

    def forward(self, x):
        """Return scores ``(N, classes, height, width)``."""
        seen = self.encoder(x)
        scores = self.head(torch.cat([branch(seen) for branch in self.branches], 1))
        return F.interpolate(scores, scale_factor=4.0, mode="bilinear")


# %%
# Both are trained on the same scenes, from the same seed. An audit counts what a scene of 160 x 160 takes.

nets, macs = {}, {}
for name in ("dense", "separable"):
    torch.manual_seed(0)
    start = time.perf_counter()
    nets[name] = train(Segmenter(name == "separable"), data, EPOCHS, batch=8)
    audit = sp.nn.audit(nets[name], scenes.test_x[:1])
    macs[name] = audit.macs
    print(
        f"{name:9s} {audit.macs / 1e6:6.1f} million MACs, {audit.params:7,d} parameters, "
        f"trained in {time.perf_counter() - start:.0f} s"
    )

# %%
# As programs
# -----------
#
# Each becomes a program of the engine for one scene and one thread. The mean over the picture and both
# resizes are steps of it as convolutions are; nothing is left for another runtime to do.

scene = scenes.test_x[:1].numpy()
models = {name: exported(net, scenes.test_x[:1]) for name, net in nets.items()}
runs = {
    (name, runtime): run
    for name, model in models.items()
    for runtime, run in runtimes(model, scene.shape).items()
}

# %%
# What they tell
# --------------
#
# The classes of all pixels of the scenes, and the IoU of each class: pixels that network and truth both say
# are of it, over those that either says are of it.

told = {
    name: torch.cat(
        [torch.from_numpy(runs[name, "engine"](x.numpy())).argmax(1) for x in scenes.test_x.split(1)]
    )
    for name in nets
}
ious = {name: overlaps(classes, scenes.test_y, len(CLASSES)) for name, classes in told.items()}
difference = max(abs(runs[name, "engine"](scene) - runs[name, "ONNX Runtime"](scene)).max() for name in nets)
print("IoU         " + "".join(f"{name:>9s}" for name in CLASSES) + "     mean")
for name, iou in ious.items():
    print(f"{name:12s}" + "".join(f"{100 * float(share):8.1f}%" for share in (*iou, iou.mean())))
print(f"largest difference of scores from those of ONNX Runtime: {difference:.0e}")

colours = {"cmap": "Set2", "vmin": 0, "vmax": 7, "interpolation": "nearest"}
figure, panels = plt.subplots(4, 4, figsize=(8, 8.4), layout="constrained")
for column, panel in enumerate(panels[0]):
    panel.imshow(scenes.test_x[column, 0].numpy(), cmap="gray")
    rows = {"what is there": scenes.test_y, **told}
    for below, (name, classes) in zip(panels[1:, column], rows.items(), strict=True):
        below.imshow(classes[column].numpy(), **colours)
        if column == 0:
            below.set_ylabel(name)
panels[0, 0].set_ylabel("scene")
for panel in panels.flat:
    panel.set(xticks=[], yticks=[])

# %%
# What it takes
# -------------
#
# The least time of a scene, with one thread, dense and separable, here and in ONNX Runtime, all in turn.
# Times are those of the thread: they leave out what else the machine does.

least = least_times({key: lambda run=run: run(scene) for key, run in runs.items()}, 3 if SMALL else 60)
print("network        MACs        engine   ONNX Runtime")
for name in nets:
    engine, peer = (1e3 * least[name, runtime] for runtime in ("engine", "ONNX Runtime"))
    print(f"{name:10s} {macs[name] / 1e6:6.1f} M   {engine:6.2f} ms      {peer:6.2f} ms")
fewer, faster = macs["dense"] / macs["separable"], least["dense", "engine"] / least["separable", "engine"]
print(f"{fewer:.1f} times fewer MACs, {faster:.1f} times as fast in the engine")

figure, panel = plt.subplots(figsize=(7, 2.4), layout="constrained")
labels = [f"{name}, {runtime}" for name, runtime in runs]
bars = panel.barh(labels, [1e3 * least[key] for key in runs], color=["C1", "0.7", "C0", "0.7"])
panel.bar_label(bars, fmt="%.2f", padding=3)
panel.invert_yaxis()
panel.margins(x=0.12)
panel.set_xlabel("milliseconds, a scene of 160 x 160, one thread")

# %%
# Fewer operations save less time than their number says: the first layer, the 1 x 1 convolutions and the
# resize are in both. Where the time of the separable one goes:

profile = runs["separable", "engine"].profile(scene, repeat=5 if SMALL else 30)
print(profile)
