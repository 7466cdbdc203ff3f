"""Replace a trained dense convolution by a depthwise separable layer, and see what each rank costs.

Run ``python examples/dsc_layer.py``: it writes ./dsc_layer.pt. The dense layer is a bank of oriented filters
of two sizes on the colour channels of a photograph, much as first layers of networks learn them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image

import separable as sp

photo = np.asarray(Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png"))
x = torch.from_numpy(photo / np.float32(255)).permute(2, 0, 1)[
    None
]  # channels last in memory, as it was read

# Gabor filters of 16 orientations and two scales, each with a colour mixture of its own.
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

print(f"dense: {dense.weight.numel()} MACs per pixel")
print("rank   MACs per pixel   error of the output")
for rank in (1, 2, 4, 8, 16, 32):
    layer = sp.nn.DepthwiseSeparableConv2d.from_dense(dense, rank)
    with torch.no_grad():
        error = (layer(x) - want).norm() / want.norm()
    macs = sum(p.numel() for p in layer.parameters())
    print(f"{rank:4d}   {macs:14d}   {float(error):19.2e}")

layer = sp.nn.DepthwiseSeparableConv2d.from_dense(dense, 8)
print(layer)
torch.save(layer.state_dict(), "dsc_layer.pt")
print("wrote dsc_layer.pt")
