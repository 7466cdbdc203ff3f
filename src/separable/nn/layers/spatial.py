"""Convolutions along one axis after the other: the spatially separable layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..._base.types import FloatArray
from ...conv.algebra.geometry import per_axis, whole
from .activations import Activation, module_of
from .between import Device, Function, Norm, applied, initialise, norm_of
from .pair import Size, check_channels, checked_dense, name_of

if TYPE_CHECKING:
    from typing_extensions import Self


_AXES = "dhw"  # depth, height, width: torch's names for the last three axes


class SpatialConv(nn.Module):
    """The base of SpatiallySeparableConv2d and 3d, which name torch's convolution in `_conv`."""

    _conv: ClassVar[type[nn.Module]]
    _ndim: ClassVar[int]

    activation: Function | None
    output_norm: nn.Module | None
    output_activation: Function | None

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
        mid_channels: Size | None = None,
        norm: Norm = None,
        activation: Activation = None,
        output_norm: Norm = None,
        output_activation: Activation = None,
    ) -> None:
        super().__init__()
        wanted = out_channels if mid_channels is None else mid_channels
        middle = per_axis(wanted, self._ndim - 1, "mid_channels")
        check_channels(groups, in_channels=in_channels, out_channels=out_channels)
        for count in middle:
            check_channels(groups, mid_channels=count)
        self.in_channels, self.out_channels, self.mid_channels = in_channels, out_channels, middle
        self.kernel_size = per_axis(kernel_size, self._ndim, "kernel_size")
        self.stride = per_axis(stride, self._ndim, "stride")
        self.dilation = per_axis(dilation, self._ndim, "dilation")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self._ndim, "padding", 0)
        self.groups, self.padding_mode = groups, padding_mode
        early = bias and activation is not None and norm is None
        channels = (in_channels, *middle, out_channels)
        for step, axis in enumerate(self._axes()):
            last = step == self._ndim - 1
            options = self._along(step)
            conv = self._conv(
                channels[step],
                channels[step + 1],
                groups=groups,
                bias=bias if last else early,
                padding_mode=padding_mode,
                device=device,
                dtype=dtype,
                **options,
            )
            setattr(self, f"conv_{axis}", conv)
            if not last:
                setattr(self, f"norm_{axis}", norm_of(norm, channels[step + 1], "norm", device, dtype))
        self.activation = module_of(activation, "activation")
        self.output_norm = norm_of(output_norm, out_channels, "output_norm", device, dtype)
        self.output_activation = module_of(output_activation, "output_activation")
        self.reset_parameters()

    @classmethod
    def from_dense(cls, conv: nn.Module, rank: Size | None = None) -> Self:
        """Return the layer nearest to a dense convolution, without data.

        The weights of a group, as a matrix of (input channel, row) against (output channel, column), are
        cut off after `rank` singular values; in 3-D first the depth is split off, then the height.

        Parameters
        ----------
        conv : torch.nn.ConvNd
            Of as many dimensions as the class. All its arguments are kept.
        rank : int or sequence of int, optional
            Channels of each group between two convolutions; by default, and at most, as many as
            make it exact.

        Returns
        -------
        The layer, on the device and in the dtype of `conv`.

        Raises
        ------
        TypeError
            If `conv` is another module.
        ValueError
            If `rank` is out of range, or `conv` holds no numbers (device "meta").
        """
        plain = checked_dense(conv, cls._conv)
        dense = plain.weight.detach().cpu().double().numpy()
        ranks = None if rank is None else per_axis(rank, cls._ndim - 1, "rank")
        factors = _split(dense.reshape(plain.groups, -1, *dense.shape[1:]), ranks)
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
            mid_channels=[plain.groups * factor.shape[1] for factor in factors[:-1]],
        ).to_empty(device=plain.weight.device)
        convs = layer._convs()
        with torch.no_grad():
            for part, factor in zip(convs, factors, strict=True):
                part.weight.copy_(torch.from_numpy(factor).reshape(part.weight.shape))
            if plain.bias is not None:
                convs[-1].bias.copy_(plain.bias)
        layer.requires_grad_(plain.weight.requires_grad)
        if plain.bias is not None:
            convs[-1].bias.requires_grad_(plain.bias.requires_grad)
        return layer.train(plain.training)

    def to_dense(self) -> nn.Module:
        """Return the dense convolution that does the same in one step.

        Returns
        -------
        torch.nn.Module
            An nn.ConvNd with the weights composed in float64.

        Raises
        ------
        ValueError
            If a norm, an activation or a bias stands between the convolutions, or a norm or an activation
            after them.
        """
        self._check_dense()
        convs = self._convs()
        dense = _grouped(convs[0])
        for conv in convs[1:]:
            # (groups, middle, in, *k) and (groups, out, middle, tap) -> (groups, out, in, *k, tap)
            dense = np.einsum("gri...,gorw->goi...w", dense, _grouped(conv))
        last, weight = convs[-1], convs[0].weight
        whole_conv: Any = self._conv(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            last.bias is not None,
            self.padding_mode,
            "meta",
            weight.dtype,
        )
        whole_conv.to_empty(device=weight.device)
        with torch.no_grad():
            whole_conv.weight.copy_(torch.from_numpy(dense.reshape(whole_conv.weight.shape)))
            if last.bias is not None:
                whole_conv.bias.copy_(last.bias)
        done: nn.Module = whole_conv.requires_grad_(weight.requires_grad).train(self.training)
        return done

    def reset_parameters(self) -> None:
        """Draw new weights that keep the second moment of the signal through the layer; biases are zero."""
        convs = self._convs()
        for conv, norm in zip(convs[:-1], self._norms(), strict=True):
            initialise(conv, None if norm is not None else self.activation)
        initialise(convs[-1], None if self.output_norm is not None else self.output_activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape ``(N, C_in, *spatial)`` or ``(C_in, *spatial)``

        Returns
        -------
        Tensor
        """
        convs = self._convs()
        for conv, norm in zip(convs[:-1], self._norms(), strict=True):
            x = applied(conv(x), norm, self.activation)
        return applied(convs[-1](x), self.output_norm, self.output_activation)

    def _axes(self) -> str:
        return _AXES[-self._ndim :]

    def _convs(self) -> list[Any]:
        return [getattr(self, f"conv_{axis}") for axis in self._axes()]

    def _norms(self) -> list[nn.Module | None]:
        return [getattr(self, f"norm_{axis}") for axis in self._axes()[:-1]]

    def _along(self, axis: int) -> dict[str, Any]:
        """Return the arguments of the convolution along one axis: the layer's there, nothing elsewhere."""

        def alone(values: Sequence[int], rest: int) -> tuple[int, ...]:
            return tuple(value if place == axis else rest for place, value in enumerate(values))

        return {
            "kernel_size": alone(self.kernel_size, 1),
            "stride": alone(self.stride, 1),
            "dilation": alone(self.dilation, 1),
            "padding": self.padding if isinstance(self.padding, str) else alone(self.padding, 0),
        }

    def _check_dense(self) -> None:
        norms = [f"norm_{axis}" for axis in self._axes()[:-1]]
        for name in (*norms, "activation", "output_norm", "output_activation"):
            step = getattr(self, name)
            if step is not None and not isinstance(step, nn.Identity):
                raise ValueError(
                    f"`{name}` is {name_of(step)}: the layer is more than convolutions, and no single one "
                    f"equals it. Set {name} to None to compose the convolutions alone."
                )
        for axis, conv in zip(self._axes()[:-1], self._convs()[:-1], strict=True):
            if conv.bias is not None:
                raise ValueError(
                    f"conv_{axis} has a bias between the convolutions, and no single one equals the layer. "
                    f"Remove it (conv_{axis}.bias = None)."
                )


def _split(dense: FloatArray, ranks: Sequence[int] | None) -> list[FloatArray]:
    """Split (groups, out, in, *k) into a factor (groups, out, in, k) for each axis, the first one first."""
    factors = []
    for step in range(dense.ndim - 4):
        groups, outputs, inputs, taps, *rest = dense.shape
        matrix = np.moveaxis(dense, 1, 3).reshape(groups, inputs * taps, -1)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        rank = whole(values.shape[1] if ranks is None else min(ranks[step], values.shape[1]), "rank")
        # All of the scale goes to the right, so that the left factor has orthonormal columns and the next
        # cut is the nearest one to the weights themselves.
        left, right = left[:, :, :rank], values[:, :rank, None] * right[:, :rank]
        factors.append(left.transpose(0, 2, 1).reshape(groups, rank, inputs, taps))
        dense = right.reshape(groups, rank, outputs, *rest).swapaxes(1, 2)
    factors.append(dense)
    return _of_equal_norm(factors)


def _of_equal_norm(factors: list[FloatArray]) -> list[FloatArray]:
    norms = [float(np.linalg.norm(factor)) for factor in factors]
    if 0.0 in norms:
        return factors
    mean = float(np.exp(np.mean(np.log(norms))))
    return [factor * (mean / norm) for factor, norm in zip(factors, norms, strict=True)]


def _grouped(conv: Any) -> FloatArray:
    """Return the weights as (groups, out, in, taps), or (groups, out, in, tap): one axis has taps."""
    weight: FloatArray = conv.weight.detach().cpu().double().numpy()
    return weight.reshape(conv.groups, -1, weight.shape[1], weight[0, 0].size)
