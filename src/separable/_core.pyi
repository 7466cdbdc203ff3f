"""The compiled core: taps, tiles and strides. It checks memory safety; what a caller meant, Python checks."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Self, TypeAlias, TypedDict, final

import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[Any]  # float32 or float64; filters convert narrower dtypes too
_Pass: TypeAlias = tuple[int, int, int, list[npt.NDArray[np.float64]]]  # axis, shift, mode, lists of taps
_Floats: TypeAlias = npt.NDArray[np.float32]
_Address: TypeAlias = tuple[int, int]  # memory (0: arena; inputs, outputs, constants), element
_After: TypeAlias = tuple[str, float, float]  # a function and its parameters
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
    sigmoid = 7
    hard_sigmoid = 8
    clip = 9
    leaky_relu = 10
    tanh = 11

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
        frame: tuple[int, ...] = (),
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
        frame: tuple[int, ...] = (),
        starts: tuple[int, ...] = (),
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
def target() -> str: ...
def core_info() -> dict[str, Any]: ...
def force(target: str | None) -> None: ...
def matrix_units() -> list[str]: ...
def matrix_unit() -> str: ...
def force_matrix_unit(unit: str | None) -> None: ...
def assume_caches(l1d: int, l2: int, l3: int) -> None: ...
def measure(what: str) -> float: ...

# Programs of the engine. Lengths and strides are in elements.

@final
class Program:
    """Steps over one arena, inputs, outputs and constants, all float32; sizes are in elements."""

    def __init__(
        self, arena: int, inputs: Sequence[int], outputs: Sequence[int], images: int = 1
    ) -> None: ...
    def constant(self, values: _Floats) -> int: ...
    def run(
        self,
        inputs: Sequence[_Floats],
        outputs: Sequence[_Floats],
        threads: int,
        nanoseconds: npt.NDArray[np.int64] | None = None,
    ) -> None: ...
    def memory_bytes(self, threads: int) -> int: ...
    def threads_for(self, threads: int) -> int: ...
    def __len__(self) -> int: ...

def places_in_arena(sizes: Sequence[int], firsts: Sequence[int], lasts: Sequence[int]) -> tuple[int, ...]:
    """Return where buffers lie that are in use from one step to another, and behind them the arena's size."""

@final
class Image:
    """Feature maps in blocks of channels: shape (N, C, H, W); around: top, left, bottom, right."""

    def __init__(
        self,
        base: int,
        at: int,
        shape: Sequence[int],
        block: int,
        pitches: Sequence[int],
        around: Sequence[int],
    ) -> None: ...

@final
class FullWeights:
    """A matrix (inner, columns), or its transpose, and a bias, packed for the instruction set in use."""

    def __init__(self, weights: _Floats, bias: _Floats | None = None, transposed: bool = False) -> None: ...
    @property
    def inner(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

@final
class ConvWeights:
    """Weights (C_out, C_in/groups, H, W), packed for samples in blocks of so many channels."""

    def __init__(
        self,
        weights: _Floats,
        bias: _Floats | None,
        groups: int,
        block: int,
        short_rows: bool = False,
        winograd: bool = False,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...

@final
class DepthwiseWeights:
    """Weights (C, H, W) of a depthwise convolution, packed."""

    def __init__(self, weights: _Floats, bias: _Floats | None) -> None: ...
    @property
    def nbytes(self) -> int: ...

@final
class BfloatWeights:
    """Weights (C_out, C_in/groups, H, W), rounded to bfloat16 and packed in tiles."""

    def __init__(self, weights: _Floats, bias: _Floats | None, groups: int, joins: bool) -> None: ...
    @property
    def nbytes(self) -> int: ...

@final
class Stage:
    """One convolution of a chain: its weights, the shape (C, H, W) of its results, and what follows."""

    def __init__(
        self,
        conv: ConvWeights | None,
        depthwise: DepthwiseWeights | None,
        shape: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        before: Sequence[int],
        act: int,
        low: float,
        high: float,
        add_last: bool,
        depth: int = 1,
        slice: int = 0,
        bfloats: BfloatWeights | None = None,
    ) -> None: ...

def add_chain(
    program: Program,
    src: Image,
    dst: Image,
    stages: Sequence[Stage],
    add: Image | None = None,
    scale: _Address | None = None,
    means: _Address | None = None,
    sums: _Address | None = None,
) -> None: ...
def add_copy(
    program: Program,
    lengths: Sequence[int],
    src: _Address,
    src_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
) -> None: ...
def add_fill(
    program: Program, value: float, lengths: Sequence[int], dst: _Address, dst_strides: Sequence[int]
) -> None: ...
def add_elementwise(
    program: Program,
    operation: str,
    lengths: Sequence[int],
    a: _Address,
    a_strides: Sequence[int],
    b: _Address | None,
    b_strides: Sequence[int] | None,
    dst: _Address,
    dst_strides: Sequence[int],
    after: _After | None = None,
) -> None: ...
def add_reduce(
    program: Program,
    reduction: str,
    lengths: Sequence[int],
    axes: Sequence[int],
    src: _Address,
    src_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
) -> None: ...
def add_softmax(
    program: Program,
    lengths: Sequence[int],
    axis: int,
    src: _Address,
    src_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
    log: bool = False,
) -> None: ...
def add_line_weights(
    program: Program,
    lengths: Sequence[int],
    axis: int,
    index: npt.NDArray[np.int64],
    weights: _Floats,
    src: _Address,
    src_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
) -> None: ...
def add_pool(
    program: Program,
    kind: str,
    src: Image,
    dst: Image,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[int],
    count_padding: bool = False,
) -> None: ...
def add_mean(
    program: Program, src: Image, dst: _Address, dst_strides: Sequence[int], reduction: str = "mean"
) -> None: ...
def add_full(
    program: Program,
    weights: FullWeights,
    rows: int,
    x: _Address,
    x_strides: Sequence[int],
    dst: _Address,
    dst_row: int,
    after: _After | None = None,
) -> None: ...
def add_bfloat_full(
    program: Program,
    weights: BfloatWeights,
    rows: int,
    x: _Address,
    x_strides: Sequence[int],
    dst: _Address,
    dst_row: int,
    act: int,
    low: float,
    high: float,
) -> None: ...
def add_recurrent(
    program: Program,
    kind: str,
    times: int,
    sequences: int,
    width: int,
    directions: Sequence[
        tuple[
            bool,
            Sequence[FullWeights],
            tuple[_Address, Sequence[int]],
            tuple[_Address, Sequence[int]],
            tuple[_Address | None, _Address | None],
            tuple[_Address | None, _Address | None],
        ]
    ],
) -> None: ...
def add_matmul(
    program: Program,
    batch: Sequence[int],
    rows: int,
    inner: int,
    columns: int,
    a: _Address,
    a_strides: Sequence[int],
    b: _Address,
    b_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
    after: _After | None = None,
) -> None: ...

_Numbers: TypeAlias = tuple[_Address, _Address | None]

class IntegerWeights:
    def __init__(
        self,
        packed: npt.NDArray[np.int8],
        more: tuple[
            npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int8]
        ],
        bias: npt.NDArray[np.int32],
        sums: npt.NDArray[np.int32],
        scale: _Floats,
        shift: _Floats | None,
        shape: Sequence[int],
        depthwise: bool,
        pitch: int,
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...

def integer_pair_most() -> int: ...
def add_integer_conv(
    program: Program,
    weights: IntegerWeights,
    src: _Address,
    shape: Sequence[int],
    results: tuple[str, _Address, Sequence[int], Sequence[int], bool],
    geometry: Sequence[int],
    given: _Numbers,
    made: _Numbers | None,
    act: tuple[int, float, float],
    more: _Address | None = None,
    residual: tuple[_Address, int, _Numbers] | None = None,
) -> None: ...
def add_level_map(
    program: Program,
    kind: str,
    lengths: Sequence[int],
    src: _Address,
    src_strides: Sequence[int],
    dst: _Address,
    dst_strides: Sequence[int],
    levels: _Numbers | None,
) -> None: ...
def add_levels(
    program: Program,
    n: int,
    a: _Address,
    b: _Address,
    dst: _Address,
    a_levels: _Numbers,
    b_levels: _Numbers,
    levels: _Numbers,
) -> None: ...
def add_level_range(
    program: Program, least: _Address, greatest: _Address, scale: _Address, zero: _Address
) -> None: ...
