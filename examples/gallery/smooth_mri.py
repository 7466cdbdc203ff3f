"""
MRI in millimetres, masked
==========================

For people who smooth scans before they compare or average them: you get a Gaussian given in millimetres
whatever the voxels, and a mask that keeps what is outside the head, or not a number, out of the sums.
"""

# %%
# Two volumes of 128 x 96 x 24 voxels come with nibabel. Their voxels are longer along the third axis, and
# ``spacing`` says so: the Gaussian is as wide in every direction.

import os
import timeit
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import scipy.ndimage

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
FWHM = 8.0  # millimetres

scan = nib.load(Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz")
volume = np.asarray(scan.dataobj)[..., 0].astype(np.float32)
if SMALL:
    volume = volume[32:96, 24:72]
voxel = nib.affines.voxel_sizes(scan.affine)
print(volume.shape, "voxels of", " x ".join(f"{length:.2f}" for length in voxel), "mm")

plain = sp.gaussian(volume, fwhm=FWHM, spacing=voxel)

# %%
# The head is darker at its rim afterwards: what lies around it is averaged in. With ``mask`` the sums are
# taken of known voxels alone, and divided by what is known of the weights (normalised convolution).

head = scipy.ndimage.binary_opening(volume > 0.15 * np.percentile(volume, 99), iterations=2)
head = scipy.ndimage.binary_fill_holes(head)
masked = np.where(head, sp.gaussian(volume, fwhm=FWHM, spacing=voxel, mask=head), 0)

middle = volume.shape[2] // 2
bright = float(np.percentile(volume, 99.5))
figure = plt.figure(figsize=(10, 5.6), layout="constrained")
panels = figure.subplot_mosaic([["scan", "plain", "masked"], ["line"] * 3], height_ratios=(2, 1))
pictures = {"scan": volume, "plain": plain, "masked": masked}
titles = {"scan": "as scanned", "plain": f"smoothed, {FWHM:g} mm", "masked": "smoothed inside the head"}
row = volume.shape[1] // 2
for name, picture in pictures.items():
    panels[name].imshow(picture[:, :, middle].T, cmap="gray", origin="lower", vmin=0, vmax=bright)
    panels[name].axhline(row, color="C1", linewidth=0.8)
    panels[name].set_title(titles[name])
    panels[name].set_axis_off()
    along = voxel[0] * np.arange(volume.shape[0])
    panels["line"].plot(along, picture[:, row, middle], label=titles[name], color={"scan": "0.7"}.get(name))
panels["line"].set_xlabel("millimetres along the line")
panels["line"].set_ylabel("samples")
panels["line"].spines[["top", "right"]].set_visible(False)
panels["line"].legend(frameon=False, loc="upper left", fontsize=9)

# %%
# Beside what people use today
# ----------------------------
#
# In SciPy it is two filters and a division, written by hand, with sigma in voxels; the truth is that in
# float64.

sigma = FWHM / np.sqrt(8 * np.log(2)) / voxel


def by_hand(samples, known):
    """Return a normalised convolution, by SciPy."""
    known = known.astype(samples.dtype)
    total = scipy.ndimage.gaussian_filter(samples * known, sigma)
    return total / np.maximum(scipy.ndimage.gaussian_filter(known, sigma), 1e-6)


runs = {
    "separable": lambda: sp.gaussian(volume, fwhm=FWHM, spacing=voxel, mask=head, threads=1),
    "SciPy": lambda: by_hand(volume, head),
}
truth = by_hand(volume.astype(np.float64), head)
rounds = [{name: timeit.timeit(run, number=1) for name, run in runs.items()} for _ in range(5)]
for name, run in runs.items():
    time = 1e3 * min(taken[name] for taken in rounds)
    worst = np.abs(run() - truth)[head].max()
    print(f"{name:9s} {time:6.1f} ms, off by {worst:.0e} inside the head, of {truth[head].max():.0f}")

# %%
# Missing voxels
# --------------
#
# Where a scan says that it does not know, a plain filter loses everything within its reach. With
# ``nan="omit"`` it loses nothing that can be known.

holed = np.where(np.random.default_rng(0).random(volume.shape) < 0.02, np.nan, volume)
print(f"unknown: {np.isnan(holed).mean():.1%} of the voxels")
print(f"after SciPy's filter: {np.isnan(scipy.ndimage.gaussian_filter(holed, sigma)).mean():.1%}")
mended = sp.gaussian(holed, fwhm=FWHM, spacing=voxel, nan="omit")
print(f"after this one: {np.isnan(mended).mean():.1%}, off by {np.abs(mended - plain).mean():.1f} on average")

# %%
# A study
# -------
#
# One plan serves every volume of a shape. The result goes back to a file with the header that it came with.

kernel = sp.families.gaussian(tuple(sigma))
plan = sp.plan(kernel, volume.shape, volume.dtype)
print(plan)
smooth = nib.Nifti1Image(plan(volume), scan.affine)
print("to be saved by nib.save(smooth, 'smooth.nii.gz'):", smooth.shape, smooth.get_data_dtype())

# %%
# On the command line: ``separable filter scan.nii.gz smooth.nii.gz --fwhm 8 --unit mm``.
