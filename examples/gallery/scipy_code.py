"""
Code that was written for SciPy
===============================

For people who have code for ``scipy.ndimage`` that is to stay as it is: you get it faster by one ``with``,
and see how far its results move.
"""

# %%
# The code finds the dark vessels of a photographed retina by differences of Gaussians at several scales, as
# anybody would write it. It knows nothing of ``separable``.

import itertools
import os
import timeit
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import skimage
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take


def vessels(green):
    """Return how much darker each pixel is than what lies around it, in noise levels of its neighbourhood."""
    scales = [gaussian_filter(green, sigma) for sigma in (1, 2, 4, 8)]
    darker = np.max([wide - narrow for narrow, wide in itertools.pairwise(scales)], axis=0)
    return darker / (1 + gaussian_gradient_magnitude(green, 16))


photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "retina.jpg"))
if SMALL:
    photo = photo[400:600, 400:600]
green = photo[:, :, 1].astype(np.float32)

# %%
# Inside ``installed()`` the functions of ``scipy.ndimage`` are this package's, those that were imported
# before as well; afterwards all is as it was.

import separable.ndimage

before = vessels(green)
by_scipy = min(timeit.repeat(lambda: vessels(green), number=1, repeat=3))
with separable.ndimage.installed():
    after = vessels(green)
    inside = min(timeit.repeat(lambda: vessels(green), number=1, repeat=3))

print(f"SciPy {by_scipy:.3f} s, the same code inside installed() {inside:.3f} s")
print(f"largest difference {np.abs(after - before).max():.1e}, of values up to {before.max():.1f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
left.imshow(photo)
left.set_title("retina")
right.imshow(after, cmap="bone", vmin=0, vmax=np.percentile(after, 99))
right.set_title("vessels")
for panel in (left, right):
    panel.set_axis_off()

# %%
# To change one module instead, import it from here: ``import separable.ndimage as ndi``. What differs from
# SciPy on purpose is listed on the page on ``scipy.ndimage``.
