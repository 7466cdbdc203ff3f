"""Where the taps of a convolution layer fall: stride, dilation, padding, and the size of what comes out.

A layer is a correlation, as in every framework: along an axis, output sample o is
``sum_k w[k] * x[o*stride + k*dilation - before]``, where `before` samples of padding precede x.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence, Sized
from typing import Any, SupportsIndex, TypeAlias, TypeVar

__all__ = [
    "Padding",
    "PaddingLike",
    "PerAxis",
    "axis_count",
    "output_shape",
    "per_axis",
    "reach",
    "resolve_padding",
    "weights_and_macs",
    "whole",
]

T = TypeVar("T")

PerAxis: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
Padding: TypeAlias = tuple[tuple[int, int], ...]  # samples (before, after) each axis
PaddingLike: TypeAlias = str | SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]


def per_axis(value: PerAxis, ndim: int, name: str, least: int = 1) -> tuple[int, ...]:
    """Return one whole number for each spatial axis.

    Parameters
    ----------
    value : int or sequence of int
        One number for all axes, or one for each.
    ndim : int
        Number of spatial axes.
    name : str
        What the argument is called in an error.
    least : int, optional
        The smallest number allowed.

    Returns
    -------
    tuple of int, length `ndim`

    Raises
    ------
    TypeError
        If a number is not whole.
    ValueError
        If there are not `ndim` of them, or one is below `least`.
    """
    if not isinstance(value, Iterable):
        return (whole(value, name, least),) * ndim
    given = _one_per_axis(tuple(value), ndim, name, value)
    return tuple(whole(number, f"{name}[{axis}]", least) for axis, number in enumerate(given))


def axis_count(ndim: SupportsIndex, *values: PerAxis | None) -> int:
    """Return the number of spatial axes that arguments imply.

    Parameters
    ----------
    ndim : int
        The answer where no value has an entry for each axis.
    *values : int, sequence of int or None

    Returns
    -------
    int
        The length of the first sequence, else `ndim`.
    """
    lengths = (len(value) for value in values if isinstance(value, Sized))
    return next(lengths, whole(ndim, "ndim"))


def reach(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return how many samples the dilated taps span along each axis: ``(k - 1) * dilation + 1``.

    Parameters
    ----------
    kernel, dilation : sequence of int
        One number for each axis.

    Returns
    -------
    tuple of int
    """
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def resolve_padding(
    padding: PaddingLike,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    sizes: Sequence[int],
) -> Padding:
    """Return the samples of padding before and after each axis.

    Parameters
    ----------
    padding : "same", "valid", int, sequence of int, or sequence of (before, after)
        "same" gives ``ceil(size / stride)`` output samples and, where the padding is odd, puts the
        extra sample after the axis (ONNX's SAME_UPPER; torch's "same" at stride 1). "valid" is 0.
    kernel, stride, dilation, sizes : sequence of int
        One number for each spatial axis; `sizes` are the input's.

    Returns
    -------
    tuple of (before, after), one for each axis

    Raises
    ------
    TypeError
        If a number is not whole.
    ValueError
        If `padding` is another word, has the wrong number of entries, or one is negative.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if padding != "same":
            raise ValueError(
                f"`padding={padding!r}` is unknown; expected 'same', 'valid', a number of samples, "
                "one per axis, or one (before, after) per axis."
            )
        return tuple(map(_same, sizes, stride, reach(kernel, dilation)))
    if not isinstance(padding, Iterable):
        return ((whole(padding, "padding", 0),) * 2,) * len(kernel)
    given = _one_per_axis(tuple(padding), len(kernel), "padding", padding)
    return tuple(_both_sides(entry, f"padding[{axis}]") for axis, entry in enumerate(given))


def output_shape(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Padding,
) -> tuple[int, ...]:
    """Return the number of output samples along each axis.

    Parameters
    ----------
    sizes, kernel, stride, dilation : sequence of int
        One number for each spatial axis; `sizes` are the input's.
    padding : sequence of (before, after)
        As :func:`resolve_padding` returns it.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If the taps reach further than the padded axis.
    """
    lengths = []
    spans = reach(kernel, dilation)
    for axis, (n, span, step, (before, after)) in enumerate(zip(sizes, spans, stride, padding, strict=True)):
        room = before + n + after - span
        if room < 0:
            raise ValueError(
                f"axis {axis} has {n} samples and padding ({before}, {after}), but {kernel[axis]} taps with "
                f"dilation {dilation[axis]} reach over {span}; pad at least "
                f"{-room} more, or pass padding='same'."
            )
        lengths.append(room // step + 1)
    return tuple(lengths)


def _same(size: int, stride: int, span: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _both_sides(entry: SupportsIndex | Sequence[SupportsIndex], name: str) -> tuple[int, int]:
    if not isinstance(entry, Iterable):
        return (whole(entry, name, 0),) * 2
    sides = tuple(entry)
    if len(sides) != 2:
        raise ValueError(f"`{name}` has {len(sides)} entries; expected a number, or (before, after).")
    return whole(sides[0], f"{name}[0]", 0), whole(sides[1], f"{name}[1]", 0)


def _one_per_axis(given: tuple[T, ...], ndim: int, name: str, shown: object) -> tuple[T, ...]:
    if len(given) != ndim:
        raise ValueError(
            f"`{name}={shown!r}` has {len(given)} entries for {ndim} spatial axes; "
            "pass one value, or one per axis."
        )
    return given


def whole(value: Any, name: str, least: int = 1) -> int:
    """Return `value` as an int of at least `least`, or say what `name` got."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}={value!r}` is not a whole number.") from None
    if number < least:
        raise ValueError(f"`{name}={number}` is too small; expected at least {least}.")
    return number


def weights_and_macs(
    c_in: int, c_out: int, kernel: Sequence[int], groups: int, out_sizes: Sequence[int]
) -> tuple[int, int]:
    """Count a convolution: every other count of weights and MACs in this package comes down to this one.

    Parameters
    ----------
    c_in, c_out, groups : int
    kernel : sequence of int
        Taps along each axis.
    out_sizes : sequence of int
        Samples that it makes of each channel, along each axis; a batch is one more.

    Returns
    -------
    weights, macs : int
    """
    weights = math.prod(kernel) * (c_in // groups) * c_out
    return weights, weights * math.prod(out_sizes)
