"""
Tissues in an MRI scan
======================

For people who segment volumes on a CPU: you get a small U-Net of separable convolutions over three axes, its
Dice, operations and milliseconds beside those of the same network with dense convolutions, and the overlap at
which a volume in blocks is told as in one piece.
"""

# %%
# The task
# --------
#
# Nibabel brings two volumes of a head along, 128 x 96 x 24 voxels. Their tissues are told by a rule: outside
# of the head, and within it dark, grey and bright, between two thresholds (Otsu's) of the scan over its mean
# around each voxel. What the network sees is harder: the scan as a poor coil would show it, under a smooth
# gain that is different each time, with noise. It learns from blocks of the left half of the first volume,
# and is judged by the right half of the second one.

import itertools
import os
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage.filters import threshold_multiotsu
from torch import nn
from torch.nn import functional as F

import separable as sp

sys.path += [str(Path(sys.argv[0]).resolve().parents[1] / "train"), "../train"]  # as a script, as a notebook
from networks import overlaps, train
from scans import TISSUES, tissues
from side_by_side import exported, least_times, runtimes

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
WIDTH = 4 if SMALL else 16  # channels of the first layer
EPOCHS = 1 if SMALL else 8

data = tissues(train=4 if SMALL else 96, block=(16, 16, 8) if SMALL else (32, 32, 16), seed=0)
if SMALL:
    data = type(data)(
        data.name, data.train_x, data.train_y, data.test_x[..., :8], data.test_y[..., :8], data.classes
    )
volume, truth = data.test_x, data.test_y
shares = ", ".join(f"{name} {(truth == k).float().mean():.0%}" for k, name in enumerate(TISSUES))
print(f"{len(data.train_x)} blocks to learn from; held out: {tuple(volume.shape[2:])} voxels, {shares}")

# %%
# The network
# -----------
#
# Two levels: the scan as it is, and at half its size across, where atrous convolutions look around. Voxels
# are longer along the third axis, so that less is done along it.


def layer(inputs, outputs, separable, rate=(1, 1, 1)):
    """Return a 3 x 3 x 3 convolution with norm and ReLU: depthwise and pointwise, or dense."""
    if not separable:
        dense = nn.Conv3d(inputs, outputs, 3, padding=rate, dilation=rate, bias=False)
        return nn.Sequential(dense, nn.BatchNorm3d(outputs), nn.ReLU())
    return sp.nn.DepthwiseSeparableConv3d(
        inputs, outputs, 3, padding=rate, dilation=rate, bias=False,
        norm=nn.BatchNorm3d, activation="relu", output_norm=nn.BatchNorm3d, output_activation="relu",
    )  # fmt: skip


class UNet3d(nn.Module):
    """A U-Net of two levels; the lower one has rates of 1, 2 and 4."""

    def __init__(self, separable, width=WIDTH):
        super().__init__()
        first = nn.Conv3d(1, width, 3, padding=1, bias=False)
        self.above = nn.Sequential(
            first, nn.BatchNorm3d(width), nn.ReLU(), layer(width, width, separable)
        )  # fmt: skip
        self.below = nn.Sequential(
            layer(width, 2 * width, separable),
            layer(2 * width, 2 * width, separable, (2, 2, 1)),
            layer(2 * width, 2 * width, separable, (4, 4, 2)),
        )
        self.join = layer(3 * width, width, separable)
        self.head = nn.Conv3d(width, len(TISSUES), 1)

    def forward(self, x):
        """Return scores ``(N, classes, *lengths)``; the first two lengths are even."""
        fine = self.above(x)
        coarse = self.below(F.max_pool3d(fine, (2, 2, 1)))
        coarse = F.interpolate(coarse, scale_factor=(2.0, 2.0, 1.0))
        return self.head(self.join(torch.cat([fine, coarse], 1)))


REACH = 2 + 1 + 2 * (1 + 2 + 4) + 1  # voxels that a result depends on, to each side across: layer by layer

nets, audits = {}, {}
for name in ("dense", "separable"):
    torch.manual_seed(0)
    start = time.perf_counter()
    net = UNet3d(name == "separable").to(memory_format=torch.channels_last_3d)
    nets[name] = train(net, data, EPOCHS, batch=2)
    audits[name] = sp.nn.audit(net, volume)
    print(
        f"{name:9s} {audits[name].macs / 1e9:5.2f} billion MACs, {audits[name].params:6,d} parameters, "
        f"trained in {time.perf_counter() - start:.0f} s"
    )

# %%
# What they tell
# --------------
#
# Dice of each tissue, beside that of plain thresholds (Otsu's again) of what the networks see.


def dice(classes):
    """Return the Dice of each tissue: twice what is in both, of what is in one and in the other."""
    iou = overlaps(classes, truth, len(TISSUES))
    return 2 * iou / (1 + iou)


seen = volume[0, 0].numpy() + 0.5
thresholds = threshold_multiotsu(seen, 4)
told = {"thresholds": torch.from_numpy(np.digitize(seen, thresholds))[None]}
with torch.no_grad():
    told |= {name: net(volume).argmax(1) for name, net in nets.items()}
dices = {name: dice(classes) for name, classes in told.items()}
print("Dice        " + "".join(f"{name:>9s}" for name in TISSUES) + "     mean")
for name, shares in dices.items():
    print(f"{name:12s}" + "".join(f"{float(share):9.3f}" for share in (*shares, shares.mean())))

middle = volume.shape[-1] // 2
figure, panels = plt.subplots(1, 5, figsize=(10, 3.6), layout="constrained")
panels[0].imshow(seen[:, :, middle].T, cmap="gray", origin="lower")
panels[0].set_title("as seen")
for panel, (name, classes) in zip(panels[1:], {"by the rule": truth, **told}.items(), strict=True):
    panel.imshow(classes[0, :, :, middle].numpy().T, cmap="cividis", origin="lower", interpolation="nearest")
    panel.set_title(name)
for panel in panels:
    panel.set_axis_off()

# %%
# What it takes
# -------------
#
# The least time of the held-out half, with one thread: in torch, where separable layers run as one fused
# operator each, in the engine and in ONNX Runtime, all in turn. Times are those of the thread: they leave out
# what else the machine does.

threads = torch.get_num_threads()
torch.set_num_threads(1)
samples = volume.to(memory_format=torch.channels_last_3d)


def in_torch(net):
    """Return scores."""
    with torch.no_grad():
        return net(samples)


runs = {}
for name, net in nets.items():
    runs[name, "torch"] = lambda net=net: in_torch(net)
    for runtime, run in runtimes(exported(net, volume), tuple(volume.shape)).items():
        runs[name, runtime] = lambda run=run: run(volume.numpy())
scores = {what: np.asarray(run()) for what, run in runs.items()}
difference = max(abs(made - scores[name, "torch"]).max() for (name, _), made in scores.items())
least = least_times(runs, 2 if SMALL else 7)
RUNTIMES = ("torch", "engine", "ONNX Runtime")
print("network          MACs          torch         engine   ONNX Runtime")
for name in nets:
    times = "".join(f"   {1e3 * least[name, runtime]:9.1f} ms" for runtime in RUNTIMES)
    print(f"{name:10s} {audits[name].macs / 1e9:6.2f} G{times}")
fewer = audits["dense"].macs / audits["separable"].macs
best = {name: min(least[name, runtime] for runtime in RUNTIMES) for name in nets}
faster = best["dense"] / best["separable"]
print(f"{fewer:.1f} times fewer MACs; {faster:.1f} times as fast, each where it is fastest")
print(f"largest difference of scores: {difference:.0e}")

# %%
# In blocks
# ---------
#
# A volume that does not fit is told in blocks. Each is read with some overlap, and only its own part is
# kept. With an overlap of what a voxel depends on, nothing changes; with less it is cheaper, and some change.


def in_blocks(net, x, block, overlap):
    """Return classes, block by block; block and overlap are even, as the network halves lengths."""
    classes = torch.empty(x.shape[0], *x.shape[2:], dtype=torch.long)
    for top, left in itertools.product(*(range(0, length, block) for length in x.shape[2:4])):
        high, wide = max(0, top - overlap), max(0, left - overlap)
        with torch.no_grad():
            scores = net(x[:, :, high : top + block + overlap, wide : left + block + overlap])
        kept = scores[:, :, top - high :, left - wide :][:, :, :block, :block]
        classes[:, top : top + block, left : left + block] = kept.argmax(1)
    return classes


block, net = 16 if SMALL else 32, nets["separable"]
whole = told["separable"]
overlaps_tried = sorted({0, 4, 8, 12, 16, REACH + REACH % 2})
changed, taken = {}, {}
for overlap in overlaps_tried:
    start = time.thread_time()
    classes = in_blocks(net, samples, block, overlap)
    taken[overlap] = time.thread_time() - start
    changed[overlap] = float((classes != whole).float().mean())
    print(
        f"overlap {overlap:2d}: {changed[overlap]:8.4%} of the voxels change, "
        f"{1e3 * taken[overlap]:6.1f} ms, Dice {float(dice(classes).mean()):.3f}"
    )

figure, panel = plt.subplots(figsize=(7, 2.8), layout="constrained")
panel.plot(overlaps_tried, [100 * changed[overlap] for overlap in overlaps_tried], "o-")
panel.axvline(REACH, color="0.6", linestyle="--")
panel.text(
    REACH, panel.get_ylim()[1], " what a voxel depends on", va="top", ha="right", color="0.4", rotation=90
)
panel.set(xlabel="overlap of the blocks, voxels", ylabel="voxels that change, %", ylim=(0, None))
panel.spines[["top", "right"]].set_visible(False)
torch.set_num_threads(threads)
