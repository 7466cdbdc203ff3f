"""Unknown samples of an image, and the values stored where no known sample is in reach."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._base.types import Array
from ..arrays.masks import Nan
from ..arrays.output import integer_range, store
from ..filters.plan import Plan
from .guard import FileError
from .image import Image, size_text


class Knowledge(NamedTuple):
    """Which samples of an image are known.

    Attributes
    ----------
    mask : ndarray of bool, or None
        In the shape of the image, or of length 1 along its samples where these are known together; None if
        no sample is unknown but for NaN.
    nan : {"propagate", "omit"}
        What NaN means, as in `separable.correlate`.
    """

    mask: Array | None
    nan: Nan

    @property
    def complete(self) -> bool:
        """Whether all samples are known."""
        return self.mask is None and self.nan == "propagate"


def knowledge(image: Image, mask: Array | None, nan: Nan) -> Knowledge:
    """Return which samples of an image are known: in `mask`, not its no-data value, and not NaN if omitted.

    With opacity a pixel is known or unknown as a whole: unknown where all its colours are the no-data value,
    and where one of its samples is masked, or is NaN and NaN is omitted.
    """
    data, samples = image.data, image.axes.find("S") if image.alpha else None
    omit = nan == "omit" and data.dtype.kind in "fc" and bool(np.isnan(data).any())
    parts: list[Array] = []
    if mask is not None:
        parts.append(_together(np.broadcast_to(mask, data.shape), samples))
    valid = _not_nodata(data, image.nodata)
    if valid is not None and samples is not None:
        colours, _ = np.split(valid, [data.shape[samples] - 1], axis=samples)
        valid = np.any(colours, axis=samples, keepdims=True)
    if valid is not None:
        parts.append(valid)
    if omit and samples is not None:
        parts.append(_together(~np.isnan(data), samples))
        omit = False
    known = functools.reduce(np.logical_and, parts) if parts else None
    if known is not None and known.all():
        known = None
    return Knowledge(known, "omit" if omit else "propagate")


def _together(known: Array, samples: int | None) -> Array:
    """Return where all samples of a pixel are known, if `samples` is an axis of them."""
    return known if samples is None else np.logical_and.reduce(known, axis=samples, keepdims=True)


def _not_nodata(data: Array, nodata: float | None) -> Array | None:
    """Return where samples are not the no-data value; None where that is no value of their dtype."""
    if nodata is None:
        return None
    if math.isnan(nodata):
        return ~np.isnan(data) if data.dtype.kind in "fc" else None
    if not representable(nodata, data.dtype):
        return None
    kept: Array = data != data.dtype.type(int(nodata) if data.dtype.kind in "iu" else nodata)
    return kept


def representable(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a sample of this dtype can have the value; floats take it to their precision."""
    if dtype.kind in "biu":
        low, high = integer_range(dtype)
        return math.isfinite(value) and value.is_integer() and low <= int(value) <= high
    with np.errstate(over="ignore"):
        return bool(np.isfinite(dtype.type(value))) or not math.isfinite(value)


def fitted_mask(mask: Array, image: Image, name: str, source: str) -> Array:
    """Return a mask in a shape that broadcasts to an image: of all its axes, or of its axes of space.

    Parameters
    ----------
    mask : ndarray
        0 where a sample is unknown.
    image : Image
    name, source : str
        What mask and image are, for the error.

    Returns
    -------
    ndarray of bool
        True where a sample is known.

    Raises
    ------
    FileError
        If the mask has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from separable import files
    >>> image = files.Image(np.zeros((20, 30, 3), np.uint8), "YXS", (None,) * 3, colour="RGB")
    >>> files.fitted_mask(np.ones((20, 30)), image, "mask.png", "photo.png").shape
    (20, 30, 1)
    """
    space = tuple(image.data.shape[axis] for axis in image.spatial)
    known = np.not_equal(mask, 0)
    if mask.shape == image.data.shape:
        return known
    if mask.shape == space:
        others = tuple(axis for axis in range(image.data.ndim) if axis not in image.spatial)
        return np.expand_dims(known, others)
    allowed = " or ".join(dict.fromkeys((size_text(image.data.shape), size_text(space))))
    raise FileError(
        f"`{name}` has {size_text(mask.shape)} samples, and `{source}` has {size_text(image.data.shape)}; "
        f"expected {allowed}, 0 where a sample is unknown."
    )


def filter_known(run: Plan, x: Array, place: Array, known: Knowledge, fill: float | None) -> int:
    """Filter the known samples of `x` into `place`; return the number of results without any in reach.

    Parameters
    ----------
    run : Plan
    x, place : ndarray
    known : Knowledge
        Of `x`.
    fill : float or None
        The value of these results; by default NaN, in integers 0.
    """
    if known.complete:
        run(x, output=place)
        return 0
    values = run(x, mask=known.mask, nan=known.nan)
    empty = without_known(run, x, values, known)
    store(values, place)
    if empty is None:
        return 0
    if fill is not None:
        place[empty] = fill
    return int(np.count_nonzero(empty))


def without_known(run: Plan, x: Array, values: Array, known: Knowledge) -> Array | None:
    """Return where no sample in reach is known, in the shape of `x`; None if there is no such place.

    Results are NaN there, but also where a NaN or an infinity that counts as known is in reach.
    """
    empty: Array = np.isnan(values)
    if known.complete or not empty.any():
        return None
    if x.dtype.kind in "fc":
        mask = np.broadcast_to(True if known.mask is None else known.mask, x.shape)
        if known.nan == "omit":
            mask = mask & ~np.isnan(x)
        if not np.isfinite(x[mask]).all():
            empty = np.isnan(run(np.zeros(x.shape, run.dtype), mask=mask))
    return empty


def notes(result: Array, nodata: float | None, empty: int) -> Sequence[str]:
    """Return notes on results that may surprise where samples were unknown."""
    said = []
    if empty and nodata is None and result.dtype.kind in "biu":
        said.append(f"{_results(empty)} nothing known in reach, and {_are(empty)} 0; --nodata V marks them.")
    alike = None if nodata is None else _not_nodata(result, nodata)
    by_chance = 0 if alike is None else int(alike.size - np.count_nonzero(alike)) - empty
    if by_chance > 0 and nodata is not None and not math.isnan(nodata):
        said.append(
            f"{_results(by_chance)} the no-data value {nodata:g} by chance, and will be read as unknown."
        )
    return said


def _results(count: int) -> str:
    return f"{count} result{'s have' if count > 1 else ' has'}"


def _are(count: int) -> str:
    return "are" if count > 1 else "is"
