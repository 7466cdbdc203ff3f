"""The fused operator: a depthwise and a pointwise convolution in one sweep over channels-last arrays.

The result of the first convolution lives in tiles that stay in the processor's cache, so memory is read once
and written once. Weights are packed when the operator is made, for the instruction set in use then.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import _arguments as arguments
from .._core import FusedJob32, FusedJob64, empty
from .geometry import Padding, PaddingLike, PerAxis, output_shape, per_axis, reach, resolve_padding

__all__ = ["FusedConv", "Gradients", "depthwise_separable"]

Array: TypeAlias = npt.NDArray[Any]
Order: TypeAlias = Literal["dw-pw", "pw-dw"]
Job: TypeAlias = FusedJob32 | FusedJob64
Activation: TypeAlias = Literal["relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh"] | None

ACTIVATIONS: Final = (None, "relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh")  # codes in the core
ORDERS: Final = ("dw-pw", "pw-dw")
# torch's name of a padding mode -> code in the core
PADDING_MODES: Final = {"zeros": 1, "reflect": 3, "replicate": 2, "circular": 4}
_PAD: Final[dict[str, Literal["reflect", "edge", "wrap"]]] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's names


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
        dtype: npt.DTypeLike = None,
    ) -> None:
        self.order = _one_of(order, ORDERS, "order")
        self.depthwise_activation = _one_of(depthwise_activation, ACTIVATIONS, "depthwise_activation")
        self.activation = _one_of(activation, ACTIVATIONS, "activation")
        self.padding_mode = _one_of(padding_mode, tuple(PADDING_MODES), "padding_mode")
        d, p = np.asarray(depthwise), np.asarray(pointwise)
        self.dtype = _working(dtype, d, p)
        self.kernel = _kernel(d)
        ndim = len(self.kernel)
        self.stride = per_axis(stride, ndim, "stride")
        self.dilation = per_axis(dilation, ndim, "dilation")
        # checked here, so that a wrong one does not wait for the first call
        resolve_padding(padding, self.kernel, self.stride, self.dilation, (1,) * ndim)
        self.padding = padding
        p = _matrix(p)
        rows, self.c_out, self.depth_multiplier = _channels(d, p, self.order, depth_multiplier)
        self._weights = (
            _owned(d.reshape(rows, math.prod(self.kernel)), self.dtype),
            _owned(p, self.dtype),
            _bias(depthwise_bias, self.c_out if self.order == "pw-dw" else rows, "depthwise_bias", self.dtype),
            _bias(bias, len(p), "bias", self.dtype),
        )
        # For each depth multiplier that was met (one, but for inputs of different channels) and mode of padding.
        self._jobs: dict[tuple[int, str], Job] = {}
        self._job(self.depth_multiplier or 1, self._core_mode)

    def _job(self, multiplier: int, mode: str) -> Job:
        found = self._jobs.get((multiplier, mode))
        if found is None:
            found = self._jobs[multiplier, mode] = self._make(multiplier, mode)
        return found

    def _make(self, multiplier: int, mode: str) -> Job:
        make = FusedJob32 if self.dtype == np.float32 else FusedJob64
        return make(
            self.order == "pw-dw",
            multiplier,
            self.kernel,
            self.stride,
            self.dilation,
            PADDING_MODES[mode],
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
        needs_x, needs_weights : bool, optional
            False leaves out what nobody asks for: those entries are None.
        threads : int, optional
            At most that many. Sums over pixels run in one order, whatever their number.

        Returns
        -------
        Gradients
            ``x`` shaped like `x`, ``depthwise`` ``(kernels, *k)`` and ``pointwise`` ``(rows, columns)`` like the
            weights, both biases (whether the operator has them or not).

        Raises
        ------
        TypeError, ValueError
            If an array does not fit, or the last convolution has an activation (apply it outside).
        """
        last = self.activation if self.order == "dw-pw" else self.depthwise_activation
        if last is not None:
            raise ValueError(
                f"the last convolution's activation is {last!r}; make the operator without it, apply it to "
                "the result, and pass the gradient before it."
            )
        source, padding, shape = self._source(x, "zeros")
        upstream = np.asarray(grad)
        if upstream.shape != shape:
            raise ValueError(f"`grad` has shape {upstream.shape}, but the result has shape {shape}.")
        if upstream.dtype != self.dtype or not _readable(upstream):
            upstream = np.ascontiguousarray(upstream, dtype=self.dtype)
        weights = [w if w is None else np.zeros_like(w) for w in self._weights[:2]]
        d, p = weights
        d_bias, bias = np.zeros(len(d), self.dtype), np.zeros(len(p), self.dtype)
        x_grad = np.zeros(source.shape, self.dtype) if needs_x else None
        results = (d, p, d_bias, bias) if needs_weights else (None,) * 4
        job = self._job(self._multiplier(source.shape), "zeros")
        before = [low for low, _ in padding]
        job.gradients(source, upstream, x_grad, *results, before, arguments.thread_count(threads))
        if x_grad is not None and self.padding_mode != "zeros":
            x_grad = _folded(x_grad, self._geometry(np.shape(x))[0], self.padding_mode)
        if not needs_weights:
            return Gradients(x_grad, None, None, None, None)
        if self.order == "pw-dw":  # the depthwise bias comes last, and so meets grad itself
            flat = upstream.reshape(-1, self.c_out)
            d_bias = np.ones(len(flat), self.dtype) @ flat
        return Gradients(x_grad, d, p, d_bias, bias)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the result's shape for an input of `shape` ``(N, *spatial, C_in)``."""
        return self._geometry(tuple(shape))[1]

    def macs(self, shape: Sequence[int]) -> int:
        """Return the multiply-accumulates for an input of `shape` ``(N, *spatial, C_in)``, padding included."""
        n, *sizes, _ = shape
        pixels = math.prod(self.output_shape(shape)[:-1])
        depthwise, pointwise = self._weights[:2]
        mixed = n * math.prod(sizes) if self.order == "pw-dw" else pixels
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
        return all(_same(mine, yours) for mine, yours in zip(self._weights, given, strict=True))

    def __repr__(self) -> str:
        first = "x".join(map(str, self.kernel))
        return (
            f"FusedConv({first}, ->{self.c_out}, order={self.order!r}, depth_multiplier={self.depth_multiplier}, "
            f"stride={self.stride}, dilation={self.dilation}, padding={self.padding!r}, {self.dtype.name})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        d, p, d_bias, bias = self._weights
        lead = (self.c_out, -1) if self.order == "pw-dw" else (len(d), 1)
        options = dict(
            order=self.order,
            depthwise_bias=d_bias,
            bias=bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            depthwise_activation=self.depthwise_activation,
            activation=self.activation,
            padding_mode=self.padding_mode,
            depth_multiplier=self.depth_multiplier,
        )
        return functools.partial(FusedConv, **options), (d.reshape(*lead, *self.kernel), p)

    @property
    def _core_mode(self) -> str:
        # A pointwise convolution commutes with copying samples, so such padding may as well come before it.
        return "zeros" if self.order == "pw-dw" else self.padding_mode

    def _geometry(self, shape: tuple[int, ...]) -> tuple[Padding, tuple[int, ...]]:
        ndim = len(self.kernel)
        if len(shape) != ndim + 2:
            raise ValueError(f"`x` has shape {shape}; expected (N, *spatial, C) with {ndim} spatial axes.")
        self._multiplier(shape)
        sizes = shape[1:-1]
        padding = resolve_padding(self.padding, self.kernel, self.stride, self.dilation, sizes)
        _check_reach(self.padding_mode, padding, sizes)
        found = output_shape(sizes, self.kernel, self.stride, self.dilation, padding)
        return padding, (shape[0], *found, self.c_out)

    def _multiplier(self, shape: tuple[int, ...]) -> int:
        depthwise, pointwise = self._weights[:2]
        c, rows = shape[-1], len(depthwise)
        if self.order == "pw-dw":
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
        if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
            x = np.from_dlpack(x)
        source = arguments.input_array(x)
        if source.dtype.kind not in "biuf":
            raise TypeError(f"`x` has dtype {source.dtype}; expected real numbers.")
        padding, shape = self._geometry(source.shape)
        if mode != self.padding_mode:
            source = np.pad(source, ((0, 0), *padding, (0, 0)), _PAD[self.padding_mode])
            padding = ((0, 0),) * len(padding)
        if source.dtype != self.dtype or not _readable(source):
            source = np.ascontiguousarray(source, dtype=self.dtype)
        return source, padding, shape

    def _target(self, out: Array | None, shape: tuple[int, ...]) -> Array:
        if out is None:
            return empty(shape, self.dtype.name)
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype or out.shape != shape:
            got = f"{out.dtype.name} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(f"`out` is {got}; expected a {self.dtype.name} array of shape {shape}.")
        if (
            not out.flags.writeable
            or not _readable(out)
            or any(s <= 0 < n - 1 for s, n in zip(out.strides, shape, strict=True))
        ):
            raise ValueError(
                "`out` is read-only, or its channels do not lie next to each other; pass a C-contiguous array."
            )
        return out

    def _residual(self, residual: npt.ArrayLike, target: Array) -> Array:
        given = np.asarray(residual)
        if given.shape != target.shape:
            raise ValueError(f"`residual` has shape {given.shape}, but the result has shape {target.shape}.")
        if given.dtype == self.dtype and given.strides == target.strides and _readable(given):
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


def _one_of(value: Any, allowed: tuple[Any, ...], name: str) -> Any:
    if value not in allowed:
        raise ValueError(f"`{name}={value!r}` is unknown; expected one of {', '.join(map(repr, allowed))}.")
    return value


def _working(dtype: npt.DTypeLike, *weights: Array) -> np.dtype[Any]:
    for name, array in zip(("depthwise", "pointwise"), weights, strict=True):
        if array.dtype.kind not in "biuf":
            raise TypeError(f"`{name}` has dtype {array.dtype}; expected real numbers.")
    if dtype is None:
        floats = [w.dtype for w in weights if w.dtype.kind == "f"]
        return np.dtype(np.float64 if any(f.itemsize > 4 for f in floats) else np.float32)
    found = np.dtype(dtype)
    if found not in (np.float32, np.float64):
        raise TypeError(f"`dtype={found.name}` is not supported; expected 'float32' or 'float64'.")
    return found


def _kernel(depthwise: Array) -> tuple[int, ...]:
    if not 3 <= depthwise.ndim <= 5 or 0 in depthwise.shape:
        raise ValueError(
            f"`depthwise` has shape {depthwise.shape}; expected (C_in*T, 1, *k), for order 'pw-dw' (C_out, T, *k), "
            "with one to three spatial axes and no empty one."
        )
    return depthwise.shape[2:]


def _matrix(pointwise: Array) -> Array:
    if pointwise.ndim < 2 or 0 in pointwise.shape or any(n != 1 for n in pointwise.shape[2:]):
        raise ValueError(
            f"`pointwise` has shape {pointwise.shape}; expected (rows, columns), then only ones."
        )
    return pointwise.reshape(pointwise.shape[:2])


def _channels(
    depthwise: Array, pointwise: Array, order: str, multiplier: int | None
) -> tuple[int, int, int | None]:
    """Return the number of depthwise kernels, C_out, and the depth multiplier where it is known."""
    (kernels, each), (rows, columns) = depthwise.shape[:2], pointwise.shape
    if order == "pw-dw":
        if rows != kernels * each or multiplier not in (None, each):
            raise ValueError(
                f"`pointwise` gives {rows} channels, but `depthwise` {depthwise.shape} reads {kernels * each} "
                f"(order 'pw-dw': depthwise (C_out, T, *k), pointwise (C_out*T, C_in)), depth_multiplier={multiplier}."
            )
        return rows, kernels, each
    if each != 1 or kernels != columns:
        raise ValueError(
            f"`depthwise` {depthwise.shape} and `pointwise` {pointwise.shape} do not fit; order 'dw-pw' takes "
            "(C_in*T, 1, *k) and (C_out, C_in*T)."
        )
    if multiplier is not None and (multiplier < 1 or kernels % multiplier):
        raise ValueError(f"`depth_multiplier={multiplier}` does not divide the {kernels} depthwise kernels.")
    return kernels, rows, multiplier


def _owned(array: Array, dtype: np.dtype[Any]) -> Array:
    copy = np.array(array, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def _bias(bias: npt.ArrayLike | None, count: int, name: str, dtype: np.dtype[Any]) -> Array | None:
    if bias is None:
        return None
    given = np.asarray(bias)
    if given.shape != (count,):
        raise ValueError(f"`{name}` has shape {given.shape}; expected ({count},).")
    return _owned(given, dtype)


def _check_reach(mode: str, padding: Padding, sizes: Sequence[int]) -> None:
    """Refuse padding that torch refuses too: more samples than there are to copy."""
    if mode == "zeros":
        return
    for axis, (sides, n) in enumerate(zip(padding, sizes, strict=True)):
        most = n - 1 if mode == "reflect" else n
        if max(sides) > (most if mode != "replicate" or n == 0 else max(sides)):
            raise ValueError(
                f"axis {axis} has {n} samples; padding_mode={mode!r} can pad at most {max(most, 0)}, got {sides}."
            )


def _folded(grad: Array, padding: Padding, mode: str) -> Array:
    """Add the gradients of padding samples to those of the samples they copy."""
    for axis, (low, high) in enumerate(padding, 1):
        g = np.moveaxis(grad, axis, 0)
        n = len(g) - low - high
        inner, before, after = g[low : low + n], g[:low], g[low + n :]
        if mode == "reflect":
            inner[1 : low + 1] += before[::-1]
            inner[n - 1 - high : n - 1] += after[::-1]
        elif mode == "replicate":
            inner[0] += before.sum(0)
            inner[-1] += after.sum(0)
        else:
            inner[n - low :] += before
            inner[:high] += after
        grad = np.moveaxis(inner, 0, axis)
    return np.ascontiguousarray(grad)


def _readable(array: Array) -> bool:
    """Whether the core takes the array as it is: native, aligned, channels next to each other."""
    item = array.itemsize
    return (
        array.dtype.isnative
        and array.flags.aligned
        and (array.shape[-1] == 1 or array.strides[-1] == item)
        and all(s % item == 0 for s in array.strides)
    )


def _same(mine: Array | None, yours: Array | None) -> bool:
    if mine is None or yours is None:
        return mine is yours
    bits = f"u{mine.itemsize}"  # compared as integers: NaN equals itself, and -0 differs from 0
    return (
        mine.dtype == yours.dtype
        and mine.size == yours.size
        and np.array_equal(mine.view(bits), np.ascontiguousarray(yours).reshape(mine.shape).view(bits))
    )
