"""The depthwise separable layers in any number of dimensions: as torch's Conv, and as its ConvTranspose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...conv.algebra.geometry import whole
from ...conv.algebra.terms import depthwise_first
from .activations import Activation, known_name
from .between import Device, Norm, applied, folded, is_foldable, is_plain, is_watched, tensors_of
from .operator import are_like, fused_conv, runs_fused
from .packed import Options
from .pair import ConvPair, Size, array_of, checked_dense, full_rank, padding_pairs

if TYPE_CHECKING:
    from typing_extensions import Self


class SeparableConv(ConvPair):
    """The base of DepthwiseSeparableConv1d, 2d and 3d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: str | Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        depth_multiplier: int = 1,
        order: str = "dw-pw",
        norm: Norm = None,
        activation: Activation = None,
        output_norm: Norm = None,
        output_activation: Activation = None,
        residual: bool = False,
    ) -> None:
        self._build(
            (in_channels, out_channels),
            kernel_size,
            groups=groups,
            bias=bias,
            depth_multiplier=depth_multiplier,
            order=order,
            norm=norm,
            activation=activation,
            output_norm=output_norm,
            output_activation=output_activation,
            device=device,
            dtype=dtype,
            residual=residual,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
        )

    @classmethod
    def from_dense(cls, conv: nn.Module, rank: int | None = None, *, order: str = "dw-pw") -> Self:
        """Return the layer nearest to a dense convolution, without data: a truncated SVD of every slice.

        Parameters
        ----------
        conv : torch.nn.ConvNd
            Of as many dimensions as the class. All its arguments are kept; its groups become those of the
            pointwise convolution.
        rank : int, optional
            Depth multiplier of the layer; by default the rank that is exact, the smaller of the number of
            taps and of the output ("dw-pw") or input ("pw-dw") channels in a group.
        order : {"dw-pw", "pw-dw"}, optional

        Returns
        -------
        The layer, on the device and in the dtype of `conv`.

        Raises
        ------
        TypeError
            If `conv` is another module.
        ValueError
            If `rank` or `order` is out of range, or `conv` holds no numbers (device "meta").
        """
        plain = checked_dense(conv, cls._depthwise)
        layer = cls(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            plain.stride,
            plain.padding,
            plain.dilation,
            plain.groups,
            plain.bias is not None,
            plain.padding_mode,
            "meta",
            plain.weight.dtype,
            depth_multiplier=full_rank(plain, order) if rank is None else whole(rank, "rank"),
            order=order,
        )
        return layer._fill(plain)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape ``(N, C_in, *spatial)`` or ``(C_in, *spatial)``

        Returns
        -------
        Tensor
        """
        return self._fused(x) if self._is_fusable(x) else self._in_sequence(x)

    def _is_fusable(self, x: Tensor) -> bool:
        dw, pw = self.conv_dw, self.conv_pw
        return (
            runs_fused(x)
            and is_plain(dw, self._depthwise)
            and is_plain(pw, self._pointwise)
            and pw.groups == 1
            and x.dim() == len(dw.kernel_size) + 2
            and x.shape[1] == self.in_channels
            and known_name(self.activation)[0]
            and is_foldable(self.norm)
            and not is_watched(dw, pw, self.norm, self.activation, self.output_norm, self.output_activation)
        )

    def _fused(self, x: Tensor) -> Tensor:
        """Run in the fused operator all that it can do, and the rest of what follows after it."""
        first, second = self._convs()
        weight, bias, last_weight, last_bias = first.weight, first.bias, second.weight, second.bias
        if not are_like(x, weight, bias, last_weight, last_bias, *tensors_of(self.norm)):
            return self._in_sequence(x)
        weight, bias = folded(weight, bias, self.norm)
        tail = is_foldable(self.output_norm) and are_like(x, *tensors_of(self.output_norm))
        last_weight, last_bias = folded(last_weight, last_bias, self.output_norm if tail else None)
        known, last = known_name(self.output_activation)
        inside = tail and known
        names = known_name(self.activation)[1], last if inside else None
        residual = x if self.residual and inside else None
        if depthwise_first(self.order):
            options = self._options(names[0], names[1])
            y = fused_conv(x, weight, last_weight, bias, last_bias, residual, options)
        else:
            options = self._options(names[1], names[0])
            y = fused_conv(x, last_weight, weight, last_bias, bias, residual, options)
        if inside:
            return y
        y = applied(y, None if tail else self.output_norm, self.output_activation)
        return y + x if self.residual else y

    def _options(self, depthwise_activation: str | None, activation: str | None) -> Options:
        conv = self.conv_dw
        return Options(
            self.order,
            tuple(conv.stride),
            padding_pairs(conv),
            tuple(conv.dilation),
            conv.padding_mode,
            depthwise_activation,
            activation,
        )


class SeparableConvTranspose(ConvPair):
    """The base of DepthwiseSeparableConvTranspose1d, 2d and 3d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        depth_multiplier: int = 1,
        order: str = "dw-pw",
        norm: Norm = None,
        activation: Activation = None,
        output_norm: Norm = None,
        output_activation: Activation = None,
    ) -> None:
        self._build(
            (in_channels, out_channels),
            kernel_size,
            groups=groups,
            bias=bias,
            depth_multiplier=depth_multiplier,
            order=order,
            norm=norm,
            activation=activation,
            output_norm=output_norm,
            output_activation=output_activation,
            device=device,
            dtype=dtype,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            padding_mode=padding_mode,
        )

    @property
    def output_padding(self) -> tuple[int, ...]:
        """Size added to one side of the output."""
        return tuple(self.conv_dw.output_padding)

    @classmethod
    def from_dense(cls, conv: nn.Module, rank: int | None = None, *, order: str = "dw-pw") -> Self:
        """Return the layer nearest to a dense transposed convolution, without data.

        Parameters
        ----------
        conv : torch.nn.ConvTransposeNd
            Of as many dimensions as the class. All its arguments are kept.
        rank : int, optional
            Depth multiplier of the layer; by default the rank that is exact.
        order : {"dw-pw", "pw-dw"}, optional

        Returns
        -------
        The layer, on the device and in the dtype of `conv`.

        Raises
        ------
        TypeError
            If `conv` is another module.
        ValueError
            If `rank` or `order` is out of range, or `conv` holds no numbers (device "meta").
        """
        plain = checked_dense(conv, cls._depthwise)
        layer = cls(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            plain.stride,
            plain.padding,
            plain.output_padding,
            plain.groups,
            plain.bias is not None,
            plain.dilation,
            plain.padding_mode,
            "meta",
            plain.weight.dtype,
            depth_multiplier=full_rank(plain, order) if rank is None else whole(rank, "rank"),
            order=order,
        )
        return layer._fill(plain)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape ``(N, C_in, *spatial)`` or ``(C_in, *spatial)``
        output_size : list of int, optional
            As in torch: which of the sizes that a stride confuses the output has.

        Returns
        -------
        Tensor
        """
        return self._in_sequence(x) if output_size is None else self._in_sequence(x, output_size)

    def _dense_options(self) -> dict[str, Any]:
        return {**super()._dense_options(), "output_padding": self.conv_dw.output_padding}

    def _depthwise_array(self) -> Any:
        # torch keeps the input channels of a transposed convolution first: (C_in, T, *k) for "dw-pw" and
        # (C_out*T, 1, *k) for "pw-dw". The channels' order is that of `compose`, only the axes are split
        # elsewhere.
        weights = array_of(self.conv_dw.weight)
        columns = 1 if depthwise_first(self.order) else self.depth_multiplier
        return weights.reshape(-1, columns, *weights.shape[2:])

    def _swapped(self, weights: Any) -> Any:
        groups = self.groups
        parts = weights.reshape(groups, -1, *weights.shape[1:]).swapaxes(1, 2)
        return parts.reshape(-1, *parts.shape[2:])

    def _check_bias_meets_no_zeros(self) -> None:
        raise ValueError(
            "conv_pw has a bias, and the transposed convolution spreads it unevenly: the pair is no single "
            "convolution. Remove the bias (conv_pw.bias = None)."
        )
