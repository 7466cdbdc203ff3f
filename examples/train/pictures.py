"""Labelled sets of pictures that come with installed packages: digits, faces and textures.

Two more are of 64 x 64: cuttings of six photographs, and surfaces that meet, with a class for each pixel;
these may have another size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures ``(N, 1, height, width)``, float32 about 0, with their classes: for training, and held out.

    Classes are ``(N,)``, or ``(N, height, width)`` where each pixel has one.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int


def digits(seed: int) -> Pictures:
    """Return scikit-learn's 1797 handwritten digits of 8 x 8, 35 % of them held out."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return _split("digits", found.images / 16, found.target, 0.35, seed)


def faces(seed: int) -> Pictures:
    """Return scikit-image's 100 faces and 100 other cuttings of 24 x 24; 35 % held out.

    Those to train on come with their mirror images.
    """
    stack = np.load(_skimage() / "lfw_subset.npy")[:, :24, :24]
    kept = _split("faces", stack, np.repeat([1, 0], 100), 0.35, seed)
    return Pictures(kept.name, *_mirrored(kept.train_x, kept.train_y), kept.test_x, kept.test_y, 2)


def textures(seed: int) -> Pictures:
    """Return cuttings of 20 x 20 of brick, grass and gravel; those held out are from the lower third.

    The upper two thirds give 600 each, the rest 300 each, at random places.
    """
    numbers = np.random.default_rng(seed)
    names = ("brick", "grass", "gravel")
    images = [np.asarray(Image.open(_skimage() / f"{name}.png").convert("L")) / 255 for name in names]
    above = [_cuttings(image[: len(image) * 2 // 3], 600, 20, numbers) for image in images]
    below = [_cuttings(image[len(image) * 2 // 3 :], 300, 20, numbers) for image in images]
    train, test = (
        (_tensor(np.concatenate(parts)), torch.arange(3).repeat_interleave(len(parts[0])))
        for parts in (above, below)
    )
    return Pictures("textures", *train, *test, 3)


def scenes(seed: int, train: int = 120, test: int = 40) -> Pictures:
    """Return cuttings of 64 x 64 of six photographs, of any contrast.

    Those held out are from the lower third. There are `train` and `test` of each photograph, at random
    places; half of them are mirrored.
    """
    numbers = np.random.default_rng(seed)
    sides = ("brick", "coins", "grass", "gravel", "hubble", "ihc")
    cut = [(image[:edge], image[edge:]) for image, edge in map(_upper_part, sides)]
    parts = []
    for side, count in enumerate((train, test)):
        stack = np.concatenate([_cuttings(pair[side], count, 64, numbers) for pair in cut])
        classes = torch.arange(len(sides)).repeat_interleave(count)
        parts.append((_tensor(_contrasts(_half_mirrored(stack, numbers), numbers)), classes))
    return Pictures("scenes", *parts[0], *parts[1], len(sides))


def surfaces(seed: int, train: int = 240, test: int = 200, size: int = 64) -> Pictures:
    """Return square pictures where two or three of brick, grass and gravel meet; a class for each pixel.

    Those held out are from the lower third of the photographs, which is 171 pixels high.
    """
    numbers = np.random.default_rng(seed)
    cut = [(image[:edge], image[edge:]) for image, edge in map(_upper_part, ("brick", "grass", "gravel"))]
    parts: list[Tensor] = []
    for side, count in enumerate((train, test)):
        # Cuttings are mirrored before they are joined: classes are not.
        stacks = np.stack(
            [_half_mirrored(_cuttings(pair[side], count, size, numbers), numbers) for pair in cut], 1
        )
        where = np.stack([_regions(len(cut), size, numbers) for _ in range(count)])
        joined = np.take_along_axis(stacks, where[:, None], 1)[:, 0]
        parts += [_tensor(_contrasts(joined, numbers)), torch.from_numpy(where).long()]
    return Pictures("surfaces", *parts, len(cut))


SETS = {"digits": digits, "faces": faces, "textures": textures}
LARGER_SETS = {"scenes": scenes, "surfaces": surfaces}


def _upper_part(name: str) -> tuple[npt.NDArray[np.float64], int]:
    """Return a photograph in grey, and the row where its lower third begins."""
    (file,) = _skimage().glob(f"{name}*.[jp][pn]g")
    image = np.asarray(Image.open(file).convert("L")) / 255
    return image, len(image) * 2 // 3


def _contrasts(stack: npt.NDArray[np.float64], numbers: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return pictures whose contrast and brightness are drawn anew."""
    shape = len(stack), 1, 1
    gain, shift = numbers.uniform(0.6, 1.2, shape), numbers.uniform(-0.15, 0.15, shape)
    return (stack - 0.5) * gain + 0.5 + shift


def _half_mirrored(stack: npt.NDArray[np.float64], numbers: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return pictures of which about half are mirrored."""
    mirrored = numbers.random((len(stack), 1, 1)) < 0.5
    return np.where(mirrored, stack[:, :, ::-1], stack)


def _regions(count: int, size: int, numbers: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return a label for each pixel: that of the nearest of five places, by a distance that waves."""
    places = numbers.uniform(0, size, (5, 2))
    labels = numbers.permutation(np.arange(5) % count)
    rows, columns = np.mgrid[:size, :size].astype(float)
    rows, columns = rows + 4 * np.sin(columns / 6), columns + 4 * np.sin(rows / 6)
    distances = (rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2
    return np.asarray(labels[distances.argmin(0)], np.int64)


def _skimage() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data"


def _split(
    name: str, stack: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], part: float, seed: int
) -> Pictures:
    order = np.random.default_rng(seed).permutation(len(stack))
    x, y = _tensor(stack[order]), torch.from_numpy(classes[order]).long()
    held_out = int(part * len(x))
    return Pictures(name, x[held_out:], y[held_out:], x[:held_out], y[:held_out], int(classes.max()) + 1)


def _mirrored(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([x, x.flip(-1)]), torch.cat([y, y])


def _cuttings(
    image: npt.NDArray[np.float64], count: int, size: int, numbers: np.random.Generator
) -> npt.NDArray[np.float64]:
    tops = numbers.integers(0, image.shape[0] - size + 1, count)
    lefts = numbers.integers(0, image.shape[1] - size + 1, count)
    return np.stack([image[t : t + size, c : c + size] for t, c in zip(tops, lefts, strict=True)])


def _tensor(stack: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(stack, np.float32)).unsqueeze(1) - 0.5
