"""
A lens out of focus
===================

For people who have a kernel that does not separate: you get it as a sum of few products, with a bound on what
any pixel can be off by, and see what it takes beside SciPy and the Fourier transform.
"""

# %%
# A lens out of focus spreads a point of light over a disk. A disk is no column times a row. To be exact it
# takes many separable terms; fewer are cheaper, and the certified error says how far off the picture can be.

import functools
import os
import timeit
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import scipy.ndimage
import scipy.signal
import skimage

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take

photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "coffee.png"))
view = np.s_[60:300, 180:420]
if SMALL:
    photo, view = photo[60:188, 180:308], np.s_[:, :]
disk = sp.families.disk(8.0)
exact = sp.correlate(photo, disk, axes=(0, 1))

print(f"a disk of {disk.shape[0]} x {disk.shape[1]} pixels: {disk.size} MACs per sample if dense")
print("terms   MACs   can be off by   is off by   (grey levels of 255)")
pictures = {"in focus": photo}
for rank in (1, 2, 4, 6):
    kernel = sp.factor(disk, rank=rank)
    blurred = sp.correlate(photo, kernel, axes=(0, 1))
    pictures[f"{rank} terms: {kernel.macs} MACs" if rank > 1 else f"1 term: {kernel.macs} MACs"] = blurred
    bound, worst = 255 * kernel.error.l1, np.abs(blurred - exact).max()
    print(f"{rank:5d}   {kernel.macs:4d}   {bound:13.4f}   {worst:9.4f}")

# %%
# One term blurs by a soft square, and the highlights show it; with six the result is that of the disk.

figure, panels = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
for panel, (title, picture) in zip(panels.flat[:5], pictures.items(), strict=True):
    panel.imshow(np.clip(picture, 0, 255).astype(np.uint8)[view])
    panel.set_title(title, fontsize=10)
panels[1, 2].imshow(np.pad(disk, 3), cmap="bone")
panels[1, 2].set_title("the disk", fontsize=10)
for panel in panels.flat:
    panel.set_axis_off()

# %%
# Beside what people use today
# ----------------------------
#
# ``correlate`` takes the dense disk as it is and chooses the way; ``explain`` shows what it compared. On
# this small disk a dense sweep that leaves out the zeros can be as good as the terms. SciPy offers a dense
# sweep and Fourier transforms.

x = photo.astype(np.float32)
weights = disk.astype(np.float32)[..., np.newaxis]
print(sp.plan(disk, x.shape, x.dtype, axes=(0, 1), threads=1).explain())

runs = {
    "separable": functools.partial(sp.correlate, x, disk, axes=(0, 1), threads=1),
    "SciPy, dense": functools.partial(scipy.ndimage.correlate, x, weights),
    "SciPy, Fourier": lambda: scipy.signal.fftconvolve(
        np.pad(x, ((8, 8), (8, 8), (0, 0)), mode="symmetric"), weights, mode="valid"
    ),
}
truth = scipy.ndimage.correlate(x.astype(np.float64), disk[..., np.newaxis])
rounds = [{name: timeit.timeit(run, number=1) for name, run in runs.items()} for _ in range(5)]
for name, run in runs.items():
    time = 1e3 * min(taken[name] for taken in rounds)
    print(f"{name:15s} {time:7.2f} ms, off by {np.abs(run() - truth).max():.0e} grey levels")
