"""Weights less their zeros in the order in which the core's products of whole numbers read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ... import _core
from ..._base.types import Array
from .memory import rounded

__all__ = ["PackedIntegers", "packed_integers"]


@dataclass(frozen=True, eq=False)
class PackedIntegers:
    """Weights as the core holds them.

    Attributes
    ----------
    weights : _core.IntegerWeights
    taps : int
        Products of one result.
    is_depthwise : bool
        Whether each channel is filtered by itself, into one result.
    """

    weights: Any
    taps: int
    is_depthwise: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return int(self.weights.nbytes)


def packed_integers(
    weights: Array, groups: int, pitch: int, numbers: tuple[Array | None, Array | None, Array | None]
) -> PackedIntegers:
    """Return packed weights; see `WeightStore.integers`."""
    lanes = int(_core.core_info()["vector_bits"]) // 32
    made, per_group, height, width = weights.shape
    is_depthwise = groups == made > 1 and per_group == 1
    packed = _depthwise(weights, lanes) if is_depthwise else _dense(weights, groups, pitch, lanes)
    bias, scale, shift = numbers
    held = _core.IntegerWeights(
        *packed,
        np.zeros(made, np.int32) if bias is None else np.ascontiguousarray(bias, np.int32),
        weights.reshape(made, -1).sum(1, dtype=np.int32),
        np.ones(made, np.float32) if scale is None else np.ascontiguousarray(scale, np.float32),
        None if shift is None else np.ascontiguousarray(shift, np.float32),
        (per_group * groups, made, groups, height, width),
        is_depthwise,
        pitch,
    )
    return PackedIntegers(held, per_group * height * width, is_depthwise)


_More = tuple[Array, Array, Array, Array]  # quads of each panel; their run and place; their weights
_QUAD: Final = 4


def _dense(weights: Array, groups: int, pitch: int, lanes: int) -> tuple[Array, _More]:
    """Return bytes [group][panel][run][quad][vector and lane][4], and what of the weights they leave."""
    made, per_group, height, width = weights.shape
    channels = pitch if groups == 1 else rounded(per_group, _QUAD)
    last = np.zeros((made, height, width, channels), np.int16)
    last[..., :per_group] = weights.transpose(0, 2, 3, 1)
    run = (width * channels if groups == 1 else channels) // _QUAD
    parts: list[Array] = []
    counts: list[int] = []
    places: list[Array] = []
    rest_parts: list[Array] = []
    for group in last.reshape(groups, made // groups, -1):
        for first in range(0, len(group), 2 * lanes):
            panel = group[first : first + 2 * lanes]
            whole = np.zeros((rounded(len(panel), lanes), panel.shape[1]), np.int16)
            whole[: len(panel)] = panel
            part, *more = _parts(whole)
            parts.append(_in_quads(part).ravel())
            counts.append(0)
            for rest in more:
                quads = _in_quads(rest)
                needed = np.flatnonzero(quads.any(axis=(1, 2)))
                counts[-1] += len(needed)
                places.append(needed)
                rest_parts.append(quads[needed].ravel())
    at = np.concatenate([np.zeros(0, np.int64), *places])
    rest_bytes = np.concatenate([np.zeros(0, np.int8), *rest_parts])
    runs, inside = at // run, at % run * _QUAD
    return np.concatenate(parts), (
        np.array(counts, np.int32),
        runs.astype(np.int32),
        inside.astype(np.int32),
        rest_bytes,
    )


def _in_quads(panel: Array) -> Array:
    """Return [quad][channel][4] of rows of channels."""
    return np.ascontiguousarray(panel.reshape(len(panel), -1, _QUAD).transpose(1, 0, 2)).astype(np.int8)


def _parts(weights: Array) -> list[Array]:
    """Return arrays of bytes whose sum the weights are, each of which products of pairs in 16 bits hold.

    Two bytes times two weights of one sign are at most 255 times the sum of these. Most weights leave
    nothing: few networks have two neighbours of such a size.
    """
    most = _core.integer_pair_most()
    found = []
    while True:
        part = np.clip(weights, -128, 127)
        if most:
            pairs = part.reshape(len(part), -1, 2)
            one_sign = np.maximum(
                np.maximum(pairs, 0).sum(2, keepdims=True), -np.minimum(pairs, 0).sum(2, keepdims=True)
            )
            part = np.where(one_sign > most, np.clip(pairs, -most // 2, most // 2), pairs).reshape(part.shape)
        found.append(part)
        weights = weights - part
        if not weights.any():
            return found


def _depthwise(weights: Array, lanes: int) -> tuple[Array, _More]:
    """Return numbers of 16 bits [panel][pair of taps][half][part of 128 bits][4 channels][2], as bytes."""
    channels = weights.shape[0]
    taps = weights.reshape(channels, -1)
    whole = np.zeros((rounded(channels, 2 * lanes), rounded(taps.shape[1], 2)), np.int16)
    whole[:channels, : taps.shape[1]] = taps
    parts = whole.reshape(-1, 2 * lanes // 8, 2, 4, whole.shape[1] // 2, 2)
    none = np.zeros(0, np.int32)
    packed = np.ascontiguousarray(parts.transpose(0, 4, 2, 1, 3, 5)).ravel().view(np.int8)
    return packed, (none, none, none, none.astype(np.int8))
