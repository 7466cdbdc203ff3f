"""YOLOv8n finds faces and other parts of people in scenes that are put together here of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from separable.demo.bundled import bundled
from studies.real import packages
from studies.real.subject import Array, Subject, outputs

WHEEL: Final = ("nudenet", "3.4.2", "nudenet/320n.onnx")
SIZE: Final = 320  # as its package scales pictures
# As its package takes boxes: of this score at least, and no two of them that overlap by more.
SCORE, SUPPRESSED = 0.25, 0.45
SAME: Final = 0.5  # the IoU from which on two boxes are one
GROUNDS: Final = (
    "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
PERSON: Final = "astronaut.png"
FACES: Final = 100  # as many of the pictures of lfw_subset.npy, the first ones, are faces
PASTED: Final = (4, 7)  # pictures in a scene, at least and at most
WIDTHS: Final = {"face": (60, 120), "person": (100, 180), "thing": (40, 100)}
GRID, ASIDE = 3, 25  # where they stand: rows and columns, and up to so many pixels beside their middles


@dataclass(frozen=True)
class Boxes:
    """What a detector finds in one picture, the surest first.

    Attributes
    ----------
    corners : ndarray, shape ``(N, 4)``
        Left, top, right and bottom, in pixels.
    classes : ndarray of int, shape ``(N,)``
    """

    corners: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.classes)


def subject(calibration: int, held_out: int) -> Subject:
    """Return YOLOv8n with scenes that calibrate it, and others, with other faces, that judge it."""
    model = packages.network(*WHEEL)
    rng = np.random.default_rng(0)
    faces = rng.permutation(np.load(bundled("skimage", "data/lfw_subset.npy"))[:FACES])
    many = FACES * calibration // (calibration + held_out)
    seen = np.stack([scene(faces[:many], rng) for _ in range(calibration)])
    unseen = np.stack([scene(faces[many:], rng) for _ in range(held_out)])
    own = [boxes(output) for output in outputs(model, unseen)]
    return Subject(
        "YOLOv8n",
        f"{WHEEL[0]} {WHEEL[1]}; faces and people pasted on {len(GROUNDS)} photographs, gradients and noise; "
        f"it finds {np.mean([len(some) for some in own]):.1f} boxes in a scene, of scores above {SCORE:g}, "
        "and is judged by these",
        "F1 of boxes",
        model,
        seen,
        unseen,
        lambda given: np.array(
            [agreement(boxes(output), wanted) for output, wanted in zip(given, own, strict=True)]
        ),
        (0.9,),
    )


def boxes(output: Array) -> Boxes:
    """Return the boxes of an output ``(4 + classes, places)``: centres, widths, heights, then scores."""
    best = output[4:].max(0)
    order = np.argsort(-best, kind="stable")
    order = order[best[order] >= SCORE]
    middle, half = output[:2, order].T, output[2:4, order].T / 2
    corners, classes = np.hstack([middle - half, middle + half]), output[4:, order].argmax(0)
    kept: list[int] = []
    for place in range(len(order)):
        if not kept or overlaps(corners[[place]], corners[kept]).max() <= SUPPRESSED:
            kept.append(place)
    return Boxes(corners[kept], classes[kept])


def overlaps(one: Array, other: Array) -> Array:
    """Return the IoU ``(N, M)`` of boxes ``(N, 4)`` and ``(M, 4)``."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = np.prod((high - low).clip(0), -1)
    areas = [np.prod((some[:, 2:] - some[:, :2]).clip(0), -1) for some in (one, other)]
    return np.asarray(both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9))


def agreement(given: Boxes, wanted: Boxes) -> float:
    """Return the F1 of boxes: those of one class that overlap are paired, the surest ones first.

    It is 1 where there are none and none are wanted.
    """
    if not len(given) and not len(wanted):
        return 1.0
    common = overlaps(given.corners, wanted.corners) * (given.classes[:, None] == wanted.classes)
    pairs = 0
    for row in range(len(given)):
        best = int(common[row].argmax()) if len(wanted) else 0
        if len(wanted) and common[row, best] >= SAME:
            pairs += 1
            common[:, best] = 0
    return 2 * pairs / (len(given) + len(wanted))


def scene(faces: Array, rng: np.random.Generator) -> Array:
    """Return a picture ``(3, SIZE, SIZE)`` from 0 to 1: a ground, on which pictures are pasted.

    Parameters
    ----------
    faces : ndarray, shape ``(N, 25, 25)``
        Grey, from 0 to 1: those that may be in it.
    rng : Generator
    """
    picture = Image.fromarray(_ground(rng))
    for cell in rng.permutation(GRID**2)[: rng.integers(*PASTED, endpoint=True)]:
        kind = str(rng.choice(["face", "person", "thing"], p=[0.45, 0.4, 0.15]))
        if kind == "face":
            part = _coloured(faces[rng.integers(len(faces))], rng)
        else:
            part = _cutting(_photograph(PERSON if kind == "person" else str(rng.choice(GROUNDS))), kind, rng)
        wide = int(rng.integers(*WIDTHS[kind]))
        part = part.resize((wide, wide * part.height // part.width), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        middle = (np.array(divmod(int(cell), GRID)) + 0.5) * SIZE / GRID + rng.uniform(-ASIDE, ASIDE, 2)
        picture.paste(part, (int(middle[0]) - part.width // 2, int(middle[1]) - part.height // 2))
    values = np.asarray(picture, np.float32) / 255
    values = (values - 0.5) * rng.uniform(0.7, 1.1) + 0.5 + rng.uniform(-0.1, 0.1)
    values += rng.normal(0, rng.uniform(0, 0.03), values.shape)
    return np.ascontiguousarray(values.clip(0, 1).transpose(2, 0, 1), np.float32)


def _ground(rng: np.random.Generator) -> Array:
    """Return a photograph, a gradient between two colours, or noise, as bytes ``(SIZE, SIZE, 3)``."""
    kind = rng.choice(["photograph", "gradient", "noise"], p=[0.6, 0.25, 0.15])
    if kind == "photograph":
        part = _cutting(_photograph(str(rng.choice(GROUNDS))), "thing", rng)
        return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    ends = rng.uniform(0, 255, (2, 3))
    if kind == "noise":
        return rng.normal(ends[0], rng.uniform(5, 60), (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = rng.uniform(0, 2 * np.pi)
    along = (np.cos(angle) * (rows - 0.5) + np.sin(angle) * (columns - 0.5) + 0.75) / 1.5
    return np.asarray(ends[0] + along[..., None] * (ends[1] - ends[0])).astype(np.uint8)


def _photograph(name: str) -> Image.Image:
    return Image.open(bundled("skimage", f"data/{name}")).convert("RGB")


def _cutting(picture: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a part of a picture, of a person always with the face."""
    width, height = picture.size
    if kind == "person":
        return picture.crop((0, 0, width, int(height * rng.uniform(0.6, 1.0))))
    side = int(min(width, height) * rng.uniform(0.4, 1.0))
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    return picture.crop((left, top, left + side, top + side))


def _coloured(face: Array, rng: np.random.Generator) -> Image.Image:
    """Return a grey picture in the colours of skin, or as it is."""
    tint = np.array([1.0, 0.8, 0.7]) if rng.random() < 0.7 else np.ones(3)
    return Image.fromarray((255 * (face[..., None] * tint).clip(0, 1)).astype(np.uint8))
