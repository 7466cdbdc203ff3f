"""Run code that was written for SciPy faster, without editing it.

Run ``python examples/scipy_code.py``: it finds the dark vessels of a photographed retina by differences of
Gaussians at several scales, as anybody would write it with SciPy, prints both times and writes ./vessels.png.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import PIL.Image
import skimage
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

import separable.ndimage


def vessels(green: np.ndarray) -> np.ndarray:
    """Return how much darker each pixel is than what lies around it, in noise levels of its neighbourhood."""
    scales = [gaussian_filter(green, sigma) for sigma in (1, 2, 4, 8)]
    darker = np.max([wide - narrow for narrow, wide in itertools.pairwise(scales)], axis=0)
    return darker / (1 + gaussian_gradient_magnitude(green, 16))


photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "retina.jpg"))
green = photo[:, :, 1].astype(np.float32)

start = time.perf_counter()
before = vessels(green)
middle = time.perf_counter()
with separable.ndimage.installed():
    after = vessels(green)
end = time.perf_counter()

print(f"SciPy {middle - start:.2f} s, the same code inside installed() {end - middle:.2f} s")
print(f"largest difference {np.abs(after - before).max():.1e}, of values up to {before.max():.1f}")
PIL.Image.fromarray(np.uint8(np.clip(60 * after, 0, 255))).save("vessels.png")
print("wrote vessels.png")
