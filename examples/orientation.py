"""Find the vessels of a retina and their directions: lines at every angle from three filters.

Run ``python examples/orientation.py``: it writes ./orientation.png. The second derivative of a Gaussian
across a dark line is large, and it is wanted for the direction that suits each pixel best. It need not be
tried at many angles: it is steered, from the three second derivatives along the axes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import PIL.Image
import skimage

import separable as sp

SIGMA = 2.5  # pixels: half the width of a vessel

retina = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "retina.jpg"))
green = retina[:, :, 1].astype(np.float32)  # blood is darkest in green

lines = sp.families.steerable(SIGMA, order=2)
basis = sp.plan(lines.basis, green.shape)  # three filters that share their passes
seen = dict(zip(lines.orders, basis(green), strict=True))
yy, yx, xx = seen[2, 0], seen[1, 1], seen[0, 2]

# The response at angle t is a + b cos(2t) + c sin(2t): its largest value is where the two waves agree.
angle = 0.5 * np.arctan2(2 * yx, xx - yy)
response = np.einsum("bij,bij->ij", lines.weights(angle), np.array(list(seen.values())))

# The same by brute force: a kernel for each of many angles, and the best of them.
tried = np.linspace(0, np.pi, 24, endpoint=False)
every = sp.plan([lines.at(t) for t in tried], green.shape)
best = every(green).max(axis=0)
apart, dense = (sum(values) for values in zip(*((p.macs, p.dense_macs) for p in every.plans), strict=True))
print(
    f"MACs per pixel: steered {basis.macs + len(basis)}; {tried.size} angles in one bank {every.macs}, "
    f"one by one {apart}, dense {dense}"
)
missed = 100 * np.max(response - best) / response.max()
print(f"the best of {tried.size} angles misses up to {missed:.2f} % of the peak")

strength = np.clip(response / np.percentile(response, 99.5), 0, 1)
colours = np.stack([angle / np.pi % 1, np.ones_like(angle), strength], axis=-1)  # hue: direction
picture = mpl.colors.hsv_to_rgb(colours.astype(np.float64))
PIL.Image.fromarray((255 * picture).astype(np.uint8)).save("orientation.png")
print("wrote orientation.png")
