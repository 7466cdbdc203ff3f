"""
A filter bank tells textures apart
==================================

For people who segment by texture (materials, tissue, land cover): you get a bank of Gabor filters at many
angles and scales whose kernels are planned together, the class of every pixel from its responses, and what
such a bank takes in SciPy.
"""

# %%
# A bank
# ------
#
# A Gabor filter is a wave under a Gaussian. A wave along an axis is one separable term, one at an angle is
# two: the cosine of a sum is a difference of products. A list of kernels is planned as one bank, which reads
# the image once, and takes passes that kernels share once.

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
CLASSES = ("brick", "grass", "gravel")
ANGLES = np.linspace(0, np.pi, 4 if SMALL else 8, endpoint=False)
WAVELENGTHS = (4, 8) if SMALL else (4, 6, 8, 12)  # pixels

bank = [
    part
    for wavelength in WAVELENGTHS
    for angle in ANGLES
    for part in sp.families.gabor_pair(1 / wavelength, angle, sigma=0.5 * wavelength)
]
terms = sum(kernel.rank for kernel in bank)
sizes = sorted({kernel.shape[0] for kernel in bank})
print(f"{len(bank)} kernels of {sizes[0]} to {sizes[-1]} pixels square, {terms} terms")

figure, panels = plt.subplots(len(WAVELENGTHS), len(ANGLES), figsize=(7, 3.6), layout="constrained")
for panel, kernel in zip(panels.flat, bank[::2], strict=True):
    most = np.abs(kernel.dense()).max()
    panel.imshow(kernel.dense(), cmap="RdBu_r", vmin=-most, vmax=most)
    panel.set_axis_off()

# %%
# Features
# --------
#
# Even and odd filters make a pair: the root of the sum of their squares is how much of a wave is there,
# wherever its crests lie. Averaged over a neighbourhood it is a feature of the texture. All are means and
# products of filters, so the whole is a function of two plans.

folder = Path(skimage.__file__).parent / "data"
photos = [np.asarray(PIL.Image.open(folder / f"{name}.png"), np.float32) for name in CLASSES]
if SMALL:
    photos = [photo[:384, :192] for photo in photos]
height, width = photos[0].shape


def features(image):
    """Return the energy of each wave about each pixel, (waves, height, width), as logarithms."""
    # Pictures differ in brightness and contrast; that is not to be what tells them apart.
    level = image - sp.gaussian(image, 16.0)
    level /= np.sqrt(sp.gaussian(level**2, 16.0)) + 1
    responses = sp.plan(bank, image.shape)(level)
    energy = responses[::2] ** 2 + responses[1::2] ** 2
    return np.log(sp.gaussian(energy, 8.0, axes=(1, 2)) + 1e-6)


# %%
# Classes
# -------
#
# What is learned is a mean of each class and one covariance (linear discriminants), from the upper two thirds
# of each photograph. The lower thirds are put together in a mosaic, which is what the classes are told on.

third = height * 2 // 3
seen = [features(photo[:third])[:, 8:-8:4, 8:-8:4].reshape(len(bank) // 2, -1) for photo in photos]
means = np.array([samples.mean(axis=1) for samples in seen])
within = np.mean([np.cov(samples) for samples in seen], axis=0)
weights = np.linalg.solve(within, means.T)  # (features, classes)
offsets = -0.5 * np.einsum("cf,fc->c", means, weights)

rows, columns = np.mgrid[: height - third, :width]
disk = np.hypot(rows - (height - third) / 2, columns - width / 2) < 0.42 * (height - third)
truth = np.where(disk, 2, columns >= width / 2)
mosaic = np.choose(truth, [photo[third:] for photo in photos])

scores = np.tensordot(weights.T, features(mosaic), axes=1) + offsets[:, np.newaxis, np.newaxis]
classes = scores.argmax(axis=0)
right = (classes == truth).mean()
print(f"{right:.1%} of the pixels of the mosaic are right, those at the seams included")

figure, panels = plt.subplots(3, 1, figsize=(6, 6.4), layout="constrained")
for panel, (title, picture, colours) in zip(
    panels,
    (
        ("mosaic", mosaic, "gray"),
        ("which is where", truth, "Set2"),
        (f"as told: {right:.1%}", classes, "Set2"),
    ),
    strict=True,
):
    panel.imshow(picture, cmap=colours, **({} if colours == "gray" else {"vmin": 0, "vmax": 7}))
    panel.set_title(title)
    panel.set_axis_off()

# %%
# Beside what people use today
# ----------------------------
#
# The same bank on one photograph, with one thread each: as a bank and kernel by kernel, by SciPy's Fourier
# transforms, and by its dense sweeps. These are so long that only one kernel of each size is timed.

x = photos[0]
plan = sp.plan(bank, x.shape, threads=1)
alone = [sp.plan(kernel, x.shape, threads=1) for kernel in bank]
dense = [kernel.dense().astype(np.float32) for kernel in bank]
of_each_size = {weights.shape: weights for weights in dense}


def least(function, repeat=3):
    """Return the least of some times, in seconds."""
    return min(timeit.repeat(function, number=1, repeat=repeat))


sweeps = [
    least(functools.partial(scipy.ndimage.correlate, x, weights), 1) for weights in of_each_size.values()
]
times = {
    "separable, one bank": least(lambda: plan(x)),
    "separable, one by one": least(lambda: [single(x) for single in alone]),
    "SciPy, Fourier": least(lambda: [scipy.signal.fftconvolve(x, weights, "same") for weights in dense]),
    "SciPy, dense": sum(sweeps) * len(bank) / len(of_each_size),
}
dense_macs = sum(kernel.size for kernel in bank)
print(f"MACs per pixel: dense {dense_macs}, one by one {sum(p.macs for p in alone)}, as a bank {plan.macs}")

figure, panel = plt.subplots(figsize=(7, 2.2), layout="constrained")
for place, (name, seconds) in enumerate(times.items()):
    panel.plot(seconds, place, "o", color="C0" if "separable" in name else "0.5")
    panel.annotate(f"{seconds:.2g} s", (seconds, place), xytext=(8, -4), textcoords="offset points")
panel.set_yticks(range(len(times)), times)
panel.invert_yaxis()
panel.set_xscale("log")
panel.grid(axis="x", alpha=0.3)
panel.margins(x=0.15, y=0.2)
panel.set_xlabel(f"seconds, {len(bank)} kernels, {height} x {width} pixels, one thread")

truth_of_one = scipy.ndimage.correlate(x.astype(float), bank[2].dense())
worst = np.abs(plan(x)[2] - truth_of_one).max() / np.abs(truth_of_one).max()
print(f"largest difference from SciPy in float64: {worst:.0e} of the largest response")

# %%
# A bank that shares passes does fewer operations. Whether that is less time depends on what is stored: here
# the results take far more memory than the image, and writing them is a good part of the work.

# sphinx_gallery_thumbnail_number = 2
