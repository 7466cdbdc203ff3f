"""Blur a photograph as a lens out of focus does, with a kernel that does not separate.

Run ``python examples/defocus.py``: it writes ./defocus.png. A disk needs many separable terms to be exact;
fewer are cheaper, and the certified error says how far off the picture can be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import skimage

import separable as sp

photo = np.asarray(PIL.Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png"))
disk = sp.families.disk(8.0)

exact = sp.correlate(photo, disk, axes=(0, 1))
print(f"a disk of {disk.shape[0]} x {disk.shape[1]} pixels; dense: {disk.size} MACs per sample")
print("terms   MACs   can be off by   is off by   (grey levels)")
for rank in (1, 2, 4, 6):
    kernel = sp.factor(disk, rank=rank)
    blurred = sp.correlate(photo, kernel, axes=(0, 1))
    bound, found = kernel.error.l1 * 255, np.abs(blurred - exact).max()
    print(f"{rank:5d}   {kernel.macs:4d}   {bound:13.4f}   {found:9.4f}")

PIL.Image.fromarray(sp.correlate(photo, disk, axes=(0, 1), output="uint8")).save("defocus.png")
print("wrote defocus.png")
