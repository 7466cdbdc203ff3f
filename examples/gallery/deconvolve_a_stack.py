"""
A measured PSF on a stack
=========================

For people who deconvolve microscope stacks: you get a measured point-spread function as a few separable terms
within its own noise, a plan and its exact adjoint, and Richardson and Lucy's iteration with them, beside
scikit-image's.
"""

# %%
# What is seen
# ------------
#
# No stack of a microscope comes with a Python package. To know the truth, a real volume stands for the
# object: the head that comes with nibabel, as if it were some micrometres across, seen by a widefield
# microscope 4 micrometres deep in water under an oil objective, with the noise of counted photons.

import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import skimage.restoration

import separable as sp

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take
ITERATIONS, TAPS = (3, 9) if SMALL else (30, 17)
PHOTONS, BACKGROUND = 200.0, 5.0
rng = np.random.default_rng(7)

scan = nib.load(Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz")
truth = np.asarray(scan.dataobj)[..., 0].transpose(2, 1, 0).astype(np.float32)  # z, y, x
if SMALL:
    truth = truth[:, 20:68, 40:88]
truth = truth / np.percentile(truth, 99)

# %%
# The kernel is what one gets from averaged beads, with noise of its own. Noise has full rank and the kernel
# has not: terms within its noise are cheaper than what was measured, and closer to the truth.

optics = {"wavelength": 0.52, "numerical_aperture": 1.25, "sample_index": 1.33, "depth": 4.0}
psf = sp.families.widefield_psf((TAPS,) * 3, (0.3, 0.13, 0.13), **optics)
beads = rng.poisson(2e5 * psf) / 2e5
kernel = sp.factor(beads, tol="noise")
print(f"{kernel.rank} terms, {kernel.macs} MACs per voxel, not {kernel.size}")
for name, weights in (("as measured", beads), ("its terms", kernel.dense())):
    print(f"{name}: {np.abs(weights - psf).sum():.1%} from the true one (relative l1)")

# %%
# The object goes on beyond the frame, and its light comes in: it is estimated there as well, by half a kernel
# all around. What the camera sees is the convolution, cut to the frame. A plan does that for a shape, and
# ``adjoint`` is its exact transpose, which the iteration needs.

margin = tuple((n // 2, n // 2) for n in kernel.shape)
frame = tuple(slice(before, -after) for before, after in margin)
whole = tuple(n + sum(sides) for n, sides in zip(truth.shape, margin, strict=True))
blur = sp.plan(kernel.adjoint(), whole, np.float32, mode="constant")  # adjoint: flipped, as a convolution is
back = blur.adjoint()
print(blur)

exact = sp.convolve(np.pad(truth, margin, mode="reflect"), psf, mode="constant")[frame]
image = rng.poisson(PHOTONS * exact + BACKGROUND).astype(np.float32)

x, y = rng.random(whole, np.float32), rng.random(truth.shape, np.float32)
left = np.sum(blur(x)[frame] * y, dtype=float)
right = np.sum(x * back(np.pad(y, margin)), dtype=float)
print(f"<A x, y> = {left:.2f}, <x, A' y> = {right:.2f}")

# %%
# Richardson and Lucy
# -------------------
#
# Each step compares the image with what the estimate would give, and spreads the ratio back. How well the
# estimate explains the image is the deviance, about 1 per voxel if only noise is left.


def likely(expected):
    """Return the deviance of the image from what is expected of it, per voxel."""
    return 2 * np.mean(expected - image + image * np.log(np.maximum(image, 1e-6) / expected))


def distance(estimate, part=np.s_[:]):
    """Return the relative distance of an estimate to the truth, in a part of the frame."""
    return np.linalg.norm(estimate[part] / PHOTONS - truth[part]) / np.linalg.norm(truth[part])


seen = back(np.pad(np.ones(truth.shape, np.float32), margin))  # how much of a voxel's light reaches the frame
estimate = np.full(whole, image.mean() - BACKGROUND, np.float32)
before = likely(estimate[frame] + BACKGROUND)
start = time.perf_counter()
for _ in range(ITERATIONS):
    expected = np.maximum(blur(estimate)[frame], 0) + BACKGROUND
    # Beyond the frame little is seen; the floor keeps what is not from being divided by nothing.
    estimate *= np.maximum(back(np.pad(image / expected, margin)), 0) / np.maximum(seen, 0.02)
own_time = time.perf_counter() - start
print(f"deviance {before:.2f} -> {likely(expected):.2f}")

# %%
# Beside what people use today
# ----------------------------
#
# scikit-image runs the same iteration with the dense kernel, by Fourier transforms. It takes the image for
# all there is, so the image is continued by half a kernel for it, by its mirror image; it knows of no
# background, which is taken off before. With 17 taps over 24 planes a mirror image is a poor guess, and most
# of the distance to the truth comes from the outer planes; so it is told without them, too.

measured = (beads / beads.sum()).astype(np.float32)
start = time.perf_counter()
continued = np.pad(np.maximum(image - BACKGROUND, 0), margin, mode="symmetric")
theirs = skimage.restoration.richardson_lucy(continued, measured, ITERATIONS, clip=False)[frame]
their_time = time.perf_counter() - start

results = {"image": image - BACKGROUND, "separable": estimate[frame], "scikit-image": theirs}
inner = tuple(slice(n // 2, -(n // 2)) for n in kernel.shape)
for name, volume in results.items():
    print(
        f"{name:13s} {distance(volume):.1%} from the truth, {distance(volume, inner):.1%} away from borders"
    )
print(f"{ITERATIONS} iterations: separable {own_time:.2f} s, scikit-image {their_time:.2f} s")
print(f"dense, with terms, by transforms, on these voxels:\n{blur.explain()}")

# %%
# A slice of each, and a cut along the optical axis, where a microscope blurs most:

shown = {
    "as seen": image - BACKGROUND,
    "separable": estimate[frame],
    "scikit-image": theirs,
    "truth": PHOTONS * truth,
}
figure, panels = plt.subplots(2, 4, figsize=(10, 3.6), layout="constrained", height_ratios=(96, 2.3 * 24))
for (title, volume), column in zip(shown.items(), panels.T, strict=True):
    planes = (volume[truth.shape[0] // 2], volume[:, truth.shape[1] // 2])
    for panel, plane, height in zip(column, planes, (1.0, 2.3), strict=True):
        panel.imshow(plane, cmap="magma", vmin=0, vmax=1.05 * PHOTONS, origin="lower", aspect=height)
        panel.set_axis_off()
    column[0].set_title(title)
