"""The depthwise separable convolution of torch tensors, as a function."""

from __future__ import annotations

from torch import Tensor

from ..arrays.boundaries import PADDING_MODES
from ..conv.algebra import geometry
from ..conv.algebra.geometry import PaddingLike, PerAxis
from ..conv.algebra.terms import ORDERS, depthwise_first
from .layers.activations import checked_name
from .layers.operator import separable_conv
from .layers.packed import Options

__all__ = ["depthwise_separable"]


def depthwise_separable(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    residual: Tensor | None = None,
    stride: PerAxis = 1,
    padding: PaddingLike = 0,
    dilation: PerAxis = 1,
    padding_mode: str = "zeros",
    order: str = "dw-pw",
    depthwise_activation: str | None = None,
    activation: str | None = None,
) -> Tensor:
    """Convolve each channel by itself and mix the channels, in one pass over memory.

    float32 and float64 tensors on the CPU run fused: what is between the two convolutions never leaves the
    cache. Everything else (other devices and dtypes, autocast, export, transforms of torch.func) runs as
    torch's own two convolutions. Both give the same numbers to rounding.

    Parameters
    ----------
    x : Tensor, shape ``(N, C_in, *spatial)``
        One to three spatial axes. Channels-last memory is read as it is; other memory is copied once.
    depthwise : Tensor
        Order "dw-pw": ``(C_in*T, 1, *k)``, channel ``c*T + t``. Order "pw-dw": ``(C_out, T, *k)``.
    pointwise : Tensor
        Order "dw-pw": ``(C_out, C_in*T[, 1...])``. Order "pw-dw": ``(C_out*T, C_in[, 1...])``.
    depthwise_bias, bias : Tensor, optional
        Added to what the depthwise and the pointwise convolution give.
    residual : Tensor, optional
        Added last; the shape of the result.
    stride, dilation : int or sequence of int, optional
        Of the depthwise convolution.
    padding : "same", "valid", int, sequence of int, or sequence of (before, after), optional
        Of the depthwise convolution's input. "same" gives ``ceil(size / stride)`` samples; an odd sample of
        padding stands after the axis.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, optional
    order : {"dw-pw", "pw-dw"}, optional
        Which of the two convolutions comes first.
    depthwise_activation, activation : str, optional
        "relu", "relu6", "silu", "hard_swish", "gelu" or "gelu_tanh", applied to what the depthwise and the
        pointwise convolution give.

    Returns
    -------
    Tensor, shape ``(N, C_out, *spatial)``
        In the memory format of `x`, as torch's convolutions return it.

    Raises
    ------
    TypeError
        If a tensor is none, or dtypes or devices differ.
    ValueError
        If shapes do not fit, or a name or number is out of range.

    Notes
    -----
    The derivative recomputes what is between the convolutions instead of storing it. Differentiated twice
    (``create_graph=True``), the operator becomes torch's two convolutions.

    Examples
    --------
    >>> import torch
    >>> from separable.nn.functional import depthwise_separable
    >>> x = torch.ones(1, 2, 4, 4).to(memory_format=torch.channels_last)
    >>> y = depthwise_separable(x, torch.ones(2, 1, 3, 3), torch.ones(5, 2), padding=1, activation="relu")
    >>> y.shape, float(y[0, 0, 0, 0]), float(y[0, 0, 1, 1])
    (torch.Size([1, 5, 4, 4]), 8.0, 18.0)
    """
    _check_names(order, padding_mode, depthwise_activation, activation)
    tensors = {"depthwise_bias": depthwise_bias, "bias": bias, "residual": residual}
    _check_tensors(x, depthwise=depthwise, pointwise=pointwise, **tensors)
    _check_shapes(x, depthwise, pointwise, depthwise_bias, bias, order)
    kernel, ndim = tuple(depthwise.shape[2:]), x.dim() - 2
    steps = geometry.per_axis(stride, ndim, "stride")
    spread = geometry.per_axis(dilation, ndim, "dilation")
    pairs = geometry.resolve_padding(padding, kernel, steps, spread, tuple(x.shape[2:]))
    sizes = geometry.output_shape(tuple(x.shape[2:]), kernel, steps, spread, pairs)
    outputs = pointwise.shape[0] if depthwise_first(order) else depthwise.shape[0]
    if residual is not None and tuple(residual.shape) != (x.shape[0], outputs, *sizes):
        raise ValueError(
            f"`residual` has shape {tuple(residual.shape)}, but the result has "
            f"{(x.shape[0], outputs, *sizes)}."
        )
    options = Options(order, steps, pairs, spread, padding_mode, depthwise_activation, activation)
    return separable_conv(x, depthwise, pointwise, depthwise_bias, bias, residual, options)


def _check_names(
    order: str, padding_mode: str, depthwise_activation: str | None, activation: str | None
) -> None:
    if order not in ORDERS:
        raise ValueError(f"`order={order!r}` is unknown; expected 'dw-pw' or 'pw-dw'.")
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"`padding_mode={padding_mode!r}` is unknown; expected one of "
            f"{', '.join(map(repr, PADDING_MODES))}."
        )
    checked_name(depthwise_activation, "depthwise_activation")
    checked_name(activation, "activation")


def _check_tensors(x: Tensor, **tensors: Tensor | None) -> None:
    for name, tensor in {"x": x, **tensors}.items():
        if tensor is None and name not in ("x", "depthwise", "pointwise"):
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"`{name}` is {type(tensor).__name__}; expected a tensor. NumPy arrays go to "
                "separable.conv.depthwise_separable, or through torch.from_numpy."
            )
        if tensor.dtype != x.dtype or tensor.device != x.device:
            raise TypeError(
                f"`{name}` is {tensor.dtype} on {tensor.device}, but `x` is {x.dtype} on {x.device}; "
                f"pass {name}.to(x)."
            )


def _check_shapes(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    order: str,
) -> None:
    if not 3 <= x.dim() <= 5:
        raise ValueError(
            f"`x` has shape {tuple(x.shape)}; expected (N, C_in, *spatial) with 1 to 3 spatial axes. "
            "Pass x[None] for a single sample."
        )
    if depthwise.dim() != x.dim():
        raise ValueError(
            f"`depthwise` has shape {tuple(depthwise.shape)}, but `x` has {x.dim() - 2} spatial axes; "
            f"expected {'(C_in*T, 1, *k)' if depthwise_first(order) else '(C_out, T, *k)'}."
        )
    if pointwise.dim() not in (2, x.dim()) or pointwise.shape[2:].numel() != 1:
        raise ValueError(
            f"`pointwise` has shape {tuple(pointwise.shape)}; expected two axes, or "
            f"{x.dim()} with ones at the end."
        )
    _check_channels(x.shape[1], depthwise, pointwise, order)
    for name, tensor, count in (
        ("depthwise_bias", depthwise_bias, depthwise.shape[0]),
        ("bias", bias, pointwise.shape[0]),
    ):
        if tensor is not None and tuple(tensor.shape) != (count,):
            raise ValueError(f"`{name}` has shape {tuple(tensor.shape)}; expected ({count},).")


def _check_channels(channels: int, depthwise: Tensor, pointwise: Tensor, order: str) -> None:
    rows, columns = pointwise.shape[:2]
    outputs, inputs = depthwise.shape[:2]
    if depthwise_first(order):
        if inputs != 1 or channels == 0 or outputs % channels or outputs == 0:
            raise ValueError(
                f"`depthwise` has shape {tuple(depthwise.shape)} for the {channels} channels of `x`; "
                f"expected ({channels}*T, 1, *k). For (C_out, T, *k) pass order='pw-dw'."
            )
        if columns != outputs:
            raise ValueError(
                f"`pointwise` has shape {tuple(pointwise.shape)}; expected (C_out, {outputs}), a column for "
                "each channel that `depthwise` gives."
            )
        return
    if columns != channels:
        raise ValueError(
            f"`pointwise` has shape {tuple(pointwise.shape)}; expected (C_out*T, {channels}), a column for "
            "each channel of `x`. For depthwise first pass order='dw-pw'."
        )
    if rows != outputs * inputs or rows == 0:
        raise ValueError(
            f"`depthwise` has shape {tuple(depthwise.shape)} for {rows} channels from `pointwise`; expected "
            f"(C_out, T, *k) with C_out*T = {rows}."
        )
