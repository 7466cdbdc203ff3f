"""Arguments of the families: one number or one per axis, lengths in pixels, angles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .._base.numbers import as_real, as_whole, instead
from .._base.types import FloatArray
from .._base.words.messages import shown
from ..kernel.value import MAX_NDIM

PerAxis: TypeAlias = float | Sequence[float]
PerAxisInt: TypeAlias = SupportsIndex | Sequence[SupportsIndex]

_T = TypeVar("_T")

# Maximum taps: more are a wrong unit (sigma in nanometres), reported before memory is allocated.
MAX_TAPS: Final = 1 << 24


def axis_count(ndim: SupportsIndex | None, **arguments: object) -> int:
    """Return the number of axes that `ndim` and the arguments that are sequences agree on; default 2."""
    lengths = {name: len(value) for name, value in arguments.items() if _is_sequence(value)}  # type: ignore[arg-type]
    if ndim is not None:
        lengths = {"ndim": check_integer("ndim", ndim), **lengths}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"the number of axes differs ({said}); expected one number, or one per axis.")
    count = next(iter(lengths.values()), 2)
    if not 1 <= count <= MAX_NDIM:
        raise ValueError(f"`{next(iter(lengths))}` asks for {count} axes; expected 1 to {MAX_NDIM}.")
    return count


def per_axis(name: str, value: Any, count: int, check: Callable[[str, Any], _T]) -> list[_T]:
    if not _is_sequence(value):
        return [check(name, value)] * count
    if len(value) != count:
        raise ValueError(
            f"`{name}` has {len(value)} elements; expected one number, or one for each of {count} axes."
        )
    return [check(f"{name}[{axis}]", entry) for axis, entry in enumerate(value)]


def _is_sequence(value: object) -> bool:
    text = isinstance(value, (str, bytes))
    return hasattr(value, "__len__") and not text and getattr(value, "ndim", 1) == 1


def check_radii(sigmas: list[float], truncate: float, radius: PerAxisInt | None) -> list[int]:
    if radius is None:
        reach = check_positive("truncate", truncate)
        radii = [int(min(reach * sigma + 0.5, MAX_TAPS)) for sigma in sigmas]
    else:
        radii = per_axis("radius", radius, len(sigmas), check_count)
    for axis, (r, sigma) in enumerate(zip(radii, sigmas, strict=True)):
        if 2 * r + 1 > MAX_TAPS:
            raise ValueError(
                f"`sigma[{axis}]` = {sigma:g} asks for more than {MAX_TAPS} taps; sigma is in pixels: "
                "divide a length by the pixel's size, or pass a smaller radius."
            )
    return radii


def sine_cosine(angles: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Sines and cosines, exactly 0 at quarter turns, which no float64 angle but 0 hits."""
    turned = np.asarray(angles, np.float64)
    sines, cosines = np.sin(turned), np.cos(turned)
    close = 4 * np.finfo(np.float64).eps * np.maximum(1.0, np.abs(turned))
    return np.where(np.abs(sines) < close, 0.0, sines), np.where(np.abs(cosines) < close, 0.0, cosines)


def check_real(name: str, value: Any) -> float:
    number = as_real(value)
    if number is None:
        raise TypeError(f"`{name}` is {shown(value)}; expected a number.")
    if not math.isfinite(number):
        raise ValueError(f"`{name}` is {number}; expected a finite number.")
    return number


def check_length(name: str, value: Any) -> float:
    number = check_real(name, value)
    if number < 0:
        raise ValueError(f"`{name}` is {number:g}; expected a number >= 0.")
    return number


def check_positive(name: str, value: Any) -> float:
    number = check_real(name, value)
    if number <= 0:
        raise ValueError(f"`{name}` is {number:g}; expected a number > 0.")
    return number


def check_integer(name: str, value: Any) -> int:
    number = as_whole(value)
    if number is None:
        raise TypeError(f"`{name}` is {shown(value)}; expected an integer{instead(value)}.")
    return number


def check_count(name: str, value: Any) -> int:
    number = check_integer(name, value)
    if number < 0:
        raise ValueError(f"`{name}` is {number}; expected an integer >= 0.")
    return number


def check_size(name: str, value: Any) -> int:
    number = check_integer(name, value)
    if not 1 <= number <= MAX_TAPS:
        raise ValueError(f"`{name}` is {number}; expected an integer from 1 to {MAX_TAPS}.")
    return number
