"""The compiled core: taps, tiles and strides. It checks memory safety; what a caller meant, Python checks."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Self, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[Any]  # float32 or float64; filters convert narrower dtypes too
_Pass: TypeAlias = tuple[int, int, int, list[npt.NDArray[np.float64]]]  # axis, shift, mode, lists of taps
_Edge: TypeAlias = tuple[int, int]  # source: a node of the level before; number of the taps

class _PassFacts(TypedDict):
    axis: int
    taps: int
    folds: list[str]  # of each list of taps: "none", "symmetric" or "antisymmetric"
    nodes: list[list[_Edge]]  # of arrays in C order

@final
class Mode(IntEnum):
    """What stands beyond the ends of an axis."""

    reflect = 0
    constant = 1
    nearest = 2
    mirror = 3
    wrap = 4

@final
class Rounding(IntEnum):
    """How results become integers."""

    nearest = 0
    truncate = 1

@final
class Overflow(IntEnum):
    """What becomes of integers that the dtype does not hold."""

    saturate = 0
    wrap = 1

@final
class Activation(IntEnum):
    """What follows a convolution."""

    none = 0
    relu = 1
    relu6 = 2
    silu = 3
    hard_swish = 4
    gelu = 5
    gelu_tanh = 6

def extent(
    shape: tuple[int, ...], src: npt.NDArray[Any], threads: int, mask: npt.NDArray[np.bool_] | None = None
) -> tuple[float, float]: ...
def fraction_done() -> float: ...

@final
class Sweeps:
    """Counts the sweeps of a job that is made of several, for `fraction_done`."""

    def __init__(self, count: int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def step(self) -> None: ...

def shared_passes(terms: Sequence[Sequence[int]], levels: int) -> list[list[list[_Edge]]]: ...

class _FilterJob:
    """A filter prepared for one shape and the dtype that it computes in."""

    def run(
        self,
        src: _Array,
        dst: _Array,
        threads: int,
        rounding: int = 0,
        overflow: int = 0,
        snap: float = 0.0,
        divisor: float = 1.0,
        low: float = ...,
        high: float = ...,
        mask: npt.NDArray[np.bool_] | None = None,
        nan_unknown: bool = False,
        outside_unknown: bool = False,
        normalised_snap: float = 0.0,
        least_known: float = 0.0,
        small_result: float = 0.0,
    ) -> bool: ...
    def scratch_bytes(self, threads: int) -> int: ...

@final
class TermsJob(_FilterJob):
    """Sums of separable terms; passes in the order they run, from the last axis to the first.

    A term is (output, number of its taps in each pass). Several outputs lie along a first axis of the result.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        passes: list[_Pass],
        terms: list[tuple[int, ...]],
        cval: float,
    ) -> None: ...
    def describe(self) -> list[_PassFacts]: ...

@final
class DirectJob(_FilterJob):
    """A dense correlation; weights, shifts and modes have an entry for every axis of the array."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: str,
        weights: npt.NDArray[np.float64],
        shifts: tuple[int, ...],
        modes: tuple[int, ...],
        cval: float,
    ) -> None: ...

@final
class BoxAndCosinesJob:
    """Boxes by running sums, sums of cosines by recursion; the result is factor / divisor times theirs.

    A pass is (axis, taps, shift, mode, odd, frequencies, amplitudes); without frequencies it is a box of
    ones. Arrays hold bool, integers, float32 or float64, whatever the plan's dtype; integers are rounded
    (halves to even) or truncated, and saturated or wrapped.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        passes: list[tuple[int, int, int, int, bool, list[float], list[float]]],
        cval: float,
        factor: float,
        divisor: float,
    ) -> None: ...
    def run(
        self,
        src: npt.NDArray[Any],
        dst: npt.NDArray[Any],
        threads: int,
        rounding: int = 0,
        overflow: int = 0,
        snap: float = 0.0,
        low: float = ...,
        high: float = ...,
    ) -> None: ...
    def scratch_bytes(self, threads: int) -> int: ...

@final
class DifferencesJob:
    """Differences of weights over running sums along `axis`; the result is divided by `divisor`.

    Arrays as in BoxAndCosinesJob. Weights, shifts and modes have an entry for every axis of the array. In
    fixed point, float32 samples are rounded to multiples of a power of two, as fine as sums of 32 bits allow.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        weights: npt.NDArray[np.float64],
        axis: int,
        shifts: tuple[int, ...],
        modes: tuple[int, ...],
        cval: float,
        divisor: float,
        fixed_point: bool = False,
    ) -> None: ...
    def run(
        self,
        src: npt.NDArray[Any],
        dst: npt.NDArray[Any],
        threads: int,
        rounding: int = 0,
        overflow: int = 0,
        snap: float = 0.0,
        low: float = ...,
        high: float = ...,
    ) -> None: ...
    def scratch_bytes(self, threads: int) -> int: ...

class _FusedJob:
    """A depthwise and a pointwise convolution, channels last; weights are packed when it is made."""

    def __init__(
        self,
        pointwise_first: bool,
        multiplier: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        mode: int,
        depthwise_act: int,
        act: int,
        depthwise: _Array,
        pointwise: _Array,
        depthwise_bias: _Array | None,
        bias: _Array | None,
    ) -> None: ...
    def run(
        self, src: _Array, dst: _Array, residual: _Array | None, before: Sequence[int], threads: int
    ) -> None: ...
    def gradients(
        self,
        src: _Array,
        grad: _Array,
        output: _Array | None,
        x_grad: _Array | None,
        depthwise: _Array | None,
        pointwise: _Array | None,
        depthwise_bias: _Array | None,
        bias: _Array | None,
        before: Sequence[int],
        threads: int,
    ) -> None: ...

@final
class FusedJob32(_FusedJob): ...

@final
class FusedJob64(_FusedJob): ...

def empty(shape: tuple[int, ...], dtype: str) -> _Array: ...
def core_info() -> dict[str, Any]: ...
def force(target: str | None) -> None: ...
def assume_caches(l1d: int, l2: int, l3: int) -> None: ...
def measure(what: str) -> float: ...
