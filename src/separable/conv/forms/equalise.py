"""The free scale between two convolutions, chosen so that quantising them to eight bits costs least."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from .layer import ConvLayer, Replacement

__all__ = ["EqualisedOn", "equalised"]

# Steps of eight bits: activations from the least to the largest value, weights about zero.
_ACTIVATION_STEPS: Final = 255
_WEIGHT_STEPS: Final = 127

# The maximum of several values is smoothed to their p-norm, p being this, so that all of them count.
_POWER: Final = 16

# Rounds of moving all scales, how far, and the gain below which they end.
_ROUNDS: Final = 200
_STEP: Final = 0.25
_SMALLEST_STEP: Final = 1e-3
_GAIN: Final = 1e-5

# Logarithm of the largest scale: float16 has to hold the scaled values.
_LIMIT: Final = math.log(64)

# Inputs from which equalisation takes the ranges of channels: at least, at most, and in between as many as
# have so many positions, or take so many multiply-accumulates.
_FEWEST: Final = 8
_MOST: Final = 128
_POSITIONS: Final = 8192
_MACS: Final = 1e8

# Positions of one input, at most; and the golden section, by which the places of such windows are spread.
# Eight whole inputs of 240 x 240 took 6 s and 600 MiB for a layer of 64 channels (VGG16, measured).
_WINDOW: Final = 4096
_TURN: Final = 0.6180339887


def equalised(replacement: Replacement, inputs: npt.ArrayLike) -> Replacement:
    """Return the same function with the channels between its convolutions scaled for eight bits.

    Each channel between two convolutions may be multiplied by any number if the weights behind it are divided
    by it. Chosen are numbers for which the expected error is least when activations are quantised
    per tensor and weights per tensor or per output channel [1]_: channels of equal range waste no step of
    the activations, and rows of equal size none of the weights. Signs are chosen such that every channel
    reaches further above zero than below: then their ranges overlap most.

    Parameters
    ----------
    replacement : Replacement
    inputs : array_like, shape ``(N, C_in, *sizes)``
        Some of what the layer reads: how far channels reach shows on them.

    Returns
    -------
    Replacement
        Unchanged but for rounding, in what it gives; the very same one if it has one convolution.

    References
    ----------
    .. [1] M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, Data-free quantization through weight
       equalization and bias correction, ICCV 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3)) * [[[[1.0]], [[10.0]], [[0.1]], [[1.0]]]]
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> pair, x = sp.conv.fit(layer, form="dw-pw", rank=1), rng.standard_normal((16, 4, 8, 8))
    >>> even = sp.conv.equalised(pair, x)
    >>> reach = [np.abs(found.convs[0](x)).max(axis=(0, 2, 3)) for found in (pair, even)]
    >>> bool(np.ptp(np.log(reach[1])) < np.ptp(np.log(reach[0])))  # channels of more equal range
    True
    >>> same = [found.convs[1](found.convs[0](x)) for found in (pair, even)]
    >>> bool(np.allclose(*same))
    True
    """
    if len(replacement.convs) < 2:
        return replacement
    seen = np.asarray(inputs, np.float64)
    if replacement.channels is not None:
        seen = seen[:, list(replacement.channels)]
    convs = list(replacement.convs)
    for place in range(len(convs) - 1):
        made = convs[place](seen)
        pair = _RoundingCost(convs[place], convs[place + 1], seen, made)
        scales = pair.signs * pair.scales()
        convs[place : place + 2] = _scaled(convs[place], convs[place + 1], scales)
        seen = made * scales.reshape(-1, *(1,) * (made.ndim - 2))
    return replace(replacement, convs=tuple(convs))


def _scaled(first: ConvLayer, second: ConvLayer, scales: FloatArray) -> tuple[ConvLayer, ConvLayer]:
    """Return two convolutions with the channels between them multiplied by numbers."""
    axes = (1,) * len(first.kernel)
    rows = scales.reshape(second.groups, 1, -1, *axes)
    divided = second.weights.reshape(second.groups, -1, *second.weights.shape[1:]) / rows
    return (
        replace(first, weights=first.weights * scales.reshape(-1, 1, *axes)),
        replace(second, weights=divided.reshape(second.weights.shape)),
    )


# -- what quantising costs -------------------------------------------------------------------------------


class _RoundingCost:
    """What rounding to eight bits costs at the output of the second of two convolutions, by the scales.

    Errors are taken as independent, each uniform over a step; the cost is that with a step for each output
    channel of the weights, and that with one step for all of them, added up. It is a sum of products of
    largest values and sums, and convex in the logarithms of the scales.
    """

    def __init__(self, first: ConvLayer, second: ConvLayer, seen: FloatArray, made: FloatArray) -> None:
        axes = (0, *range(2, made.ndim))
        high, low = np.maximum(made.max(axis=axes), 0), np.maximum(-made.min(axis=axes), 0)
        weights = second.weights.reshape(second.groups, second.c_out // second.groups, -1, second.taps)
        self.signs = np.where(low > high, -1.0, 1.0)
        # Of each channel between them: its range above and below zero; the largest weight of the first
        # convolution that makes it, and the energy of what those weights read; the sum of squares of the
        # second one's weights on it, and its own energy at all their taps.
        self.above, self.below = np.maximum(high, low), np.minimum(high, low)
        self.made = np.abs(first.weights).reshape(len(high), -1).max(axis=1)
        hit = first.taps / math.prod(first.input_dilation)  # taps that meet no zero of a transposed layer
        read = np.square(seen).mean(axis=axes).reshape(first.groups, -1).sum(axis=1) * hit
        self.read = np.repeat(read, len(high) // first.groups)
        self.met = np.square(weights).sum(axis=(1, 3)).reshape(-1)
        self.square = second.taps / math.prod(second.input_dilation) * np.square(made).mean(axis=axes)
        self.rows = np.abs(weights).max(axis=3)  # (groups, outputs, channels of a group)

    def scales(self) -> FloatArray:
        """Return the scales of least cost, by moving each against the part of the cost that it is in."""
        logs, step = np.zeros(len(self.made)), _STEP
        cost, rising, falling = self.cost(logs)
        for _ in range(_ROUNDS):
            # Where the cost is least, what rises with a scale and what falls with it are in balance.
            live = (rising > 0) & (falling > 0)
            pull = np.log(np.where(live, falling, 1.0) / np.where(live, rising, 1.0))
            moved = np.clip(logs + step * pull, -_LIMIT, _LIMIT)
            other = self.cost(moved)
            if other[0] >= cost:
                step /= 2
                if step < _SMALLEST_STEP:
                    break
                continue
            gained = cost - other[0]
            logs, (cost, rising, falling) = moved, other
            if gained <= _GAIN * cost:
                break
        return np.exp(logs)

    def cost(self, logs: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Return the cost of some scales, and how much of it rises and falls with each of them."""
        scales = np.exp(logs)
        met = self.met / np.square(scales)
        square = (self.square * np.square(scales)).reshape(len(self.rows), -1)
        (above, of_above), (below, of_below) = _peak(self.above * scales), _peak(self.below * scales)
        reach = above + below
        of_reach = (above * of_above + below * of_below) / (reach or 1.0)
        made, of_made = _peak(self.made * scales)
        rows, of_rows = _peak(self.rows / scales.reshape(len(self.rows), 1, -1))
        tensor, of_tensor = _peak(rows.reshape(-1))
        outputs = rows.shape[1]
        # One step for all values between the two, as often as there are costs of weights.
        activations = 2 * (reach / _ACTIVATION_STEPS) ** 2
        first = (made / _WEIGHT_STEPS) ** 2
        by_row = np.square(rows / _WEIGHT_STEPS)
        by_tensor = (tensor / _WEIGHT_STEPS) ** 2
        total = square.sum(axis=1)
        read = self.read * met
        share = by_row * total[:, np.newaxis] + by_tensor * outputs * total.sum() * of_tensor.reshape(
            rows.shape
        )
        cost = activations * met.sum() + first * read.sum()
        cost += np.sum(by_row.sum(axis=1) * total) + by_tensor * outputs * total.sum()
        rising = activations * met.sum() * of_reach + first * read.sum() * of_made
        rising += (square * (by_row.sum(axis=1) + by_tensor * outputs)[:, np.newaxis]).reshape(-1)
        falling = activations * met + first * read
        falling += np.einsum("go,goi->gi", share, of_rows).reshape(-1)
        return float(cost), rising, falling


def _peak(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the largest values along the last axis, smoothed, and how much of each is due to every one."""
    top = values.max(axis=-1, keepdims=True)
    powers = (values / np.where(top > 0, top, 1.0)) ** _POWER
    total = powers.sum(axis=-1, keepdims=True)
    shares = powers / np.where(top > 0, total, 1.0)
    return (top * total ** (1 / _POWER))[..., 0], shares


class EqualisedOn:
    """Some of what a layer reads: how far the channels reach between the convolutions that it becomes.

    Parameters
    ----------
    layer : ConvLayer

    Attributes
    ----------
    inputs : int
        How many are enough.
    """

    def __init__(self, layer: ConvLayer) -> None:
        enough = max(_POSITIONS / math.prod(layer.out_sizes), _MACS / layer.macs)
        self.inputs = max(_FEWEST, min(_MOST, math.ceil(enough)))
        self._kept: list[npt.NDArray[Any]] = []
        self._seen = 0

    def add(self, x: npt.NDArray[Any], expected: int | None = None) -> None:
        """Keep some inputs of a batch, spread over all that are expected; the same, however they are cut."""
        step = -(-(expected or self.inputs) // self.inputs)
        for row in range(-self._seen % step, len(x), step):
            window = _window(x[row], self._seen + row)
            if not self._kept or window.shape == self._kept[0].shape:  # others cannot stand in one array
                self._kept.append(window)
        self._seen += len(x)

    def equalised(self, new: Replacement) -> Replacement:
        """Return what :func:`equalised` does; what is there if nothing was added."""
        return equalised(new, np.stack(self._kept)) if self._kept else new


def _window(x: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """Return a copy of a part of one input, of which each number has another place."""
    length = round(_WINDOW ** (1 / (x.ndim - 1)))
    cuts = []
    for axis, size in enumerate(x.shape[1:], 1):
        start = int((number * _TURN * axis) % 1.0 * max(size - length + 1, 1))
        cuts.append(slice(start, start + length))
    return np.array(x[(slice(None), *cuts)])
