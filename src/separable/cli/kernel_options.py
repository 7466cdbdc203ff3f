"""The kernel that was asked for on the command line."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .. import families, files
from .._base.errors import EffortWarning
from .._base.words.quantities import plural
from ..arrays.arguments import kernel_weights
from ..factor import factor
from ..families._parameters import MAX_TAPS
from ..kernel.value import ErrorBounds, SeparableKernel
from . import kernel_argument as by_name
from .lengths import Lengths, lengths, steps
from .terminal import naming, typed

Weights: TypeAlias = SeparableKernel | npt.NDArray[Any]
T = TypeVar("T")

_FWHM: Final = 2.0 * math.sqrt(2.0 * math.log(2.0))  # full width at half maximum of a Gaussian of sigma 1
_KERNELS: Final = ("gaussian", "fwhm", "box", "sobel", "log", "unsharp", "kernel")
_CANCELLED: Final = 1e-6  # sum of weights over their l1 norm below which a kernel is a derivative
_GAUSSIANS: Final = ("gaussian", "fwhm", "log", "unsharp")


@dataclass(frozen=True)
class Wish:
    """What to filter with, as typed: exactly one of the first seven is not None."""

    gaussian: str | None = None
    fwhm: str | None = None
    box: str | None = None
    sobel: int | None = None
    log: str | None = None
    unsharp: str | None = None
    kernel: str | None = None
    order: str = "0"
    truncate: float = 4.0
    amount: float = 1.0
    unit: str = "px"
    rank: int | None = None
    tol: float | None = None
    normalise: bool = False

    @property
    def given(self) -> bool:
        """Whether anything was typed that a kernel is made of."""
        return self != Wish(unit=self.unit, truncate=self.truncate)

    def name(self) -> str:
        """Return which kernel was asked for.

        Raises
        ------
        ValueError
            If none or several were, or if an option goes with another kernel.
        """
        chosen = [name for name in _KERNELS if getattr(self, name) is not None]
        if len(chosen) != 1:
            got = " and ".join(f"--{name}" for name in chosen) or "none"
            raise ValueError(f"expected one of {', '.join(f'--{name}' for name in _KERNELS)}; got {got}.")
        name = chosen[0]
        self._only("--order", self.order != "0", name, "gaussian", "fwhm")
        self._only("--amount", self.amount != 1.0, name, "unsharp")
        self._only(f"--unit {self.unit}", self.unit != "px", name, *_GAUSSIANS)
        self._only("--truncate", self.truncate != 4.0, name, *_GAUSSIANS)
        self._only("--rank", self.rank is not None, name, "kernel")
        self._only("--tol", self.tol is not None, name, "kernel")
        self._only("--normalise", self.normalise, name, "kernel")
        return name

    def check(self) -> None:
        """Refuse what is wrong whatever the image is.

        Raises
        ------
        ValueError
            Also where a file of weights does not hold any.
        """
        name = self.name()
        if name in _GAUSSIANS:
            _ = self.lengths
            whole_numbers("--order", self.order)
        elif name == "box":
            whole_numbers("--box", self.box or "")
        elif name == "kernel":
            _ = self.weights

    @property
    def lengths(self) -> Lengths:
        """The standard deviations or widths of a Gaussian, as typed."""
        name = self.name()
        return lengths(f"--{name}", getattr(self, name), self.unit)

    @functools.cached_property
    def weights(self) -> Weights:
        """The weights of --kernel, factored and normalised if asked for; read once for all images."""
        name = self.kernel or ""
        kernel = by_name.read(name)
        with naming(name):
            if self.rank is not None:
                dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
                with warnings.catch_warnings():
                    warnings.simplefilter("error", EffortWarning)
                    try:
                        kernel = factor(dense, tol=self.tol, rank=self.rank)
                    except EffortWarning as ended:
                        raise ValueError(f"{ended} (separable factor --effort keeps terms.npz)") from None
            weights = kernel if isinstance(kernel, SeparableKernel) else kernel_weights(kernel)
            return _normalised(weights, name) if self.normalise else weights

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
        Its voxel size turns lengths into samples.
    axes : sequence of int
        The filtered axes.
    source : Path
        Where the image is from, for errors.

    Raises
    ------
    ValueError
        If a number is not what the kernel takes, or if the voxel size is not known.
    """
    name = wish.name()
    distances = (1.0,) * len(axes)
    if name in _GAUSSIANS:
        unit = wish.lengths.unit
        typed_unit = f"--unit {unit}" if wish.unit == unit else f"--{name} {getattr(wish, name)}"
        distances = steps(typed_unit, unit, image, axes, source)
    make: dict[str, Callable[[Wish, tuple[int, ...], tuple[float, ...]], Granted]] = {
        "gaussian": _gaussian,
        "fwhm": _gaussian,
        "box": _box,
        "sobel": _sobel,
        "log": _log,
        "unsharp": _unsharp,
        "kernel": _given,
    }
    return make[name](wish, tuple(axes), distances)


def numbers(option: str, text: str, count: int | None = None) -> tuple[float, ...]:
    """Return the numbers of an option such as ``1.5`` or ``2,1,1``; one is repeated `count` times."""
    return _parsed(option, text, float, "a number, or several with commas, such as 1.5 or 2,1,1", count)


def whole_numbers(option: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Return the whole numbers of an option such as ``5`` or ``0,1``; one is repeated `count` times."""
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


@dataclass(frozen=True)
class _Widths:
    """Standard deviations in samples along each axis, and how they were typed."""

    option: str
    text: str
    sigma: tuple[float, ...]

    def kernel(
        self, family: Callable[..., SeparableKernel], truncate: float, **options: Any
    ) -> SeparableKernel:
        """Return the family's kernel of these widths; errors name the option."""
        for sigma in self.sigma:
            if 2 * sigma * truncate > MAX_TAPS:
                raise ValueError(
                    f"`{self.option}` is a standard deviation of {sigma:g} samples, which asks for more than "
                    f"{MAX_TAPS} taps; expected less (--unit says what it is measured in)."
                )
        with typed(self.option, "sigma"):
            return family(self.sigma, truncate=truncate, **options)


def _widths(wish: Wish, distances: tuple[float, ...]) -> _Widths:
    name = wish.name()
    option, typed_text = f"--{name}", getattr(wish, name)
    scale = _FWHM if name == "fwhm" else 1.0
    values, unit = lengths(option, typed_text, wish.unit, len(distances))
    sigma = tuple(value / scale / step for value, step in zip(values, distances, strict=True))
    shown = f"{_by(sigma)} samples"
    if unit != "px":
        shown = f"{_by([value / scale for value in values])} {unit} = {shown}"
    if name == "fwhm":
        bare = typed_text.replace(" ", "").removesuffix(unit)
        shown = f"{shown} (FWHM {bare} {unit})"
    return _Widths(f"{option} {typed_text}", shown, sigma)


def _gaussian(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    widths = _widths(wish, distances)
    order = whole_numbers("--order", wish.order, len(axes))
    kernel = widths.kernel(families.gaussian, wish.truncate, order=order)
    # A derivative is per millimetre where sigma is in millimetres.
    scale = math.prod(step**-n for step, n in zip(distances, order, strict=True))
    derived = f", derivative {_by(order)}" if any(order) else ""
    return Granted(_scaled(kernel, scale), f"Gaussian, sigma {widths.text}{derived}", widths.sigma)


def _log(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    widths = _widths(wish, distances)
    seconds = widths.kernel(families.laplacian_of_gaussian, wish.truncate).terms
    # A second derivative is per square millimetre where sigma is in millimetres.
    scaled = (
        _scaled(SeparableKernel([second]), step**-2) for second, step in zip(seconds, distances, strict=True)
    )
    terms = [kernel.terms[0] for kernel in scaled]
    return Granted(SeparableKernel(terms), f"Laplacian of Gaussian, sigma {widths.text}", widths.sigma)


def _unsharp(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    """Sharpen: x + amount * (x - Gaussian of x), as one kernel of two terms."""
    widths = _widths(wish, distances)
    blur = widths.kernel(families.gaussian, wish.truncate, order=(0,) * len(axes))
    impulse = [np.eye(1, length, length // 2)[0] for length in blur.shape]
    sharp = SeparableKernel([impulse])
    terms = [*_scaled(sharp, 1.0 + wish.amount).terms, *_scaled(blur, -wish.amount).terms]
    text = f"unsharp mask, sigma {widths.text}, amount {wish.amount:g}"
    return Granted(SeparableKernel(terms), text, widths.sigma)


def _box(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    size = whole_numbers("--box", wish.box or "", len(axes))
    return Granted(families.box(size), f"box, mean of {_by(size)}")


def _sobel(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    if wish.sobel not in axes:
        allowed = ", ".join(map(str, axes))
        raise ValueError(f"`--sobel {wish.sobel}` is not one of the filtered axes ({allowed}).")
    return Granted(families.sobel(axes.index(wish.sobel), ndim=len(axes)), f"Sobel along axis {wish.sobel}")


def _given(wish: Wish, axes: tuple[int, ...], distances: tuple[float, ...]) -> Granted:
    name, kernel = wish.kernel or "", wish.weights
    if kernel.ndim != len(axes):
        raise ValueError(
            f"`--kernel {name}` has {kernel.ndim} axes, {_by(kernel.shape)}, and {len(axes)} are filtered "
            f"({', '.join(map(str, axes))}); choose them with --axes."
        )
    text = f"{Path(name).name if Path(name).exists() else name}, {_by(kernel.shape)} taps"
    if isinstance(kernel, SeparableKernel):
        text += f", {plural(kernel.rank, 'term')}"
    return Granted(kernel, f"{text}, normalised" if wish.normalise else text)


def _normalised(weights: Weights, name: str) -> Weights:
    """Return weights whose sum is 1.

    Raises
    ------
    FileError
        If they have none to divide by: positive ones and negative ones cancel.
    """
    total = files.weight_sum(weights)
    gain = weights.norm_l1 if isinstance(weights, SeparableKernel) else float(np.abs(weights).sum())
    if not abs(total) > _CANCELLED * gain:
        raise files.FileError(
            f"`{name}`: the weights sum to {total:g}, {_CANCELLED:g} of their magnitudes or less; leave out "
            "--normalise."
        )
    if not isinstance(weights, SeparableKernel):
        return np.asarray(weights / total)
    error = weights.error
    scaled = _scaled(weights, 1.0 / total)
    size = ErrorBounds(
        error.l1 / abs(total), error.relative_l1, error.relative_l2, error.spectral / abs(total)
    )
    return SeparableKernel(scaled.terms, error=size, noise=weights.noise)


def _scaled(kernel: SeparableKernel, scale: float) -> SeparableKernel:
    return SeparableKernel([[first * scale, *others] for first, *others in kernel.terms])


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
