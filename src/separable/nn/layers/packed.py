"""Packed weights, kept from call to call: packed once, found again by their contents, never stale."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..._base.caches import Budget, Cache, budget
from ..._base.types import Array
from ...conv.algebra.geometry import Padding
from ...conv.layers.fused import FusedConv

# An operator keeps its weights twice: in the core's order, and as they were given, to compare with.
_COPIES: Final = 2

# Elements of each weight array that stand in the key, so that layers of one shape do not push each other out.
_SAMPLES: Final = 16


class PairWeights(NamedTuple):
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
    """The operators used last, within a budget of bytes: the process's, unless one of their own is given.

    An entry is found by shapes, options and a few sampled weights, and used only after all its weights
    have been compared with those of the call. Nothing of the caller is referenced.
    """

    def __init__(self, within: Budget = budget) -> None:
        self._kept: Cache[FusedConv] = within.cache()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Bytes of the operators."""
        return self._kept.bytes

    def get(self, weights: PairWeights, options: Options) -> FusedConv:
        """Return the operator of these weights, packing them if that has not been done.

        Parameters
        ----------
        weights : PairWeights
        options : Options

        Returns
        -------
        FusedConv
        """
        key = _key(weights, options)
        entry = self._kept.get(key)
        if entry is not None and entry.matches(*weights):
            return entry
        packed = FusedConv(
            weights.depthwise,
            weights.pointwise,
            depthwise_bias=weights.depthwise_bias,
            bias=weights.bias,
            **options._asdict(),
        )
        self._kept.drop(key)
        self._kept.put(key, packed, _COPIES * sum(array.nbytes for array in weights if array is not None))
        return packed

    def drop(self, weights: PairWeights, options: Options) -> None:
        """Forget the operator of these weights, which are about to change.

        Parameters
        ----------
        weights : PairWeights
        options : Options
        """
        self._kept.drop(_key(weights, options))

    def clear(self) -> None:
        """Forget every operator."""
        self._kept.clear()


def _key(weights: PairWeights, options: Options) -> object:
    arrays = [None if array is None else (array.shape, _sample(array)) for array in weights]
    return options, weights.depthwise.dtype.char, *arrays


def _sample(array: Array) -> bytes:
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLES)].tobytes()


packed_convs: Final = PackedConvs()
