"""Packed weights, kept from call to call: packed once, found again by their contents, never stale."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any, Final, NamedTuple, TypeAlias

import numpy.typing as npt

from ..conv.fused import FusedConv
from ..conv.geometry import Padding

Array: TypeAlias = npt.NDArray[Any]

# Bytes of weights that stay packed: several networks of MobileNetV1's size (4.2 M parameters, 34 MB here).
LIMIT: Final = 256 << 20

# An operator keeps its weights twice: in the core's order, and as they were given, to compare with.
_COPIES: Final = 2

# Elements of each weight array that stand in the key, so that layers of one shape do not push each other out.
_SAMPLES: Final = 16


class Weights(NamedTuple):
    """The arrays of one depthwise separable layer, in torch's layout."""

    depthwise: Array
    pointwise: Array
    depthwise_bias: Array | None
    bias: Array | None


class Options(NamedTuple):
    """What else an operator is made of."""

    order: str
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    padding_mode: str
    depthwise_activation: str | None
    activation: str | None


class PackedConvs:
    """The operators used last, at most `limit` bytes of them.

    An entry is found by shapes, options and a few sampled weights, and used only after all its weights
    have been compared with those of the call. Nothing of the caller is referenced.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.bytes = 0
        self._entries: OrderedDict[object, tuple[FusedConv, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, weights: Weights, options: Options) -> FusedConv:
        """Return the operator of these weights, packing them if that has not been done.

        Parameters
        ----------
        weights : Weights
        options : Options

        Returns
        -------
        FusedConv
        """
        key = _key(weights, options)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
        if entry is not None and entry[0].matches(*weights):
            return entry[0]
        packed = FusedConv(
            weights.depthwise,
            weights.pointwise,
            depthwise_bias=weights.depthwise_bias,
            bias=weights.bias,
            **options._asdict(),
        )
        self._keep(key, packed, _COPIES * sum(array.nbytes for array in weights if array is not None))
        return packed

    def drop(self, weights: Weights, options: Options) -> None:
        """Forget the operator of these weights, which are about to change.

        Parameters
        ----------
        weights : Weights
        options : Options
        """
        with self._lock:
            self._remove(_key(weights, options))

    def clear(self) -> None:
        """Forget every operator."""
        with self._lock:
            self._entries.clear()
            self.bytes = 0

    def _keep(self, key: object, packed: FusedConv, size: int) -> None:
        with self._lock:
            self._remove(key)
            if size > self.limit:
                return
            self._entries[key] = packed, size
            self.bytes += size
            while self.bytes > self.limit:
                self._remove(next(iter(self._entries)))

    def _remove(self, key: object) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]

    def _after_fork(self) -> None:
        # Another thread of the parent may have held the lock at the moment of the fork.
        self._lock = threading.Lock()


def _key(weights: Weights, options: Options) -> object:
    arrays = [None if array is None else (array.shape, _sample(array)) for array in weights]
    return options, weights.depthwise.dtype.char, *arrays


def _sample(array: Array) -> bytes:
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLES)].tobytes()


packed_convs: Final = PackedConvs()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=packed_convs._after_fork)
