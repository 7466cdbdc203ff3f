"""
Replace one layer
=================

For people who build networks in PyTorch: you get a dense convolution as a depthwise separable layer of any
rank, what each rank costs, and how far its outputs move, before you convert a whole network.
"""

# %%
# The dense layer is a bank of oriented filters of two sizes on the colour channels of a photograph, much as
# first layers of networks learn them. Each filter has a colour mixture of its own.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import skimage
import torch

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take

photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png"))
if SMALL:
    photo = photo[60:160, 120:220]
x = torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1)[None]  # channels last in memory, as read

filters = [
    sp.families.gabor(0.3 / sigma, np.pi * turn / 16, sigma=sigma, radius=4).dense()
    for sigma in (1.0, 1.8)
    for turn in range(16)
]
colours = np.random.default_rng(0).standard_normal((32, 3))
dense = torch.nn.Conv2d(3, 32, 9, padding=4, padding_mode="reflect", bias=False)
with torch.no_grad():
    dense.weight.copy_(torch.from_numpy(colours[:, :, None, None] * np.stack(filters)[:, None]))
    want = dense(x)

# %%
# How many terms a layer needs is seen in the singular values of its slices, one slice per input channel: a
# layer of rank one has one. These have some ten that matter, and none beyond.

spectrum = sp.conv.slice_spectrum(dense.weight.detach().numpy())
print("of the largest singular value:", np.round(spectrum[0][:12] / spectrum[0][0], 3))

# %%
# ``from_dense`` takes the nearest layer of a rank, by the weights, with stride, padding and bias as they
# were.

ranks = (1, 2, 4, 8) if SMALL else (1, 2, 4, 6, 8, 10, 12, 16)
layers = {rank: sp.nn.DepthwiseSeparableConv2d.from_dense(dense, rank) for rank in ranks}
macs = {rank: sum(p.numel() for p in layer.parameters()) for rank, layer in layers.items()}
outputs, errors = {}, {}
for rank, layer in layers.items():
    with torch.no_grad():
        outputs[rank] = layer(x)
        errors[rank] = float((outputs[rank] - want).norm() / want.norm())

print(f"dense: {dense.weight.numel()} MACs per pixel")
for rank in ranks:
    print(f"rank {rank:2d}: {macs[rank]:4d} MACs per pixel, output off by {errors[rank]:.1e}")
print(layers[8])

# %%
# One of the 32 outputs, dense and at two ranks, and the error over the cost:

figure = plt.figure(figsize=(10, 4.6), layout="constrained")
panels = figure.subplot_mosaic([["dense", "1", "8"], ["curve"] * 3], height_ratios=(1.5, 1))
most = float(want[0, 20].abs().max()) / 2
for name, picture in {"dense": want, "1": outputs[1], "8": outputs[8]}.items():
    panels[name].imshow(picture[0, 20].numpy(), cmap="RdBu_r", vmin=-most, vmax=most)
    panels[name].set_title(name if name == "dense" else f"rank {name}: {macs[int(name)]} MACs")
    panels[name].set_axis_off()
panels["curve"].plot([macs[rank] for rank in ranks], [errors[rank] for rank in ranks], "o-")
panels["curve"].axvline(dense.weight.numel(), color="0.6", linestyle="--", label="dense")
panels["curve"].set_xlabel("MACs per pixel")
panels["curve"].set_ylabel("relative error")
panels["curve"].set_ylim(bottom=0)
panels["curve"].legend(frameon=False)

# %%
# A layer that was trained is not so regular, and its rank one loses more. To convert a network, fit the
# layers to what they see instead: that is ``sp.nn.separate``.
