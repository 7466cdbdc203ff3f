"""Packed weights, shared by all plans of a network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from ... import _core
from ..._base.types import Array
from .packed_integers import packed_integers

__all__ = ["WeightStore"]


class WeightStore:
    """Weights packed for the instruction set in use, each once.

    The arrays that they were packed from are kept: they are what packed weights are found by.

    Attributes
    ----------
    latest : tuple
        What the weights that were asked for last are found by `again`.
    """

    def __init__(self) -> None:
        self._packed: dict[tuple[object, ...], tuple[Any, tuple[Array | None, ...]]] = {}
        self._made: dict[tuple[object, ...], tuple[tuple[Array, ...], tuple[Array, ...]]] = {}
        self._asked: set[tuple[object, ...]] = set()
        self.latest: tuple[object, ...] = ()

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def nbytes(self) -> int:
        """Bytes of all packed weights."""
        return sum(packed.nbytes for packed, _ in list(self._packed.values()))

    def asked(self) -> frozenset[tuple[object, ...]]:
        """Return the keys of what was asked for since this was called last."""
        asked, self._asked = frozenset(self._asked), set()
        return asked

    def ask(self, keys: Collection[tuple[object, ...]]) -> bool:
        """Ask for what was asked for before, by its keys; return whether all of it is kept."""
        kept = all(key in self._packed or key in self._made for key in keys)
        if kept:
            self._asked.update(keys)
        return kept

    def keep(self, keys: Collection[tuple[object, ...]]) -> None:
        """Forget all packed weights but these."""
        self._packed = {key: held for key, held in self._packed.items() if key in keys}
        self._made = {key: held for key, held in self._made.items() if key in keys}

    def derived(
        self, kind: str, arrays: tuple[Array, ...], make: Callable[[], tuple[Array, ...]]
    ) -> tuple[Array, ...]:
        """Return what is computed of constants before it is packed: the same arrays for all plans."""
        key = (kind, *(_identity(array) for array in arrays))
        self._asked.add(key)
        if key not in self._made:
            self._made[key] = (make(), arrays)
        return self._made[key][0]

    def conv(
        self,
        weights: Array,
        bias: Array | None,
        groups: int,
        block: int,
        short_rows: bool = False,
        winograd: bool = False,
    ) -> Any:
        """Return the weights (C_out, C_in/groups, H, W) of a convolution of samples in blocks of channels."""
        groups, block = int(groups), int(block)
        return self._get(
            ("conv", groups, block, short_rows, winograd),
            (weights, bias),
            lambda: _core.ConvWeights(_floats(weights), _maybe(bias), groups, block, short_rows, winograd),
        )

    def depthwise(self, weights: Array, bias: Array | None) -> Any:
        """Return the weights (C, H, W) of a depthwise convolution."""
        return self._get(
            ("depthwise",),
            (weights, bias),
            lambda: _core.DepthwiseWeights(_floats(weights), _maybe(bias)),
        )

    def bfloats(self, weights: Array, bias: Array | None, groups: int = 1, joins: bool = False) -> Any:
        """Return the weights (C_out, C_in/groups, H, W) of a convolution whose operands are bfloat16.

        Parameters
        ----------
        weights : ndarray
            Or a matrix (inputs, outputs), perhaps transposed.
        bias : ndarray or None
        groups : int
        joins : bool
            Whether the taps of a row are neighbours: their dilation is 1.
        """

        def pack() -> Any:
            kernel = weights.T[:, :, None, None] if weights.ndim == 2 else weights
            return _core.BfloatWeights(_floats(kernel), _maybe(bias), groups, joins)

        return self._get(("bfloats", groups, joins), (weights, bias), pack)

    def full(self, weights: Array, bias: Array | None, transposed: bool) -> Any:
        """Return the weights of a fully connected layer: (inputs, outputs), or transposed."""
        return self._get(
            ("full", transposed),
            (weights, bias),
            lambda: _core.FullWeights(_floats(weights), _maybe(bias), transposed),
        )

    def integers(
        self,
        weights: Array,
        groups: int,
        pitch: int,
        numbers: tuple[Array | None, Array | None, Array | None],
    ) -> Any:
        """Return the weights (C_out, C_in/groups, H, W) of 16 bits of a convolution of bytes.

        Parameters
        ----------
        weights : ndarray of int16
        groups : int
        pitch : int
            Bytes from pixel to pixel of the samples.
        numbers : tuple of ndarray or None
            Of each result: what is added to its sum, what that is multiplied by (by default 0 and 1), and
            what is added then.
        """
        return self._get(
            ("integers", groups, pitch),
            (weights, *numbers),
            lambda: packed_integers(weights, groups, pitch, numbers),
        )

    def again(self, key: tuple[object, ...] | None) -> Any:
        """Return packed weights that were asked for before; None where they are not kept."""
        if key is None or key[0] != _core.target() or key not in self._packed:
            return None
        self._asked.add(key)
        return self._packed[key][0]

    def _get(self, kind: tuple[object, ...], arrays: tuple[Array | None, ...], pack: Any) -> Any:
        key = (_core.target(), *kind, *(_identity(array) for array in arrays))
        self._asked.add(key)
        self.latest = key
        if key not in self._packed:
            self._packed[key] = (pack(), arrays)
        return self._packed[key][0]


def _identity(array: Array | None) -> tuple[object, ...] | None:
    """Return what tells an array that is kept alive from all others, views of the same memory included."""
    if array is None:
        return None
    return array.__array_interface__["data"][0], array.shape, array.strides


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)


def _maybe(array: Array | None) -> Array | None:
    return None if array is None else _floats(array)
