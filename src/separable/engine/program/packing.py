"""Weights of 16 bits in the order in which the core's products of whole numbers read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """

    weights: Any
    taps: int

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
    shape = (per_group * groups, made, groups, height, width)
    held = _core.IntegerWeights(
        packed,
        np.zeros(made, np.int32) if bias is None else np.ascontiguousarray(bias, np.int32),
        np.ones(made, np.float32) if scale is None else np.ascontiguousarray(scale, np.float32),
        None if shift is None else np.ascontiguousarray(shift, np.float32),
        shape,
        is_depthwise,
        pitch,
    )
    return PackedIntegers(held, per_group * height * width)


def _dense(weights: Array, groups: int, pitch: int, lanes: int) -> Array:
    """Return [group][panel][tap][pair of channels][vector and lane][2]."""
    made, per_group, height, width = weights.shape
    channels = pitch if groups == 1 else rounded(per_group, 2)
    last = np.zeros((made, height, width, channels), np.int16)
    last[..., :per_group] = weights.transpose(0, 2, 3, 1)
    rows = last.reshape(groups, made // groups, -1)
    parts = []
    for group in rows:
        for first in range(0, len(group), 2 * lanes):
            panel = group[first : first + 2 * lanes]
            whole = np.zeros((rounded(len(panel), lanes), panel.shape[1]), np.int16)
            whole[: len(panel)] = panel
            parts.append(whole.reshape(len(whole), -1, 2).transpose(1, 0, 2).ravel())
    return np.concatenate(parts)


def _depthwise(weights: Array, lanes: int) -> Array:
    """Return [panel][pair of taps][half][part of 128 bits][4 channels][2]."""
    channels = weights.shape[0]
    taps = weights.reshape(channels, -1)
    whole = np.zeros((rounded(channels, 2 * lanes), rounded(taps.shape[1], 2)), np.int16)
    whole[:channels, : taps.shape[1]] = taps
    parts = whole.reshape(-1, 2 * lanes // 8, 2, 4, whole.shape[1] // 2, 2)
    return np.ascontiguousarray(parts.transpose(0, 4, 2, 1, 3, 5)).ravel()
