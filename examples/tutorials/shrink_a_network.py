"""
Shrink a network and run it
===========================

For people who build, shrink or deploy convolutional networks in PyTorch: in five minutes you count what a
trained network costs, convert it to a separable one without labels and without training, see what that loses,
and run it as one native program.

``pip install '.[demo,nn,compile]'`` in the folder of the sources brings all that it takes; brick, grass and
gravel are pictures that come with scikit-image. A notebook shows the chart by itself, a script with
``plt.show()`` as its last line.
"""

# %%
# A network that was trained
# --------------------------
#
# Yours will be trained already. This one is trained here, in some seconds: four convolutions that tell three
# textures apart, by squares of 24 x 24 pixels. The lower third of each picture is kept away from it, to judge
# by.

from pathlib import Path

import numpy as np
import PIL.Image
import skimage
import torch
from torch import nn

import separable as sp

torch.manual_seed(0)
folder = Path(skimage.__file__).parent / "data"
textures = [
    np.asarray(PIL.Image.open(folder / f"{name}.png"), np.float32) for name in ("brick", "grass", "gravel")
]


def squares(count, rows, seed):
    """Return squares of each texture from a range of rows, with mean 0 and deviation 1, and their classes."""
    rng = np.random.default_rng(seed)
    pieces = []
    for picture in textures:
        for _ in range(count):
            y, x = rng.integers(rows[0], rows[1] - 24), rng.integers(0, picture.shape[1] - 24)
            piece = picture[y : y + 24, x : x + 24]
            pieces.append((piece - piece.mean()) / (piece.std() + 1e-3))
    return torch.from_numpy(np.stack(pieces)[:, None]), torch.arange(3).repeat_interleave(count)


learned, labels = squares(250, (0, 340), seed=0)
held_out, truth = squares(200, (344, 512), seed=1)

layers = []
for channels, outputs, stride in ((1, 24, 1), (24, 48, 2), (48, 48, 1), (48, 64, 2)):
    conv = nn.Conv2d(channels, outputs, 3, stride=stride, padding=1)
    layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 3))
optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
for _ in range(4):
    for some in torch.randperm(len(learned)).split(50):
        loss = nn.functional.cross_entropy(net(learned[some]), labels[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    slower.step()
net.eval()


def accuracy(model):
    """Return the share of the held-out squares that a model tells right."""
    with torch.no_grad():
        return float((model(held_out).argmax(1) == truth).float().mean())


print(f"accuracy on pictures that it has not seen: {accuracy(net):.1%}")

# %%
# What it costs
# -------------
#
# ``audit`` counts multiply-accumulates (MACs; one is two FLOPs) and parameters, and says which form each
# layer is nearest to. The model is not run for that, and nothing happens to it.

print(sp.nn.audit(net, (1, 1, 24, 24)))

# %%
# The forms: ``dw-pw`` is depthwise then pointwise, with 1 to 4 kernels for each channel (no figure where
# fewer are exact already); ``pw-dw`` the other way round; ``spatial`` a column, then a row; ``low-rank``
# dense with fewer channels, then pointwise. The weights are far from each of them: nothing asked this network
# to be separable.

# %%
# Convert it
# ----------
#
# ``separate`` takes the model, inputs such as it will see, and what may be left of its cost. There are no
# labels in it and no training: for each layer a form and a rank are chosen, and the new weights are fitted to
# give what the layer gave.

result = sp.nn.separate(net, learned[::4], budget=0.2, by="macs", progress=False)
print(result.report)

# %%
# ``output_change`` is the loss, measured on inputs that nothing was fitted to. What it means in accuracy:

small = result.model
print(f"MACs {result.report.macs_before:,} -> {result.report.macs_after:,}")
print(f"accuracy {accuracy(net):.1%} -> {accuracy(small):.1%}")

# %%
# The usual way, the nearest separable layers by the weights alone, is what people try first; see what it
# would have been:

by_weights = nn.Sequential(*net)
for index, layer in enumerate(net):
    if isinstance(layer, nn.Conv2d) and layer.in_channels > 1:
        by_weights[index] = sp.nn.DepthwiseSeparableConv2d.from_dense(layer, rank=1)
print(f"accuracy, by the weights alone: {accuracy(by_weights.eval()):.1%}")

# %%
# All three in one picture, the accuracy over what they cost:

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, model in {"as trained": net, "converted": small, "by the weights alone": by_weights}.items():
    macs = sp.nn.audit(model, (1, 1, 24, 24)).macs / 1e6
    axes.plot(macs, 100 * accuracy(model), "o", markersize=10, label=name)
axes.set_xlabel("million MACs")
axes.set_ylabel("accuracy in %")
axes.set_xlim(left=0)
axes.set_ylim(0, 100)
axes.legend(loc="lower right")

# %%
# Run it
# ------
#
# Fewer operations are not less time if what lies between two small convolutions goes to memory and back.
# ``compile`` makes one native program of the whole network, and checks its results against torch's.

import time


def least(function):
    """Return the least of some times, in milliseconds."""
    times = []
    with torch.no_grad():
        for _ in range(20):
            start = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - start))
    return min(times)


one = held_out[:1]
program, dense_program = sp.nn.compile(small, one), sp.nn.compile(net, one)
print(
    f"as trained: torch {least(lambda: net(one)):.2f} ms, program {least(lambda: dense_program(one)):.2f} ms"
)
print(f"converted:  torch {least(lambda: small(one)):.2f} ms, program {least(lambda: program(one)):.2f} ms")
print(f"largest difference from torch: {program.difference:.0e}")

# %%
# The program can be printed, a line for each step:

print(program.program)

# %%
# Take it along
# -------------
#
# The result is a plain module: it trains, saves and exports. As an ONNX file it runs anywhere::
#
#     torch.onnx.export(
#         small, (one,), "small.onnx", dynamo=True, external_data=False, dynamic_shapes=[{0: "pictures"}]
#     )
#
# (without ``dynamic_shapes`` the file takes one picture at a time) and here with
# ``sp.engine.load("small.onnx")`` or ``separable run small.onnx inputs.npy``. A network that
# you have as a file only is converted by ``sp.onnx.separate`` or ``separable separate``.
#
# Not every network gains: go on with `when it does not pay <../theory/when-it-does-not-pay.html>`_, with
# `converting <../networks/convert.html>`_ in full, or with the page for
# `the tool that you use today <../how-to/index.html>`_.
