"""Sums of products of bfloat16 for tests: rounding, and the order in which AMX's tiles add up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from separable import _core

Array = np.ndarray
TINY = float(np.finfo(np.float32).tiny)
HALF_ULP = 2.0**-24  # of float32, over the number


def units() -> list[tuple[str, str]]:
    """Return the instruction sets of this machine, each with the matrix units that it may use."""
    pairs = []
    for target in _core.core_info()["targets"]:
        _core.force(target)
        pairs += [(target, unit) for unit in _core.matrix_units()]
    _core.force(None)
    return pairs


def bfloat(x: Any) -> Array:
    """Return the nearest numbers of bfloat16, of ties the even ones; denormal ones become zero."""
    single = np.atleast_1d(np.asarray(x, np.float32))
    made = np.empty_like(single)
    for place, number in np.ndenumerate(single):
        if np.isnan(number) or np.isinf(number):
            made[place] = number
        elif abs(number) < TINY:
            made[place] = np.copysign(np.float32(0), number)
        else:
            bits = int(number.view(np.uint32))
            below, over = bits >> 16, bits & 0xFFFF
            up = over > 0x8000 or (over == 0x8000 and below & 1)
            made[place] = np.uint32((below + up) << 16).view(np.float32)
    return made.reshape(np.shape(x))


class Products:
    """A convolution (N, C, H, W) of numbers rounded to bfloat16, in the order of AMX's tiles.

    Each step adds up at most 16 pairs, even and odd ones apart from zero on, with one rounding a product;
    both together are added to the sum of the steps before.
    """

    def __init__(self, conv: Any, x: Array) -> None:
        self.conv = conv
        top, left, bottom, right = conv.pads
        self.x = np.pad(bfloat(x), ((0, 0), (0, 0), (top, bottom), (left, right)))
        self.weights = self._dense(bfloat(conv.weights))
        kernel = conv.weights.shape[2:]
        self.size = tuple(
            (n - (taps - 1) * dilation - 1) // stride + 1
            for n, taps, dilation, stride in zip(
                self.x.shape[2:], kernel, conv.dilation, conv.stride, strict=True
            )
        )

    def _dense(self, weights: Array) -> Array:
        groups, made, read = self.conv.groups, *weights.shape[:2]
        dense = np.zeros((made, read * groups, *weights.shape[2:]), np.float32)
        for out in range(made):
            first = out // (made // groups) * read
            dense[out, first : first + read] = weights[out]
        return dense

    def _tap(self, v: int, u: int) -> Array:
        (high, wide), (down, across) = self.size, self.conv.stride
        y, x = v * self.conv.dilation[0], u * self.conv.dilation[1]
        return self.x[:, :, y : y + (high - 1) * down + 1 : down, x : x + (wide - 1) * across + 1 : across]

    def _steps(self) -> Any:
        """Yield samples (2 pairs, N, H, W) and weights (2 pairs, C_out) of one step after the other."""
        channels, (high, wide) = self.x.shape[1], self.weights.shape[2:]
        even = channels + channels % 2
        if self.conv.groups == 1 < wide and wide * even <= 32 and self.conv.dilation[1] == 1:
            for v in range(high):
                parts = [(self._tap(v, u), self.weights[:, :, v, u]) for u in range(wide)]
                yield self._padded(parts, even)
            return
        chunks = math.ceil(channels / 32)
        chunk = math.ceil(channels / chunks / 8) * 8
        for first in range(0, channels, chunk):
            some = slice(first, first + chunk)
            for v in range(high):
                for u in range(wide):
                    yield self._padded([(self._tap(v, u)[:, some], self.weights[:, some, v, u])], chunk)

    @staticmethod
    def _padded(parts: list[tuple[Array, Array]], count: int) -> tuple[Array, Array]:
        more = count - parts[0][0].shape[1]
        samples = [np.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))).swapaxes(0, 1) for x, _ in parts]
        return np.concatenate(samples), np.concatenate([np.pad(w, ((0, 0), (0, more))).T for _, w in parts])

    def sums(self) -> Array:
        """Return the sums in float32, by the bits that tiles give."""
        total = np.zeros((len(self.x), len(self.weights), *self.size), np.float32)
        for samples, weights in self._steps():
            halves = np.zeros((2, *total.shape), np.float32)
            for k in range(len(samples)):
                product = np.float64(samples[k])[:, None] * np.float64(weights[k])[None, :, None, None]
                halves[k % 2] = (halves[k % 2] + product).astype(np.float32)
            total += halves[0] + halves[1]
        return total

    def exact(self) -> tuple[Array, Array]:
        """Return the sums in float64, and those of the sizes of all products: what errors are measured by."""
        sums = np.zeros((len(self.x), len(self.weights), *self.size))
        sizes = np.zeros_like(sums)
        for samples, weights in self._steps():
            x, w = np.float64(samples), np.float64(weights)
            sums += np.einsum("knhw,ko->nohw", x, w)
            sizes += np.einsum("knhw,ko->nohw", np.abs(x), np.abs(w))
        return sums, sizes

    @property
    def terms(self) -> int:
        return int(np.prod(self.weights.shape[1:]))


@pytest.fixture(params=units(), ids="-".join)
def unit(request: pytest.FixtureRequest) -> Any:
    target, name = request.param
    _core.force(target)
    _core.force_matrix_unit(name)
    yield name
    _core.force_matrix_unit(None)
    _core.force(None)
