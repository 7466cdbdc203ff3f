"""The fused operator: a depthwise and a pointwise convolution in one sweep over channels-last arrays.

The result of the first convolution lives in tiles that stay in the processor's cache, so memory is read once
and written once. Weights are packed when the operator is made, for the instruction set in use then.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..._base.types import Array
from ..._core import FusedJob32, FusedJob64, Mode, empty
from ...arrays import arguments
from ...arrays.boundaries import PADDING_MODES
from ..algebra.geometry import Padding, PaddingLike, PerAxis, output_shape, per_axis, resolve_padding
from ..algebra.terms import ORDERS, depthwise_first
from .arguments import ACTIVATIONS, check_reach, fold_padding, one_of, pad, readable, same_bits, weights_of

__all__ = ["FusedConv", "Gradients", "depthwise_separable"]

Order: TypeAlias = Literal["dw-pw", "pw-dw"]
Activation: TypeAlias = Literal["relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh"] | None
Job: TypeAlias = FusedJob32 | FusedJob64


# Shapes of inputs whose geometry an operator remembers.
_SHAPES = 32

# Arguments that an operator keeps as attributes of the same name.
_OPTIONS = (
    "order",
    "stride",
    "padding",
    "dilation",
    "depthwise_activation",
    "activation",
    "padding_mode",
    "depth_multiplier",
)


class Gradients(NamedTuple):
    """Gradients of a sum of ``grad * y`` with respect to what :class:`FusedConv` was given."""

    x: Array | None
    depthwise: Array | None
    pointwise: Array | None
    depthwise_bias: Array | None
    bias: Array | None


class FusedConv:
    """A depthwise separable convolution whose weights are packed once.

    ``y = activation(pointwise(depthwise_activation(depthwise(x) + depthwise_bias)) + bias) + residual``, or
    with ``order="pw-dw"`` the two convolutions the other way round. A bias and an activation belong to their
    convolution, whichever comes first.

    Parameters
    ----------
    depthwise : array_like
        ``(C_in*T, 1, *k)`` with one to three spatial axes; kernel ``c*T + t`` reads channel c. For
        "pw-dw" ``(C_out, T, *k)``: the T kernels of an output channel are summed.
    pointwise : array_like
        ``(C_out, C_in*T)``, for "pw-dw" ``(C_out*T, C_in)``; axes of length 1 may follow.
    order : {"dw-pw", "pw-dw"}
    depthwise_bias, bias : array_like, optional
        One number for each result channel of the depthwise and of the pointwise convolution.
    stride, dilation : int or sequence of int
        Of the depthwise convolution, for each spatial axis.
    padding : {"same", "valid"}, int, sequence of int, or sequence of (before, after)
        Of the depthwise convolution's input; "same" gives ``ceil(size / stride)`` samples.
    depthwise_activation, activation : {None, "relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh"}
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What the padding holds (torch's names).
    depth_multiplier : int, optional
        T. Shapes tell it for "pw-dw"; for "dw-pw" the input's channels do where it is left out.
    dtype : {"float32", "float64"}, optional
        What is computed in; that of the weights by default (narrower ones become float32).

    Attributes
    ----------
    order, stride, dilation, padding, padding_mode, depthwise_activation, activation, dtype
        As given, brought to one form.
    c_out : int
    depth_multiplier : int or None
    kernel : tuple of int

    Raises
    ------
    TypeError, ValueError
        If the weights do not fit each other, or an option is unknown.

    Notes
    -----
    A correlation, as in every deep-learning framework. Sums run over taps, then over channels, each in one
    order whatever the number of threads. The operator holds copies of the weights.

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> op = sp.conv.FusedConv(np.ones((8, 1, 3, 3)), np.ones((4, 8)), activation="relu")
    >>> op(np.ones((1, 16, 16, 8))).shape
    (1, 16, 16, 4)
    """

    def __init__(
        self,
        depthwise: npt.ArrayLike,
        pointwise: npt.ArrayLike,
        *,
        order: Order = "dw-pw",
        depthwise_bias: npt.ArrayLike | None = None,
        bias: npt.ArrayLike | None = None,
        stride: PerAxis = 1,
        padding: PaddingLike = "same",
        dilation: PerAxis = 1,
        depthwise_activation: Activation = None,
        activation: Activation = None,
        padding_mode: str = "zeros",
        depth_multiplier: int | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        self.order = one_of(order, ORDERS, "order")
        self.depthwise_activation = one_of(depthwise_activation, ACTIVATIONS, "depthwise_activation")
        self.activation = one_of(activation, ACTIVATIONS, "activation")
        self.padding_mode = one_of(padding_mode, list(PADDING_MODES), "padding_mode")
        self._weights, self.kernel, self.depth_multiplier = weights_of(
            depthwise, pointwise, (depthwise_bias, bias), self.order, depth_multiplier, dtype
        )
        rows = len(self._weights.pointwise)
        self.c_out = rows if depthwise_first(self.order) else rows // (self.depth_multiplier or 1)
        self.dtype = self._weights.depthwise.dtype
        ndim = len(self.kernel)
        self.stride = per_axis(stride, ndim, "stride")
        self.dilation = per_axis(dilation, ndim, "dilation")
        # checked here, so that a wrong one does not wait for the first call
        resolve_padding(padding, self.kernel, self.stride, self.dilation, (1,) * ndim)
        self.padding = padding
        # For each depth multiplier (one, but for inputs of different channels) and mode of padding met.
        self._jobs: dict[tuple[int, str], Job] = {}
        self._job(self.depth_multiplier or 1, self._core_mode)
        self._shapes: dict[tuple[int, ...], tuple[Padding, tuple[int, ...]]] = {}

    def _job(self, multiplier: int, mode: str) -> Job:
        job = self._jobs.get((multiplier, mode))
        if job is None:
            job = self._jobs[multiplier, mode] = self._make(multiplier, mode)
        return job

    def _make(self, multiplier: int, mode: str) -> Job:
        make = FusedJob32 if self.dtype == np.float32 else FusedJob64
        return make(
            not depthwise_first(self.order),
            multiplier,
            self.kernel,
            self.stride,
            self.dilation,
            Mode[PADDING_MODES[mode]],
            ACTIVATIONS.index(self.depthwise_activation),
            ACTIVATIONS.index(self.activation),
            *self._weights,
        )

    def __call__(
        self,
        x: npt.ArrayLike,
        residual: npt.ArrayLike | None = None,
        out: Array | None = None,
        threads: int | None = None,
    ) -> Array:
        """Run the operator.

        Parameters
        ----------
        x : array_like
            ``(N, *spatial, C_in)``; any strides, without a copy where channels lie next to each other. Other
            dtypes are converted. An object with ``__dlpack__`` on the CPU is read in place.
        residual : array_like, optional
            Added to the result, which has its shape.
        out : ndarray, optional
            Where to store ``(N, *spatial, C_out)``; must not overlap `x` or `residual`.
        threads : int, optional
            At most that many; all usable processors by default.

        Returns
        -------
        ndarray
            `out`, or a new array of the operator's dtype aligned to 64 bytes.

        Raises
        ------
        TypeError, ValueError
            If an array does not fit the operator.
        """
        source, padding, shape = self._source(x, self._core_mode)
        target = self._target(out, shape)
        extra = None if residual is None else self._residual(residual, target)
        for name, array in (("x", source), ("residual", extra)):
            if out is not None and array is not None and np.may_share_memory(target, array):
                raise ValueError(
                    f"`out` shares memory with `{name}`; pass another array, or leave `out` out."
                )
        job = self._job(self._multiplier(source.shape), self._core_mode)
        before = [low for low, _ in padding]
        job.run(source, target, extra, before, arguments.thread_count(threads))
        return target

    def gradients(
        self,
        x: npt.ArrayLike,
        grad: npt.ArrayLike,
        *,
        output: npt.ArrayLike | None = None,
        needs_x: bool = True,
        needs_weights: bool = True,
        threads: int | None = None,
    ) -> Gradients:
        """Return the gradients of ``sum(grad * op(x))``.

        What lies between the convolutions is computed again, in tiles that stay in the cache: nothing of
        the forward pass has to be kept but `x`.

        Parameters
        ----------
        x : array_like
            ``(N, *spatial, C_in)``, what the operator was called with.
        grad : array_like
            The shape of the operator's result.
        output : array_like, optional
            That result, without a residual: needed if the last convolution is the pointwise one and its
            activation is "relu" or "relu6".
        needs_x, needs_weights : bool, optional
            False leaves out what nobody asks for: those entries are None.
        threads : int, optional
            At most that many. Sums over pixels run in one order, whatever their number.

        Returns
        -------
        Gradients
            ``x`` shaped like `x`, ``depthwise`` ``(kernels, taps)``, ``pointwise`` ``(rows, columns)``,
            and both biases (whether the operator has them or not).

        Raises
        ------
        TypeError, ValueError
            If an array does not fit, or the last convolution has an activation (apply it outside).
        """
        self._check_last(output is not None)
        given = _array(x)
        source, padding, shape = self._source(given, "zeros")
        upstream = _array(grad)
        if upstream.shape != shape:
            raise ValueError(f"`grad` has shape {upstream.shape}, but the result has shape {shape}.")
        upstream = self._taken(upstream)
        result = None if output is None else self._taken(_array(output))
        if result is not None and result.shape != shape:
            raise ValueError(f"`output` has shape {result.shape}, but the result has shape {shape}.")
        d, p = np.zeros_like(self._weights.depthwise), np.zeros_like(self._weights.pointwise)
        d_bias, bias = np.zeros(len(d), self.dtype), np.zeros(len(p), self.dtype)
        x_grad = np.zeros(source.shape, self.dtype) if needs_x else None
        job = self._job(self._multiplier(source.shape), "zeros")
        before = [low for low, _ in padding]
        count = arguments.thread_count(threads)
        if needs_weights:
            job.gradients(source, upstream, result, x_grad, d, p, d_bias, bias, before, count)
        else:
            job.gradients(source, upstream, result, x_grad, None, None, None, None, before, count)
        if x_grad is not None and self.padding_mode != "zeros":
            x_grad = fold_padding(x_grad, self._geometry(given.shape)[0], self.padding_mode)
        if not needs_weights:
            return Gradients(x_grad, None, None, None, None)
        if not depthwise_first(self.order):  # its bias is added last: the gradient is a sum of `grad`
            flat = upstream.reshape(-1, self.c_out)
            d_bias = np.ones(len(flat), self.dtype) @ flat
        return Gradients(x_grad, d, p, d_bias, bias)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the result's shape for an input of `shape` ``(N, *spatial, C_in)``."""
        return self._geometry(tuple(shape))[1]

    def macs(self, shape: Sequence[int]) -> int:
        """Return the MACs for an input of `shape` ``(N, *spatial, C_in)``; those of padding count."""
        n, *sizes, _ = shape
        pixels = math.prod(self.output_shape(shape)[:-1])
        depthwise, pointwise, *_ = self._weights
        mixed = pixels if depthwise_first(self.order) else n * math.prod(sizes)
        return depthwise.size * pixels + pointwise.size * mixed

    def matches(
        self,
        depthwise: Array,
        pointwise: Array,
        depthwise_bias: Array | None = None,
        bias: Array | None = None,
    ) -> bool:
        """Say whether the operator was made from these very numbers, to the bit.

        Parameters
        ----------
        depthwise, pointwise, depthwise_bias, bias : ndarray
            As given to the constructor.

        Returns
        -------
        bool
        """
        given = (depthwise, pointwise, depthwise_bias, bias)
        return all(same_bits(mine, yours) for mine, yours in zip(self._weights, given, strict=True))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.kernel))
        return (
            f"FusedConv({size}, C_out={self.c_out}, order={self.order!r}, "
            f"depth_multiplier={self.depth_multiplier}, stride={self.stride}, dilation={self.dilation}, "
            f"padding={self.padding!r}, {self.dtype.name})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        d, p, d_bias, bias = self._weights
        lead = (len(d), 1) if depthwise_first(self.order) else (self.c_out, -1)
        options = {
            "depthwise_bias": d_bias,
            "bias": bias,
            **{name: getattr(self, name) for name in _OPTIONS},
        }
        return functools.partial(FusedConv, **options), (d.reshape(*lead, *self.kernel), p)

    @property
    def _core_mode(self) -> str:
        # A pointwise convolution commutes with copying samples, so such padding may as well come before it.
        return self.padding_mode if depthwise_first(self.order) else "zeros"

    def _geometry(self, shape: tuple[int, ...]) -> tuple[Padding, tuple[int, ...]]:
        """Return the padding and the result's shape for an input's; the last few are remembered."""
        geometry = self._shapes.get(shape)
        if geometry is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            geometry = self._shapes[shape] = self._geometry_of(shape)
        return geometry

    def _geometry_of(self, shape: tuple[int, ...]) -> tuple[Padding, tuple[int, ...]]:
        ndim = len(self.kernel)
        if len(shape) != ndim + 2:
            raise ValueError(f"`x` has shape {shape}; expected (N, *spatial, C) with {ndim} spatial axes.")
        self._multiplier(shape)
        sizes = shape[1:-1]
        padding = resolve_padding(self.padding, self.kernel, self.stride, self.dilation, sizes)
        check_reach(self.padding_mode, padding, sizes)
        out_sizes = output_shape(sizes, self.kernel, self.stride, self.dilation, padding)
        return padding, (shape[0], *out_sizes, self.c_out)

    def _multiplier(self, shape: tuple[int, ...]) -> int:
        depthwise, pointwise, *_ = self._weights
        c, rows = shape[-1], len(depthwise)
        if not depthwise_first(self.order):
            if c == pointwise.shape[1]:
                return rows // self.c_out
            expected = str(pointwise.shape[1])
        elif self.depth_multiplier is not None:
            if c * self.depth_multiplier == rows:
                return self.depth_multiplier
            expected = str(rows // self.depth_multiplier)
        else:
            if c and rows % c == 0:
                return rows // c
            expected = f"{rows}, or a divisor of it for a depth multiplier"
        raise ValueError(f"`x` has {c} channels on its last axis; expected {expected} (channels last).")

    def _source(self, x: npt.ArrayLike, mode: str) -> tuple[Array, Padding, tuple[int, ...]]:
        """Return `x` as the core takes it, the padding it still needs, and the result's shape.

        Where the core is to pad with zeros only (`mode`), other padding is done here.
        """
        source = _array(x)
        padding, shape = self._geometry(source.shape)
        if mode != self.padding_mode:
            source = pad(source, padding, self.padding_mode)
            padding = ((0, 0),) * len(padding)
        return self._taken(source), padding, shape

    def _taken(self, array: Array) -> Array:
        """Return the array as the core takes it, itself if it may be."""
        if array.dtype == self.dtype and readable(array):
            return array
        return np.ascontiguousarray(array, dtype=self.dtype)

    def _check_last(self, has_output: bool) -> None:
        last = self.activation if depthwise_first(self.order) else self.depthwise_activation
        clamps = depthwise_first(self.order) and last in ("relu", "relu6")
        if clamps and not has_output:
            raise ValueError(f"the last activation is {last!r}; pass the operator's result as `output`.")
        if has_output and not clamps:
            raise ValueError(
                f"`output` is given, but the last activation is {last!r}; leave `output` out (it serves "
                "'relu' and 'relu6' after a pointwise convolution)."
            )
        if last is not None and not clamps:
            raise ValueError(
                f"the last convolution's activation is {last!r}; make the operator without it, apply it to "
                "the result, and pass the gradient before it."
            )

    def _target(self, out: Array | None, shape: tuple[int, ...]) -> Array:
        if out is None:
            return empty(shape, self.dtype.name)
        if getattr(out, "dtype", None) != self.dtype or out.shape != shape:
            got = f"{out.dtype.name} {out.shape}" if hasattr(out, "dtype") else type(out).__name__
            raise ValueError(f"`out` is {got}; expected a {self.dtype.name} array of shape {shape}.")
        repeats = any(step == 0 and n > 1 for step, n in zip(out.strides, shape, strict=True))
        if not out.flags.writeable or not readable(out) or repeats:
            raise ValueError(
                "`out` is read-only, stores several elements in one place, or its channels do not lie next "
                "to each other; pass a C-contiguous array."
            )
        return out

    def _residual(self, residual: npt.ArrayLike, target: Array) -> Array:
        given = _array(residual)
        if given.shape != target.shape:
            raise ValueError(f"`residual` has shape {given.shape}, but the result has shape {target.shape}.")
        if given.dtype == self.dtype and given.strides == target.strides and readable(given):
            return given
        copy = np.empty_like(target)  # keeps the layout of what is dense
        if copy.strides != target.strides:
            raise ValueError(
                "`residual` is laid out otherwise than `out`, which is not dense; pass dense arrays."
            )
        np.copyto(copy, given, casting="same_kind")
        return copy


def depthwise_separable(
    x: npt.ArrayLike,
    depthwise: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    *,
    residual: npt.ArrayLike | None = None,
    out: Array | None = None,
    threads: int | None = None,
    **options: Any,
) -> Array:
    """Make a :class:`FusedConv` and run it once.

    Parameters
    ----------
    x, residual, out, threads
        As :meth:`FusedConv.__call__` takes them.
    depthwise, pointwise, **options
        As :class:`FusedConv` takes them.

    Returns
    -------
    ndarray
        ``(N, *spatial, C_out)``

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> x = np.zeros((1, 8, 8, 2)); x[0, 4, 4] = 1
    >>> y = sp.conv.depthwise_separable(x, np.ones((2, 1, 3, 3)), [[1.0, 2.0]])
    >>> float(y.sum())
    27.0
    """
    return FusedConv(depthwise, pointwise, **options)(x, residual, out, threads)


def _array(x: npt.ArrayLike) -> Array:
    if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
        x = np.from_dlpack(cast(Any, x))
    array = arguments.input_array(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array has dtype {array.dtype}; expected real numbers.")
    return array
