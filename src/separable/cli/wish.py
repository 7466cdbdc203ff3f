"""The kernel that was asked for on the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from separable import families, files
from separable._arguments import kernel_weights
from separable.factor import factor
from separable.kernel import SeparableKernel

from .terminal import naming

Weights: TypeAlias = SeparableKernel | npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Wish:
    """What to filter with, as typed: exactly one of the first six is not None."""

    gaussian: str | None = None
    box: str | None = None
    sobel: int | None = None
    log: str | None = None
    unsharp: str | None = None
    kernel: Path | None = None
    order: str = "0"
    truncate: float = 4.0
    amount: float = 1.0
    millimetres: bool = False
    rank: int | None = None
    tol: float | None = None

    def name(self) -> str:
        """Return which kernel was asked for.

        Raises
        ------
        ValueError
            If none or several were, or if an option goes with another kernel.
        """
        names = ("gaussian", "box", "sobel", "log", "unsharp", "kernel")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(f"--{name}" for name in given) or "none"
            raise ValueError(f"expected one of {', '.join(f'--{name}' for name in names)}; got {got}.")
        name = given[0]
        self._only("--order", self.order != "0", name, "gaussian")
        self._only("--amount", self.amount != 1.0, name, "unsharp")
        self._only("--unit mm", self.millimetres, name, "gaussian", "log", "unsharp")
        self._only("--truncate", self.truncate != 4.0, name, "gaussian", "log", "unsharp")
        self._only("--rank", self.rank is not None, name, "kernel")
        self._only("--tol", self.tol is not None, name, "kernel")
        return name

    @staticmethod
    def _only(option: str, given: bool, name: str, *fitting: str) -> None:
        if given and name not in fitting:
            raise ValueError(
                f"`{option}` goes with {' or '.join(f'--{fit}' for fit in fitting)}, not with --{name}."
            )


@dataclass(frozen=True)
class Granted:
    """The kernel that a wish became.

    Attributes
    ----------
    kernel : SeparableKernel or ndarray
    text : str
        What it is, for people.
    sigma : tuple of float, optional
        Standard deviation in samples, per filtered axis.
    """

    kernel: Weights
    text: str
    sigma: tuple[float, ...] | None = None


def grant(wish: Wish, image: files.Image, axes: Sequence[int], source: Path) -> Granted:
    """Build the kernel for the axes of an image that are filtered.

    Parameters
    ----------
    wish : Wish
    image : Image
        Its voxel size turns millimetres into samples.
    axes : sequence of int
        The filtered axes.
    source : Path
        Where the image is from, for errors.

    Raises
    ------
    ValueError
        If a number is not what the kernel takes, or if the voxel size is not known.
    """
    steps = _steps(image, axes, source) if wish.millimetres else (1.0,) * len(axes)
    make: dict[str, Callable[[Wish, tuple[int, ...], tuple[float, ...]], Granted]] = {
        "gaussian": _gaussian,
        "box": _box,
        "sobel": _sobel,
        "log": _log,
        "unsharp": _unsharp,
        "kernel": _from_file,
    }
    return make[wish.name()](wish, tuple(axes), steps)


def numbers(option: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Return the numbers of an option such as ``1.5`` or ``2,1,1``; one stands for `count` of them."""
    return _parsed(option, text, float, "a number, or several with commas, such as 1.5 or 2,1,1", count)


def whole_numbers(option: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Return the whole numbers of an option such as ``5`` or ``0,1``; one stands for `count` of them."""
    return _parsed(option, text, int, "a whole number, or several with commas, such as 5 or 5,3,3", count)


def _parsed(
    option: str, text: str, kind: Callable[[str], T], expected: str, count: int | None
) -> tuple[T, ...]:
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"`{option} {text}` is not {expected}.") from None
    if count is None or len(values) == count:
        return values
    if len(values) > 1:
        raise ValueError(
            f"`{option} {text}` has {len(values)} numbers for {count} filtered axes; pass 1 or {count}."
        )
    return values * count


def _steps(image: files.Image, axes: Sequence[int], source: Path) -> tuple[float, ...]:
    steps = [image.spacing[axis] for axis in axes]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        raise ValueError(
            f"`--unit mm` needs a voxel size, and `{source}` states none for axis {axes[steps.index(None)]} "
            "(NIfTI, ImageJ and OME TIFF do); pass pixels with --unit px."
        )
    return tuple(known)


def _sigmas(option: str, text: str, steps: tuple[float, ...]) -> tuple[float, ...]:
    values = numbers(option, text, len(steps))
    if not all(0 <= value < math.inf for value in values):
        raise ValueError(f"`{option} {text}`: a standard deviation is a number >= 0, such as 1.5.")
    return tuple(value / step for value, step in zip(values, steps, strict=True))


def _sigma_text(wish: Wish, typed: str | None, sigma: tuple[float, ...]) -> str:
    return f"{typed} mm = {_by(sigma)} samples" if wish.millimetres else f"{_by(sigma)} samples"


def _gaussian(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    sigma = _sigmas("--gaussian", wish.gaussian or "", steps)
    order = whole_numbers("--order", wish.order, len(axes))
    kernel = families.gaussian(sigma, order=order, truncate=wish.truncate)
    # A derivative is per millimetre where sigma is in millimetres.
    scale = math.prod(step**-n for step, n in zip(steps, order, strict=True))
    derived = f", derivative {_by(order)}" if any(order) else ""
    text = f"Gaussian, sigma {_sigma_text(wish, wish.gaussian, sigma)}{derived}"
    return Granted(_scaled(kernel, scale), text, sigma)


def _log(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    sigma = _sigmas("--log", wish.log or "", steps)
    # A second derivative is per square millimetre where sigma is in millimetres.
    seconds = families.laplacian_of_gaussian(sigma, truncate=wish.truncate).terms
    scaled = (
        _scaled(SeparableKernel([second]), step**-2) for second, step in zip(seconds, steps, strict=True)
    )
    terms = [kernel.terms[0] for kernel in scaled]
    text = f"Laplacian of Gaussian, sigma {_sigma_text(wish, wish.log, sigma)}"
    return Granted(SeparableKernel(terms), text, sigma)


def _unsharp(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    """Sharpen: x + amount * (x - Gaussian of x), as one kernel of two terms."""
    sigma = _sigmas("--unsharp", wish.unsharp or "", steps)
    blur = families.gaussian(sigma, order=(0,) * len(axes), truncate=wish.truncate)
    impulse = [np.eye(1, length, length // 2)[0] for length in blur.shape]
    sharp = SeparableKernel([impulse])
    terms = [*_scaled(sharp, 1.0 + wish.amount).terms, *_scaled(blur, -wish.amount).terms]
    text = f"unsharp mask, sigma {_sigma_text(wish, wish.unsharp, sigma)}, amount {wish.amount:g}"
    return Granted(SeparableKernel(terms), text, sigma)


def _box(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    size = whole_numbers("--box", wish.box or "", len(axes))
    return Granted(families.box(size), f"box, mean of {_by(size)}")


def _sobel(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    if wish.sobel not in axes:
        allowed = ", ".join(map(str, axes))
        raise ValueError(f"`--sobel {wish.sobel}` is not one of the filtered axes ({allowed}).")
    return Granted(families.sobel(axes.index(wish.sobel), ndim=len(axes)), f"Sobel along axis {wish.sobel}")


def _from_file(wish: Wish, axes: tuple[int, ...], steps: tuple[float, ...]) -> Granted:
    path = wish.kernel or Path()
    weights = files.read(path).data
    if weights.ndim != len(axes):
        raise ValueError(
            f"`--kernel {path}` has {weights.ndim} axes, {_by(weights.shape)}, and {len(axes)} are filtered "
            f"({', '.join(map(str, axes))}); choose them with --axes."
        )
    text = f"{path.name}, {_by(weights.shape)} taps"
    with naming(path):
        if wish.rank is None:
            return Granted(kernel_weights(weights), text)
        kernel = factor(weights, tol=wish.tol, rank=wish.rank)
    return Granted(kernel, f"{text}, {kernel.rank} term{'s' * (kernel.rank > 1)}")


def _scaled(kernel: SeparableKernel, scale: float) -> SeparableKernel:
    return SeparableKernel([[first * scale, *others] for first, *others in kernel.terms])


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
