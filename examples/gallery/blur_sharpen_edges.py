"""
Blur, sharpen, find edges
=========================

For people who filter photographs with ``scipy.ndimage`` or scikit-image: you get the same three results from
one line each, how far they are from SciPy's in float64, and what each of the three libraries takes.
"""

# %%
# The photograph is in colour; ``axes=(0, 1)`` filters each channel by itself. Sharpening adds what a blur
# takes away, and an edge is a place where the derivatives of a Gaussian are large.

import functools
import os
import timeit
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import scipy.ndimage
import skimage
from skimage import filters

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
SIGMA, AMOUNT = 3.0, 1.5

photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png"))
x = (photo[:128, :128] if SMALL else photo) / np.float32(255)

soft = sp.gaussian(x, SIGMA, axes=(0, 1))
sharp = x + AMOUNT * (x - soft)
edges = np.hypot(*(sp.gaussian(x, SIGMA / 2, order=order, axes=(0, 1)) for order in ((1, 0), (0, 1))))

pictures = {"photograph": x, "blurred": soft, "sharpened": np.clip(sharp, 0, 1), "edges": edges.max(axis=2)}
figure, panels = plt.subplots(2, 2, figsize=(8, 5.8), layout="constrained")
for panel, (title, picture) in zip(panels.flat, pictures.items(), strict=True):
    panel.imshow(picture[:210, 70:400], cmap="gray")
    panel.set_title(title)
    panel.set_axis_off()

# %%
# Beside what people use today
# ----------------------------
#
# ``separable.ndimage`` bears SciPy's names, so that the same code serves for both. Each library has one
# thread, and the truth is SciPy's result in float64.


def blur(gaussian_filter, image):
    """Return an image, blurred."""
    return gaussian_filter(image, (SIGMA, SIGMA, 0))


def sharpen(gaussian_filter, image):
    """Return an image, and once more what a blur takes away from it."""
    return image + AMOUNT * (image - blur(gaussian_filter, image))


def gradient(gaussian_filter, image):
    """Return the length of the gradient of each channel."""
    sigma = (SIGMA / 2, SIGMA / 2, 0)
    return np.hypot(*(gaussian_filter(image, sigma, order=order) for order in ((1, 0, 0), (0, 1, 0))))


own = functools.partial(sp.ndimage.gaussian_filter, threads=1)
# scikit-image has no gradient of a Gaussian. Version 0.25 sharpens three rows alone where the channels are
# said to lie along axis -1.
by_skimage = {
    blur: lambda: filters.gaussian(x, SIGMA, mode="reflect", channel_axis=2),
    sharpen: lambda: filters.unsharp_mask(x, SIGMA, AMOUNT, channel_axis=2),
}

times = {}
for work in (blur, sharpen, gradient):
    runs = {
        "separable": functools.partial(work, own, x),
        "SciPy": functools.partial(work, scipy.ndimage.gaussian_filter, x),
    }
    if work in by_skimage:
        runs["scikit-image"] = by_skimage[work]
    rounds = [{name: timeit.timeit(run, number=1) for name, run in runs.items()} for _ in range(7)]
    times[work.__name__] = {name: 1e3 * min(taken[name] for taken in rounds) for name in runs}
    truth = work(scipy.ndimage.gaussian_filter, x.astype(np.float64))
    off = {name: np.abs(runs[name]() - truth).max() for name in ("separable", "SciPy")}
    print(
        f"{work.__name__}: off by", ", ".join(f"{value:.0e} ({name})" for name, value in off.items()), "of 1"
    )

# %%
# The least of seven runs, taken in turn:

figure, panel = plt.subplots(figsize=(7, 2.8), layout="constrained")
for number, (name, colour) in enumerate({"separable": "C0", "SciPy": "0.6", "scikit-image": "C1"}.items()):
    done = [(place, taken[name]) for place, taken in enumerate(times.values()) if name in taken]
    places = [place + 0.27 * (number - 1) for place, _ in done]
    bars = panel.barh(places, [taken for _, taken in done], 0.25, color=colour, label=name)
    panel.bar_label(bars, fmt="%.1f", padding=3)
panel.set_yticks(range(len(times)), times)
panel.invert_yaxis()
panel.margins(x=0.1)
panel.set_xlabel(f"milliseconds, {' x '.join(map(str, x.shape))} samples, one thread")
panel.legend(frameon=False)

# %%
# Why it is cheap
# ---------------
#
# Each of these kernels is a column times a row, or a sum of two such products: sharpening is the sample
# itself and a Gaussian. ``factor`` finds that from the weights alone; nobody has to know it.

wide = sp.families.gaussian(SIGMA).dense()
sharpening = -AMOUNT * wide
sharpening[wide.shape[0] // 2, wide.shape[1] // 2] += 1 + AMOUNT
kernel = sp.factor(sharpening)
print(f"{kernel.rank} terms: {kernel.macs} MACs per sample, not {kernel.size}")
print(f"largest difference: {np.abs(sp.correlate(x, kernel, axes=(0, 1)) - sharp).max():.0e} of 1")

# %%
# One thing differs from SciPy on purpose: the derivatives of :func:`separable.gaussian` are right on
# polynomials, those of SciPy and of ``separable.ndimage`` are samples of the derivative, and a little less.

ramp = np.broadcast_to(np.arange(64.0), (64, 64))
slopes = [f(ramp, 1.5, order=(0, 1))[32, 32] for f in (sp.gaussian, scipy.ndimage.gaussian_filter)]
print("the slope of a ramp of slope 1: {:.6f} here, {:.6f} in SciPy".format(*slopes))
