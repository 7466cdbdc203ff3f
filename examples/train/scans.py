"""Labelled volumes of a head: the scan that comes with nibabel, its tissues told by thresholds.

The two volumes of 128 x 96 x 24 voxels are of one head. One half of it trains, the other one is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import scipy.ndimage
import torch
from pictures import Pictures
from skimage.filters import threshold_multiotsu
from torch import Tensor

import separable as sp

Floats = npt.NDArray[np.float32]
TISSUES = ("outside", "dark", "grey", "bright")


@dataclass(frozen=True)
class Scan:
    """A volume in float32, up to about 1, with a class for each voxel."""

    volume: Floats
    classes: npt.NDArray[np.int64]


def scan(moment: int) -> Scan:
    """Return one of the two volumes. Outside is what is outside of the head.

    Inside, two thresholds (Otsu, *A threshold selection method from gray-level histograms*, 1979) divide the
    scan over its mean around each voxel, which evens out the gain of the coil: a Gaussian of half a voxel
    over one of ten (three along the third axis) within the head.
    """
    file = nib.load(Path(nib.__file__).parent / "tests" / "data" / "example4d.nii.gz")
    volume = np.asarray(file.dataobj)[..., moment].astype(np.float32)
    volume /= np.percentile(volume, 99.5)
    head = scipy.ndimage.binary_opening(volume > 0.15, iterations=2)
    head = scipy.ndimage.binary_fill_holes(head)
    around = sp.gaussian(volume, (10, 10, 3), mask=head)
    flat = sp.gaussian(volume, 0.5) / np.where(head, around, 1)
    return Scan(volume, np.where(head, 1 + np.digitize(flat, threshold_multiotsu(flat[head], 3)), 0))


def as_badly_scanned(volume: Floats, numbers: np.random.Generator) -> Floats:
    """Return a volume as a poor coil would show it: under a smooth gain of 0.6 to 1.4, with noise."""
    knots = numbers.uniform(-0.4, 0.4, (4, 4, 3))
    stretch = [length / count for length, count in zip(volume.shape, knots.shape, strict=True)]
    gain = 1 + scipy.ndimage.zoom(knots, stretch, order=3).clip(-0.4, 0.4)
    noise = numbers.standard_normal(volume.shape) * numbers.uniform(0.02, 0.06)
    return np.asarray(volume * gain + noise, np.float32)


def tissues(train: int, block: tuple[int, int, int], seed: int) -> Pictures:
    """Return blocks of the first volume's left half, badly scanned; held out, the second one's right half.

    About half of the blocks are mirrored, as the right half is the left one's mirror image.
    """
    numbers = np.random.default_rng(seed)
    first, second = scan(0), scan(1)
    middle = len(first.volume) // 2
    blocks, classes = [], []
    for _ in range(train):
        volume = as_badly_scanned(first.volume, numbers)
        rooms = (middle, *volume.shape[1:])
        starts = [
            int(numbers.integers(0, room - length + 1)) for room, length in zip(rooms, block, strict=True)
        ]
        place = tuple(slice(start, start + length) for start, length in zip(starts, block, strict=True))
        step = int(numbers.choice([1, -1]))
        blocks.append(volume[place][::step])
        classes.append(first.classes[place][::step])
    held_out = as_badly_scanned(second.volume, numbers)[middle:], second.classes[middle:]
    x, y = _tensor(blocks), torch.from_numpy(np.stack(classes))
    return Pictures(
        "tissues", x, y, _tensor([held_out[0]]), torch.from_numpy(held_out[1][None]), len(TISSUES)
    )


def _tensor(volumes: list[Floats]) -> Tensor:
    return torch.from_numpy(np.stack(volumes)[:, None] - np.float32(0.5))
