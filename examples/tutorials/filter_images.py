"""
Filter images and volumes
=========================

For people who filter photographs, microscope stacks or scans and know NumPy: in five minutes you blur a
photograph, replace a kernel of your own by a cheaper one with a known error, and smooth a brain in
millimetres where a mask says what is known.

``pip install '.[demo]'`` in the folder of the sources brings all that it takes; the data come with
scikit-image and nibabel. A notebook shows the pictures by itself, a script with ``plt.show()`` as its last
line.
"""

# %%
# A photograph
# ------------
#
# Filters are functions of arrays. They have the names and meanings of ``scipy.ndimage``, in any number of
# dimensions; what comes in is never changed. Integers come back as floats, unless you ask for something else.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import skimage

import separable as sp

photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "camera.png"))
soft = sp.gaussian(photo, sigma=3.0)
print(photo.shape, photo.dtype, "->", soft.dtype)

# %%
# A derivative is an order of the Gaussian; the length of the gradient shows the edges.

down = sp.gaussian(photo, sigma=1.5, order=(1, 0))
along = sp.gaussian(photo, sigma=1.5, order=(0, 1))
edges = np.hypot(down, along)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for panel, picture, title in zip(axes, (photo, soft, edges), ("camera", "sigma 3", "edges"), strict=True):
    panel.imshow(picture, cmap="gray")
    panel.set_title(title)
    panel.axis("off")

# %%
# Why it is fast
# --------------
#
# A Gaussian of sigma 3 has 25 x 25 weights, but it is a column times a row. A *kernel* knows its factors, and
# how many multiply-accumulates (MACs) a pixel takes with and without them.

gaussian = sp.families.gaussian(3.0)
print(gaussian.shape, "weights:", gaussian.size, " MACs with factors:", gaussian.macs)

# %%
# What that is in seconds, beside SciPy, which uses the same factors:

import time

import scipy.ndimage

large = np.tile(photo, (4, 4)).astype(np.float32)


def least(function):
    """Return the least of a few times, in milliseconds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


theirs = least(lambda: scipy.ndimage.gaussian_filter(large, 3.0))
ours = least(lambda: sp.gaussian(large, 3.0))
print(f"{large.shape}: SciPy {theirs:.0f} ms, separable {ours:.1f} ms")
difference = np.abs(sp.gaussian(large, 3.0) - scipy.ndimage.gaussian_filter(large.astype(float), 3.0)).max()
print(f"largest difference: {difference:.1e} of 255")

# %%
# Code that you do not want to touch can stay as it is: inside ``with separable.ndimage.installed():`` the
# functions of ``scipy.ndimage`` are these.
#
# A kernel that does not separate
# -------------------------------
#
# A lens out of focus spreads a point over a disk. A disk is no column times a row; ``factor`` writes it as a
# sum of such products, as few as the error that you allow takes. The error is certified: no pixel of any
# image is off by more, apart from what the arithmetic of the image's dtype rounds.

disk = sp.families.disk(10)
print("separable:", sp.is_separable(disk))
for tol in (1e-6, 0.05, 0.2):
    kernel = sp.factor(disk, tol=tol)
    worst = kernel.error.l1 * 255
    size = f"rank {kernel.rank}, {kernel.macs} MACs of {kernel.size}"
    print(f"tol {tol:<6g}: {size}, off by at most {worst:.2g} grey levels")

# %%
# A filter takes the weights or their factors. Of weights, ``plan`` compares the ways to run them, with the
# error that you allow, and says what it expects of this machine:

plan = sp.plan(disk, photo.shape, photo.dtype, tol=0.05)
print(plan.explain())
blurred = plan(photo)

# %%
# A star marks the way that runs. It need not be a sum of products: a disk of equal weights can also be added
# up along its outline (``box``), without any error. ``predicted`` is the time on the threads of this plan,
# ``compared`` what it is chosen by, so that more threads never change a result.
# `Planning <../filters/planning.html>`_ has the rest.
#
# A volume, in millimetres
# ------------------------
#
# Voxels of a scan have a size, and a Gaussian is given in millimetres: ``spacing`` takes the size of a voxel
# along each axis. Around the head there is nothing to average with; ``mask`` says which voxels are known, and
# the sums are normalised, so that the brain does not darken towards its rim.

import nibabel as nib

scan = nib.load(Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz")
volume = np.asarray(scan.dataobj)[..., 0].astype(np.float32)
voxel = scan.header.get_zooms()[:3]
head = volume > 100

plain = sp.gaussian(volume, fwhm=6.0, spacing=voxel)
masked = sp.gaussian(volume, fwhm=6.0, spacing=voxel, mask=head)
print("voxels of", " x ".join(f"{length:.1f}" for length in voxel), "mm; shape", volume.shape)

middle = volume.shape[2] // 2
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
pictures = {"as scanned": volume, "smoothed": plain, "smoothed inside the head": np.where(head, masked, 0)}
for panel, (title, picture) in zip(axes, pictures.items(), strict=True):
    panel.imshow(
        picture[:, :, middle].T, cmap="gray", origin="lower", vmin=0, vmax=float(np.percentile(volume, 99.5))
    )
    panel.set_title(title)
    panel.axis("off")

# %%
# Many volumes
# ------------
#
# One plan serves every volume of a shape, from as many threads as you like. Printed, it shows its passes,
# what they cost, and the instruction set that they use (v4 is AVX-512, v3 AVX2):

smooth = sp.plan(sp.families.gaussian(fwhm=tuple(6.0 / length for length in voxel)), volume.shape)
for number in range(scan.shape[3]):
    result = smooth(np.asarray(scan.dataobj)[..., number].astype(np.float32))
print(smooth)

# %%
# On the command line that is (``--dtype float32`` because a file keeps its own dtype, int16 here)::
#
#     separable filter scan.nii.gz smooth.nii.gz --fwhm 6 --unit mm --dtype float32
#
# Go on with the page for `what you use today <../how-to/index.html>`_, with
# `kernels that have a name <../filters/kernels.html>`_, or with `why it works <../theory/index.html>`_.
