"""A convolution layer as plain values, and what takes its place, whichever framework they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ...arrays.boundaries import PADDING_MODES, continued
from ..algebra.geometry import (
    Padding,
    output_shape,
    per_axis,
    reach,
    resolve_padding,
    weights_and_macs,
    whole,
)
from ..algebra.terms import float_array
from .activation import Activation, activation_of

__all__ = ["ConvLayer", "Replacement"]


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """One convolution with its weights, as every framework runs it: a correlation.

    A transposed convolution is one, too: zeros are put between its input's samples, its taps are in reverse,
    its padding is what their reach leaves over, and its stride is 1. A linear layer is one of a single tap.

    Attributes
    ----------
    name : str
        What the report calls it.
    weights : ndarray, shape ``(C_out, C_in/groups, *k)``, float64
    bias : ndarray, shape ``(C_out,)``, float64, or None
    stride, dilation : tuple of int
        One for each spatial axis.
    padding : tuple of (before, after)
        Samples of padding, for each spatial axis.
    groups : int
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
    sizes : tuple of int
        Input samples along each spatial axis (of one typical input, where they vary).
    calls : int
        How often one pass of the network runs it: a shared layer more than once.
    activation : Activation, str or None
        What alone reads the output (batch norm folded), or the sum of it and another branch; else None.
    summed : bool
        Whether it reads such a sum.
    read_by : str
        What reads the output instead, where no activation is known.
    input_dilation : tuple of int
        Steps from one input sample to the next, zeros between them: the stride of a transposed convolution.
    transposed : bool
        Whether frameworks run it as a transposed convolution; its `stride` is 1 then. Each weight counts once
        for each input sample, as is usual.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.conv import ConvLayer
    >>> weights, padding = np.ones((8, 3, 3, 3)), ((1, 1), (1, 1))
    >>> layer = ConvLayer("edges", weights, stride=(2, 2), padding=padding, sizes=(32, 32))
    >>> layer.out_sizes, layer.macs, layer.params
    ((16, 16), 55296, 216)
    >>> layer(np.ones((1, 3, 32, 32))).shape
    (1, 8, 16, 16)
    """

    name: str
    weights: FloatArray
    bias: FloatArray | None = None
    stride: tuple[int, ...] = ()
    padding: Padding = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"
    sizes: tuple[int, ...] = ()
    calls: int = 1
    activation: Activation | str | None = None
    summed: bool = False
    read_by: str = ""
    input_dilation: tuple[int, ...] = ()
    transposed: bool = False
    out_sizes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        weights = _frozen(float_array("weights", self.weights, least_ndim=3), self.weights)
        kernel = weights.shape[2:]
        ndim = len(kernel)
        sizes = per_axis(self.sizes or 1, ndim, "sizes")
        stride = per_axis(self.stride or 1, ndim, "stride")
        dilation = per_axis(self.dilation or 1, ndim, "dilation")
        spread = per_axis(self.input_dilation or 1, ndim, "input_dilation")
        spread_sizes = reach(sizes, spread)
        padding = resolve_padding(self.padding or 0, kernel, stride, dilation, spread_sizes)
        if max(spread) > 1 and not self.transposed:
            raise ValueError(
                f"`input_dilation={spread}` is that of a transposed convolution; pass transposed=True."
            )
        if self.transposed and (max(stride) > 1 or self.padding_mode != "zeros"):
            raise ValueError(
                f"a transposed convolution has `stride` 1 and zeros as padding; got {stride} and "
                f"{self.padding_mode!r}. Its own stride is `input_dilation`."
            )
        if len(weights) % whole(self.groups, "groups"):
            raise ValueError(f"`groups={self.groups}` does not divide {len(weights)} output channels.")
        if self.padding_mode not in PADDING_MODES:
            raise ValueError(
                f"`padding_mode={self.padding_mode!r}` is unknown; expected one of "
                f"{', '.join(map(repr, PADDING_MODES))}."
            )
        bias = None
        if self.bias is not None:
            bias = _frozen(float_array("bias", self.bias, least_ndim=1), self.bias)
            if bias.shape != (len(weights),):
                raise ValueError(
                    f"`bias` has shape {bias.shape}; expected {(len(weights),)}, one per output."
                )
        whole(self.calls, "calls")
        settled = {
            "weights": weights,
            "bias": bias,
            "sizes": sizes,
            "stride": stride,
            "dilation": dilation,
            "padding": padding,
            "input_dilation": spread,
            "activation": activation_of(self.activation),
            "out_sizes": output_shape(spread_sizes, kernel, stride, dilation, padding),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def c_out(self) -> int:
        """Output channels."""
        return int(self.weights.shape[0])

    @property
    def c_in(self) -> int:
        """Input channels, of all groups."""
        return int(self.weights.shape[1]) * self.groups

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each spatial axis."""
        return self.weights.shape[2:]

    @property
    def taps(self) -> int:
        """Taps of one channel's filter, over all axes."""
        return math.prod(self.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input sample, all calls."""
        counted = self.sizes if self.transposed else self.out_sizes
        return weights_and_macs(self.c_in, self.c_out, self.kernel, self.groups, counted)[1] * self.calls

    @property
    def params(self) -> int:
        """Weights and biases."""
        return self.weights.size + (0 if self.bias is None else self.bias.size)

    def sizes_for(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the samples along each axis that it makes of an input of other sizes.

        Raises
        ------
        ValueError
            If its taps reach further than the padded input.
        """
        spread = reach(sizes, self.input_dilation)
        return output_shape(spread, self.kernel, self.stride, self.dilation, self.padding)

    def filled(self, x: FloatArray) -> FloatArray:
        """Return what its taps run over: the input with all zeros between its samples and all padding.

        Parameters
        ----------
        x : ndarray, shape ``(N, C_in, *sizes)``

        Returns
        -------
        ndarray
        """
        if max(self.input_dilation) > 1:
            spread = np.zeros((*x.shape[:2], *reach(x.shape[2:], self.input_dilation)), x.dtype)
            places = tuple(slice(None, None, step) for step in self.input_dilation)
            spread[(slice(None), slice(None), *places)] = x
            x = spread
        return _padded(x, self.padding, self.padding_mode)

    def __call__(self, x: npt.ArrayLike) -> FloatArray:
        """Run it in float64: a reference, not fast.

        Parameters
        ----------
        x : array_like, shape ``(N, C_in, *sizes)``
            Sizes may differ from `sizes`.

        Returns
        -------
        ndarray, shape ``(N, C_out, *out_sizes)``
        """
        given = np.asarray(x, np.float64)
        filled, sizes = self.filled(given), self.sizes_for(given.shape[2:])
        rows = self.weights.reshape(self.groups, -1, *self.weights.shape[1:])
        total = np.zeros((len(filled), self.groups, rows.shape[1], math.prod(sizes)))
        for tap in np.ndindex(self.kernel):
            window = tuple(
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, self.dilation, sizes, self.stride, strict=True)
            )
            seen = filled[(slice(None), slice(None), *window)]
            total += rows[(..., *tap)] @ seen.reshape(len(filled), self.groups, rows.shape[2], -1)
        result: FloatArray = total.reshape(len(filled), self.c_out, *sizes)
        if self.bias is not None:
            result += self.bias.reshape(-1, *(1,) * len(sizes))
        return result


@dataclass(frozen=True, eq=False)
class Replacement:
    """What a layer is written as: ordinary convolutions, one after the other, nothing between them.

    Attributes
    ----------
    form : {"dense", "dw-pw", "pw-dw", "spatial", "low-rank"}
    rank : int or tuple of int
        Terms T of "dw-pw" and "pw-dw" (a tuple: of each input channel), channels between the
        convolutions of "spatial" and "low-rank" (of one group); 0 for "dense".
    convs : tuple of ConvLayer
        In running order; only the last has a bias.
    error : float
        Mean squared error of the layer's output on the data over the output's variance; without data
        ``||W - W^||**2 / ||W||**2``.
    channels : tuple of int or None
        The input channels that the first convolution reads, in its order: ``x[:, channels]``. None: all.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> weights = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> new = sp.conv.fit(layer, form="low-rank", rank=3)
    >>> new.form, new.rank, [conv.weights.shape for conv in new.convs]
    ('low-rank', 3, [(3, 4, 3, 3), (8, 3, 1, 1)])
    >>> layer.macs, sum(conv.macs for conv in new.convs)
    (18432, 8448)
    """

    form: str
    rank: int | tuple[int, ...]
    convs: tuple[ConvLayer, ...]
    error: float
    channels: tuple[int, ...] | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input sample, all calls."""
        return sum(conv.macs for conv in self.convs)

    @property
    def params(self) -> int:
        """Weights and biases."""
        return sum(conv.params for conv in self.convs)

    def __call__(self, x: npt.ArrayLike) -> FloatArray:
        """Run it in float64: a reference, not fast.

        Parameters
        ----------
        x : array_like, shape ``(N, C_in, *sizes)``

        Returns
        -------
        ndarray, shape ``(N, C_out, *out_sizes)``
        """
        seen = np.asarray(x, np.float64)
        if self.channels is not None:
            seen = seen[:, list(self.channels)]
        for conv in self.convs:
            seen = conv(seen)
        return seen


def _padded(x: npt.NDArray[np.float64], padding: Padding, mode: str) -> FloatArray:
    """Return (N, C, *sizes) with samples added around each spatial axis as `mode` says."""
    if not any(side for sides in padding for side in sides):
        return x
    filled: FloatArray = x
    for axis, sides in enumerate(padding, 2):  # one axis at a time: every mode but circular allows any order
        filled = continued(filled, axis, *sides, PADDING_MODES[mode])
    return filled


def _frozen(array: FloatArray, given: npt.ArrayLike) -> FloatArray:
    """Return the array read-only, without touching the one that was given."""
    own = array.copy() if array is given else array.view()
    own.flags.writeable = False
    return own
