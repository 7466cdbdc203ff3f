"""What a convolution costs in each of its forms: parameters, multiply-accumulates, bytes, roofline time.

Counts are exact Python integers. A MAC is one multiply-accumulate and counts as 2 FLOPs; bias additions
are not counted, and taps that fall on padding are, as is usual. With ``sizes`` (the spatial shape of the
input) a count is that of one call; without, it is that of one output sample. ``kernel``, ``stride``,
``padding`` and ``dilation`` are one number for all axes or one for each; the number of axes is that of
`sizes` or of `kernel`, else `ndim`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import SupportsIndex

from .algebra.geometry import (
    PaddingLike,
    PerAxis,
    axis_count,
    output_shape,
    per_axis,
    resolve_padding,
    weights_and_macs,
    whole,
)
from .algebra.terms import checked_order, depthwise_first

__all__ = [
    "Cost",
    "break_even_rank",
    "depthwise",
    "depthwise_separable",
    "low_rank",
    "more_than",
    "pointwise",
    "ratio",
    "savings",
    "spatially_separable",
    "speedup",
    "standard",
]


@dataclass(frozen=True)
class Cost:
    """What one layer, or several after another, cost. ``a + b`` is the cost of both.

    Attributes
    ----------
    params : int
        Weights and biases.
    macs : int
        Multiply-accumulates, of one call or of one output sample.
    bytes : int or None
        Memory traffic of a call: weights, input and output, each once. None where sizes are not known.

    Examples
    --------
    >>> from separable.conv import cost
    >>> pair = cost.depthwise(64, 3, (56, 56)) + cost.pointwise(64, 128, (56, 56))
    >>> pair.macs == cost.depthwise_separable(64, 128, 3, (56, 56)).macs, pair.flops
    (True, 54992896)
    >>> seconds = pair.seconds(peak_flops=100e9, bandwidth=10e9)
    >>> f"{1e3 * seconds:.2f} ms", pair.limit(peak_flops=100e9, bandwidth=10e9)
    ('0.55 ms', 'compute')
    """

    params: int
    macs: int
    bytes: int | None = None

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each MAC."""
        return 2 * self.macs

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, FLOPs per byte of memory traffic."""
        return self.flops / self._traffic()

    def seconds(self, peak_flops: float, bandwidth: float) -> float:
        """Return the least time that the roofline model allows [1]_.

        Parameters
        ----------
        peak_flops : float
            FLOPs per second that the machine can do.
        bandwidth : float
            Bytes per second that its memory can move.

        Returns
        -------
        float
            Seconds: the longer of computing and moving, which overlap.

        References
        ----------
        .. [1] S. Williams, A. Waterman, D. Patterson, Roofline: an insightful visual performance model
           for multicore architectures, CACM 52(4), 2009.
        """
        return max(
            self.flops / _rate("peak_flops", peak_flops), self._traffic() / _rate("bandwidth", bandwidth)
        )

    def limit(self, peak_flops: float, bandwidth: float) -> str:
        """Return which side of the roofline decides: "compute" or "memory". Arguments as for `seconds`."""
        computing = self.flops / _rate("peak_flops", peak_flops)
        return "compute" if computing >= self._traffic() / _rate("bandwidth", bandwidth) else "memory"

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        known = self.bytes is not None and other.bytes is not None
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            (self.bytes or 0) + (other.bytes or 0) if known else None,
        )

    def _traffic(self) -> int:
        if self.bytes is None:
            raise ValueError("the bytes of this cost are unknown; pass sizes=(height, width) when making it.")
        return self.bytes


# -- the forms ---------------------------------------------------------------------------------------


def standard(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    sizes: PerAxis | None = None,
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = "same",
    dilation: PerAxis = 1,
    groups: SupportsIndex = 1,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of a dense convolution: ``K * C_in/groups * C_out`` MACs per output sample.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel : int or sequence of int
        Taps along each axis.
    sizes : int or sequence of int, optional
        Samples of the input along each axis. Default: count for one output sample.
    stride, dilation : int or sequence of int, optional
    padding : "same", "valid", int, sequence of int, or sequence of (before, after), optional
    groups : int, optional
    bias : bool, optional
        Whether a bias is added to each output channel.
    batch : int, optional
        Inputs per call; counts only where `sizes` are given.
    itemsize : int, optional
        Bytes of a number: 4 for float32.
    ndim : int, optional
        Spatial axes, where neither `kernel` nor `sizes` tells.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.standard(64, 128, 3)
    Cost(params=73728, macs=73728, bytes=None)
    >>> cost.standard(64, 128, 3, sizes=(56, 56)).macs // 56**2
    73728
    """
    field = _field(kernel, sizes, stride, batch, itemsize, ndim)
    window = _window(field, kernel, stride, padding, dilation)
    return field.conv(whole(c_in, "c_in"), whole(c_out, "c_out"), window, whole(groups, "groups"), bias)[0]


def depthwise(
    c_in: SupportsIndex,
    kernel: PerAxis,
    sizes: PerAxis | None = None,
    *,
    multiplier: SupportsIndex = 1,
    stride: PerAxis = 1,
    padding: PaddingLike = "same",
    dilation: PerAxis = 1,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of a depthwise convolution: `multiplier` filters for each input channel.

    Parameters
    ----------
    c_in : int
        Input channels; there are ``c_in * multiplier`` output channels.
    multiplier : int, optional
    kernel, sizes, stride, padding, dilation, bias, batch, itemsize, ndim
        As for :func:`standard`.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.depthwise(64, 3)
    Cost(params=576, macs=576, bytes=None)
    """
    field = _field(kernel, sizes, stride, batch, itemsize, ndim)
    window = _window(field, kernel, stride, padding, dilation)
    channels = whole(c_in, "c_in")
    return field.conv(channels, channels * whole(multiplier, "multiplier"), window, channels, bias)[0]


def pointwise(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    sizes: PerAxis | None = None,
    *,
    stride: PerAxis = 1,
    groups: SupportsIndex = 1,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of a 1x1 convolution.

    Parameters
    ----------
    c_in, c_out, sizes, stride, groups, bias, batch, itemsize, ndim
        As for :func:`standard`.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.pointwise(64, 128)
    Cost(params=8192, macs=8192, bytes=None)
    """
    return standard(
        c_in,
        c_out,
        1,
        sizes,
        stride=stride,
        padding="valid",
        groups=groups,
        bias=bias,
        batch=batch,
        itemsize=itemsize,
        ndim=ndim,
    )


def depthwise_separable(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    sizes: PerAxis | None = None,
    *,
    multiplier: SupportsIndex = 1,
    order: str = "dw-pw",
    stride: PerAxis = 1,
    padding: PaddingLike = "same",
    dilation: PerAxis = 1,
    groups: SupportsIndex = 1,
    fused: bool = False,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of a depthwise separable convolution.

    Per output sample ``T * C_in * (K + C_out/groups)`` MACs for "dw-pw". For "pw-dw" it is
    ``T * C_out * (S * C_in/groups + K)``: the stride belongs to the depthwise convolution, so the pointwise
    one runs on S, the product of the strides, times as many samples.

    Parameters
    ----------
    c_in, c_out, kernel, sizes, stride, padding, dilation, batch, itemsize, ndim
        As for :func:`standard`.
    multiplier : int, optional
        Depth multiplier T.
    order : {"dw-pw", "pw-dw"}, optional
    groups : int, optional
        Groups of the pointwise convolution.
    fused : bool, optional
        Whether what passes between the two convolutions stays in the cache, as in :class:`FusedConv`, and
        is not counted as traffic.
    bias : bool, optional
        Whether each of the two adds a bias.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.depthwise_separable(64, 128, 3).macs, cost.standard(64, 128, 3).macs
    (8768, 73728)
    >>> apart = cost.depthwise_separable(64, 128, 3, (56, 56))
    >>> fused = cost.depthwise_separable(64, 128, 3, (56, 56), fused=True)
    >>> apart.macs == fused.macs, apart.bytes > fused.bytes
    (True, True)
    """
    field = _field(kernel, sizes, stride, batch, itemsize, ndim)
    window = _window(field, kernel, stride, padding, dilation)
    dot = _window(field, 1, 1, "valid", 1)
    inputs, outputs, parts = whole(c_in, "c_in"), whole(c_out, "c_out"), whole(groups, "groups")
    terms = whole(multiplier, "multiplier")
    if depthwise_first(checked_order(order)):
        hidden = inputs * terms
        first, between = field.conv(inputs, hidden, window, inputs, bias)
        second, _ = between.conv(hidden, outputs, dot, parts, bias)
    else:
        hidden = outputs * terms
        first, between = field.conv(inputs, hidden, dot, parts, bias)
        second, _ = between.conv(hidden, outputs, window, outputs, bias)
    both = first + second
    if not fused or both.bytes is None:
        return both
    return Cost(both.params, both.macs, both.bytes - 2 * between.bytes(hidden))


def spatially_separable(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    sizes: PerAxis | None = None,
    *,
    hidden: SupportsIndex | None = None,
    stride: PerAxis = 1,
    padding: PaddingLike = "same",
    dilation: PerAxis = 1,
    groups: SupportsIndex = 1,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of one convolution along each axis in turn, axis 0 first.

    Channels go from `c_in` to `hidden` in the first and to `c_out` in the last. With one channel it is the
    separable filter: k + k MACs per sample instead of k*k.

    Parameters
    ----------
    c_in, c_out, kernel, sizes, stride, padding, dilation, batch, itemsize, ndim
        As for :func:`standard`; each axis is strided by its own convolution.
    hidden : int, optional
        Channels between the convolutions. Default: `c_out`.
    groups : int, optional
        Of each of the convolutions.
    bias : bool, optional
        Whether each of them adds one.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.spatially_separable(1, 1, 7).macs, cost.standard(1, 1, 7).macs
    (14, 49)
    >>> cost.spatially_separable(1, 1, 10, ndim=3).macs, cost.standard(1, 1, 10, ndim=3).macs
    (30, 1000)
    """
    field = _field(kernel, sizes, stride, batch, itemsize, ndim)
    window = _window(field, kernel, stride, padding, dilation)
    axes = len(window.kernel)
    between = whole(c_out if hidden is None else hidden, "hidden")
    channels = [whole(c_in, "c_in"), *(between,) * (axes - 1), whole(c_out, "c_out")]
    total = Cost(0, 0, 0 if field.known else None)
    for axis in range(axes):
        step, field = field.conv(
            channels[axis], channels[axis + 1], window.along(axis), whole(groups, "groups"), bias
        )
        total += step
    return total


def low_rank(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    rank: SupportsIndex,
    sizes: PerAxis | None = None,
    *,
    stride: PerAxis = 1,
    padding: PaddingLike = "same",
    dilation: PerAxis = 1,
    bias: bool = False,
    batch: SupportsIndex = 1,
    itemsize: SupportsIndex = 4,
    ndim: int = 2,
) -> Cost:
    """Return the cost of a bottleneck: a dense convolution to `rank` channels, then a 1x1 to `c_out`.

    What the truncated SVD of the (C_out, C_in*K) matrix of all weights gives.

    Parameters
    ----------
    c_in, c_out, kernel, sizes, stride, padding, dilation, batch, itemsize, ndim
        As for :func:`standard`.
    rank : int
        Channels of the bottleneck.
    bias : bool, optional
        Whether each of the two adds a bias.

    Returns
    -------
    Cost

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.low_rank(64, 128, 3, rank=16).macs == 9 * 64 * 16 + 16 * 128
    True
    """
    field = _field(kernel, sizes, stride, batch, itemsize, ndim)
    window = _window(field, kernel, stride, padding, dilation)
    narrow = whole(rank, "rank")
    first, between = field.conv(whole(c_in, "c_in"), narrow, window, 1, bias)
    return first + between.conv(narrow, whole(c_out, "c_out"), _window(field, 1, 1, "valid", 1), 1, bias)[0]


# -- comparing the separable form, dw-pw, with the dense one -----------------------------------------


def ratio(c_out: SupportsIndex, k: PerAxis, *, multiplier: SupportsIndex = 1, ndim: int = 2) -> float:
    """Return MACs (or weights) of depthwise separable over dense: ``T * (1/C_out + 1/K)``.

    Independent of the size of the image and of the number of input channels.

    Parameters
    ----------
    c_out : int
        Output channels.
    k : int or sequence of int
        Taps along each axis; an int means the same along `ndim` axes.
    multiplier : int, optional
        Depth multiplier T.
    ndim : int, optional

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> round(cost.ratio(c_out=384, k=3), 4), round(1 / 384 + 1 / 9, 4)
    (0.1137, 0.1137)
    """
    return float(_ratio(c_out, k, multiplier, ndim))


def savings(c_out: SupportsIndex, k: PerAxis, *, multiplier: SupportsIndex = 1, ndim: int = 2) -> float:
    """Return the fraction of MACs that is saved, ``1 - ratio``; negative where nothing is.

    Parameters
    ----------
    c_out, k, multiplier, ndim
        As for :func:`ratio`.

    Returns
    -------
    float

    Examples
    --------
    >>> from separable.conv import cost
    >>> f"{cost.savings(c_out=384, k=3):.1%}"
    '88.6%'
    >>> cost.savings(c_out=8, k=3, multiplier=8) < 0  # eight filters a channel cost more than the dense layer
    True
    """
    return float(1 - _ratio(c_out, k, multiplier, ndim))


def speedup(c_out: SupportsIndex, k: PerAxis, *, multiplier: SupportsIndex = 1, ndim: int = 2) -> float:
    """Return dense MACs over separable ones, ``C_out*K / (T * (C_out + K))``.

    What a machine can realise of it is another matter: see `Cost.seconds`.

    Parameters
    ----------
    c_out, k, multiplier, ndim
        As for :func:`ratio`.

    Returns
    -------
    float

    Examples
    --------
    >>> from separable.conv import cost
    >>> [round(cost.speedup(c_out, k=3), 1) for c_out in (32, 128, 512)]
    [7.0, 8.4, 8.8]
    """
    return float(1 / _ratio(c_out, k, multiplier, ndim))


def more_than(
    times: float | Fraction,
    c_out: SupportsIndex,
    kernel: PerAxis,
    *,
    multiplier: SupportsIndex = 1,
    ndim: int = 2,
) -> bool:
    """Tell whether depthwise separable saves more than a factor: ``times * ratio < 1``, exactly.

    Never where K <= T*times, whatever the channels: nine taps never save ten times.

    Parameters
    ----------
    times : float
        The factor, taken for the exact number it is.
    c_out, kernel, multiplier, ndim
        As for :func:`ratio`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.more_than(8, c_out=128, kernel=3), cost.more_than(10, c_out=4096, kernel=3)
    (True, False)
    >>> cost.more_than(10, c_out=17, kernel=5)
    True
    """
    return Fraction(times) * _ratio(c_out, kernel, multiplier, ndim) < 1


def break_even_rank(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    order: str = "dw-pw",
    *,
    stride: PerAxis = 1,
    groups: SupportsIndex = 1,
    ndim: int = 2,
) -> int:
    """Return the largest rank at which a separable form takes fewer MACs than the dense convolution.

    T < O*K / (K + O) for "dw-pw" and T < I*K / (S*I + K) for "pw-dw", with O and I the channels per group and
    S the product of the strides.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel : int or sequence of int
        Taps along each axis.
    order : {"dw-pw", "pw-dw"}, optional
    stride : int or sequence of int, optional
        Matters for "pw-dw" only, whose pointwise convolution runs before it.
    groups : int, optional
    ndim : int, optional
        Spatial axes, where `kernel` is an int.

    Returns
    -------
    int
        0 where even rank 1 takes as many.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from separable.conv import cost
    >>> cost.break_even_rank(64, 128, 3)
    8
    >>> cost.depthwise_separable(64, 128, 3, multiplier=8).macs < cost.standard(64, 128, 3).macs
    True
    """
    dense = standard(c_in, c_out, kernel, stride=stride, groups=groups, ndim=ndim).macs
    one = depthwise_separable(c_in, c_out, kernel, order=order, stride=stride, groups=groups, ndim=ndim).macs
    return (dense - 1) // one


def _ratio(c_out: SupportsIndex, kernel: PerAxis, multiplier: SupportsIndex, ndim: int) -> Fraction:
    taps = math.prod(per_axis(kernel, axis_count(ndim, kernel), "kernel"))
    return whole(multiplier, "multiplier") * (Fraction(1, whole(c_out, "c_out")) + Fraction(1, taps))


# -- counting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """What a convolution reads along each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: PaddingLike

    def along(self, axis: int) -> _Window:
        """Return the part of it along one axis; one tap along the others."""

        def lone(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(value if i == axis else 1 for i, value in enumerate(values))

        padding = self.padding
        if isinstance(padding, Iterable) and not isinstance(padding, str):
            padding = tuple(entry if i == axis else 0 for i, entry in enumerate(padding))
        elif not isinstance(padding, str):
            padding = tuple(padding if i == axis else 0 for i in range(len(self.kernel)))
        return _Window(lone(self.kernel), lone(self.stride), lone(self.dilation), padding)


@dataclass(frozen=True)
class _Field:
    """The samples a convolution reads. Where sizes are not known, those that one last output needs."""

    sizes: tuple[int, ...]
    known: bool
    batch: int
    itemsize: int

    def conv(self, c_in: int, c_out: int, window: _Window, groups: int, bias: bool) -> tuple[Cost, _Field]:
        """Return what a convolution costs here, and the samples it makes."""
        if c_in % groups or c_out % groups:
            raise ValueError(f"`groups={groups}` does not divide {c_in} input and {c_out} output channels.")
        made = _Field(self._outputs(window), self.known, self.batch, self.itemsize)
        weights, macs = weights_and_macs(c_in, c_out, window.kernel, groups, (self.batch, *made.sizes))
        params = weights + bias * c_out
        traffic = params * self.itemsize + self.bytes(c_in) + made.bytes(c_out)
        return Cost(params, macs, traffic if self.known else None), made

    @property
    def samples(self) -> int:
        return self.batch * math.prod(self.sizes)

    def bytes(self, channels: int) -> int:
        return self.samples * channels * self.itemsize

    def _outputs(self, window: _Window) -> tuple[int, ...]:
        shape = (window.kernel, window.stride, window.dilation)
        if self.known:
            return output_shape(self.sizes, *shape, resolve_padding(window.padding, *shape, self.sizes))
        return tuple(n // s for n, s in zip(self.sizes, window.stride, strict=True))


def _field(
    kernel: PerAxis,
    sizes: PerAxis | None,
    stride: PerAxis,
    batch: SupportsIndex,
    itemsize: SupportsIndex,
    ndim: int,
) -> _Field:
    axes = axis_count(ndim, kernel, sizes, stride)
    size = whole(itemsize, "itemsize")
    if sizes is None:  # one output sample takes a stride's worth of input
        return _Field(per_axis(stride, axes, "stride"), False, 1, size)
    return _Field(per_axis(sizes, axes, "sizes"), True, whole(batch, "batch"), size)


def _window(
    field: _Field, kernel: PerAxis, stride: PerAxis, padding: PaddingLike, dilation: PerAxis
) -> _Window:
    axes = len(field.sizes)
    shape = (
        per_axis(kernel, axes, "kernel"),
        per_axis(stride, axes, "stride"),
        per_axis(dilation, axes, "dilation"),
    )
    resolve_padding(padding, *shape, field.sizes)  # checked even where no size depends on it
    return _Window(*shape, padding)


def _rate(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"`{name}={value!r}` is no rate per second; expected a number > 0.")
    return value
