"""Three labelled sets of small pictures that come with installed packages: digits, faces and textures."""

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
    """Pictures ``(N, 1, height, width)``, float32 about 0, with their classes: for training, and held out."""

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


SETS = {"digits": digits, "faces": faces, "textures": textures}


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
