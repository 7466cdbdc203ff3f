"""Tensors of bytes in memory: levels, of which each stands for a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .memory import Buffer, Plain, rounded

__all__ = ["SIGN", "LevelNumbers", "LevelTensor"]

# What is added to signed numbers, so that all bytes are unsigned ones.
SIGN: Final = 128

_UNIT: Final = 4  # bytes of a pixel are a multiple of that


@dataclass(frozen=True, eq=False, slots=True)
class LevelTensor:
    """A tensor of 8-bit numbers as bytes; those of signed ones are the numbers plus 128.

    Attributes
    ----------
    buffer : Buffer
        It begins where the buffer does.
    shape, strides : tuple of int
        Strides in bytes.
    pitch : int
        Bytes from pixel to pixel, a multiple of four: what lies behind the channels is of any value.
    is_signed : bool
    """

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    pitch: int
    is_signed: bool

    @classmethod
    def channels_last(cls, shape: tuple[int, ...], is_signed: bool) -> LevelTensor:
        """Return a place for feature maps (N, C, *spatial), the channels of a pixel next to each other."""
        pitch = rounded(shape[1], _UNIT)
        strides = [pitch * math.prod(shape[axis + 1 :]) for axis in range(1, len(shape))]
        size = shape[0] * pitch * math.prod(shape[2:])
        first = pitch * math.prod(shape[2:])
        return cls(_buffer(size), shape, (first, 1, *strides[1:]), pitch, is_signed)

    @classmethod
    def rows(cls, shape: tuple[int, ...], is_signed: bool) -> LevelTensor:
        """Return a place for an array whose last axis is what products sum over."""
        wide = (*shape[:-1], rounded(shape[-1], _UNIT))
        strides = tuple(math.prod(wide[axis + 1 :]) for axis in range(len(wide)))
        return cls(_buffer(math.prod(wide)), shape, strides, wide[-1], is_signed)

    @property
    def address(self) -> tuple[int, int]:
        """The memory's number, and the place of the first byte in it, in elements of float32."""
        return self.buffer.base, self.buffer.at

    def like(self, is_signed: bool) -> LevelTensor:
        """Return another place of the same shape and layout."""
        return LevelTensor(Buffer(self.buffer.size), self.shape, self.strides, self.pitch, is_signed)


@dataclass(frozen=True, eq=False, slots=True)
class LevelNumbers:
    """The numbers that say what levels stand for, in memory: (level - zero) * scale.

    Attributes
    ----------
    zero : Plain or Buffer
        Of the bytes: of signed numbers 128 more.
    scale : Plain, Buffer or None
        None: one.
    """

    zero: Plain | Buffer
    scale: Plain | Buffer | None = None

    @property
    def at(self) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Memory and element of both, once all have their places."""
        return _address(self.zero), None if self.scale is None else _address(self.scale)

    @property
    def reads(self) -> list[Plain | Buffer]:
        """Both, without what is not there."""
        return [self.zero] if self.scale is None else [self.zero, self.scale]


def _address(held: Plain | Buffer) -> tuple[int, int]:
    return held.address if isinstance(held, Plain) else (held.base, held.at)


def _buffer(size: int) -> Buffer:
    return Buffer(rounded(size, 4) // 4)
