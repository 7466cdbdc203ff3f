"""A depthwise and a pointwise convolution as one module, in any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from ...conv.algebra.decomposition import decompose
from ...conv.algebra.geometry import Padding, whole
from ...conv.algebra.terms import ORDERS, compose, depthwise_first
from .activations import Activation, module_of
from .between import Device, Function, Norm, applied, initialise, norm_of

if TYPE_CHECKING:
    from typing_extensions import Self

Size: TypeAlias = int | Sequence[int]


class ConvPair(nn.Module):
    """What all depthwise separable layers share: two convolutions, what is between them, dense forms.

    A class for one number of dimensions names torch's `_pointwise` and `_depthwise` convolutions.
    """

    _pointwise: ClassVar[type[nn.Module]]
    _depthwise: ClassVar[type[nn.Module]]

    conv_dw: Any
    conv_pw: Any
    norm: nn.Module | None
    activation: Function | None
    output_norm: nn.Module | None
    output_activation: Function | None

    def _assemble(
        self,
        conv_dw: nn.Module,
        conv_pw: nn.Module,
        *,
        order: str,
        norm: nn.Module | None = None,
        activation: Activation = None,
        output_norm: nn.Module | None = None,
        output_activation: Activation = None,
        residual: bool = False,
    ) -> Self:
        """Take the parts, in the order in which they run: that is how the module prints."""
        super().__init__()
        self.order, self.residual = order, residual
        if depthwise_first(order):
            self.conv_dw = conv_dw
        else:
            self.conv_pw = conv_pw
        self.norm = norm
        self.activation = module_of(activation, "activation")
        if depthwise_first(order):
            self.conv_pw = conv_pw
        else:
            self.conv_dw = conv_dw
        self.output_norm = output_norm
        self.output_activation = module_of(output_activation, "output_activation")
        if residual:
            self._check_residual()
        return self

    def _build(
        self,
        channels: tuple[int, int],
        kernel_size: Size,
        *,
        groups: int,
        bias: bool,
        depth_multiplier: int,
        order: str,
        norm: Norm,
        activation: Activation,
        output_norm: Norm,
        output_activation: Activation,
        device: Device,
        dtype: torch.dtype | None,
        residual: bool = False,
        **depthwise: Any,
    ) -> None:
        """Make the parts; `depthwise` holds what only the depthwise convolution is told."""
        inputs, outputs = channels
        check_channels(groups, in_channels=inputs, out_channels=outputs)
        rank = whole(depth_multiplier, "depth_multiplier")
        if order not in ORDERS:
            raise ValueError(f"`order={order!r}` is unknown; expected 'dw-pw' or 'pw-dw'.")
        middle = rank * (inputs if depthwise_first(order) else outputs)
        # Two biases in a row are one too many, unless a non-linear function keeps them apart.
        early = bias and activation is not None and norm is None
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        dw_first = depthwise_first(order)
        ends = (inputs, middle) if dw_first else (middle, outputs)
        conv_dw = self._depthwise(
            *ends, kernel_size, groups=min(ends), bias=early if dw_first else bias, **depthwise, **where
        )
        ends = (middle, outputs) if dw_first else (inputs, middle)
        conv_pw = self._pointwise(*ends, 1, groups=groups, bias=bias if dw_first else early, **where)
        self._assemble(
            conv_dw,
            conv_pw,
            order=order,
            norm=norm_of(norm, middle, "norm", device, dtype),
            activation=activation,
            output_norm=norm_of(output_norm, outputs, "output_norm", device, dtype),
            output_activation=output_activation,
            residual=residual,
        )
        self.reset_parameters()

    @property
    def in_channels(self) -> int:
        """Number of input channels."""
        return int(self._convs()[0].in_channels)

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return int(self._convs()[1].out_channels)

    @property
    def depth_multiplier(self) -> int:
        """Spatial filters for each input channel ("dw-pw") or output channel ("pw-dw"): the rank."""
        ends = (self.conv_dw.in_channels, self.conv_dw.out_channels)
        return int(max(ends) // min(ends))

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Taps of the depthwise convolution along each spatial axis."""
        return tuple(self.conv_dw.kernel_size)

    @property
    def stride(self) -> tuple[int, ...]:
        """Stride of the depthwise convolution."""
        return tuple(self.conv_dw.stride)

    @property
    def padding(self) -> str | tuple[int, ...]:
        """Padding of the depthwise convolution's input, as it was given."""
        padding: str | tuple[int, ...] = self.conv_dw.padding
        return padding

    @property
    def dilation(self) -> tuple[int, ...]:
        """Dilation of the depthwise convolution."""
        return tuple(self.conv_dw.dilation)

    @property
    def groups(self) -> int:
        """Groups of the pointwise convolution: those of the dense convolution that the layer stands for."""
        return int(self.conv_pw.groups)

    @property
    def padding_mode(self) -> str:
        """Padding mode of the depthwise convolution."""
        return str(self.conv_dw.padding_mode)

    def reset_parameters(self) -> None:
        """Draw new weights that keep the second moment of the signal through the layer; biases are zero."""
        first, second = self._convs()
        initialise(first, None if self.norm is not None else self.activation)
        initialise(second, None if self.output_norm is not None else self.output_activation)

    def extra_repr(self) -> str:
        """Return what the submodules do not tell."""
        return f"order={self.order!r}" + (", residual=True" if self.residual else "")

    def to_dense(self) -> nn.Module:
        """Return the dense convolution that does the same in one step.

        Returns
        -------
        torch.nn.Module
            An nn.ConvNd or nn.ConvTransposeNd with the weights composed in float64.

        Raises
        ------
        ValueError
            If a norm, an activation or the residual makes the layer more than two convolutions, or if
            zero padding follows a bias.
        """
        self._check_dense()
        bias = self._dense_bias()
        conv: Any = self._depthwise(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            groups=self.groups,
            bias=bias is not None,
            device="meta",
            dtype=self.conv_dw.weight.dtype,
            **self._dense_options(),
        )
        conv.to_empty(device=self.conv_dw.weight.device)
        weights = compose(
            self._depthwise_array(),
            array_of(self.conv_pw.weight),
            self.order,
            groups=self.groups,
            **self._rank(),
        )
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(self._swapped(weights)))
            if bias is not None:
                conv.bias.copy_(bias)
        conv.requires_grad_(self.conv_dw.weight.requires_grad)
        dense: nn.Module = conv.train(self.training)
        return dense

    def _fill(self, conv: Any) -> Self:
        """Take the weights nearest to those of a dense convolution, and its bias."""
        depthwise, pointwise, _ = decompose(
            self._swapped(array_of(conv.weight)), self.depth_multiplier, self.order, groups=conv.groups
        )
        self.to_empty(device=conv.weight.device)
        with torch.no_grad():
            self.conv_dw.weight.copy_(torch.from_numpy(depthwise).reshape(self.conv_dw.weight.shape))
            self.conv_pw.weight.copy_(torch.from_numpy(pointwise).reshape(self.conv_pw.weight.shape))
            if conv.bias is not None:
                self._convs()[1].bias.copy_(conv.bias)
        self.requires_grad_(conv.weight.requires_grad)
        if conv.bias is not None:
            self._convs()[1].bias.requires_grad_(conv.bias.requires_grad)
        return self.train(conv.training)

    def _convs(self) -> tuple[Any, Any]:
        pair = self.conv_dw, self.conv_pw
        return pair if depthwise_first(self.order) else pair[::-1]

    def _in_sequence(self, x: Tensor, *depthwise: Any) -> Tensor:
        """Run the modules one after the other; `depthwise` goes to the depthwise convolution."""
        if depthwise_first(self.order):
            y = self.conv_pw(applied(self.conv_dw(x, *depthwise), self.norm, self.activation))
        else:
            y = self.conv_dw(applied(self.conv_pw(x), self.norm, self.activation), *depthwise)
        y = applied(y, self.output_norm, self.output_activation)
        return y + x if self.residual else y

    def _dense_options(self) -> dict[str, Any]:
        conv = self.conv_dw
        names = ("stride", "padding", "dilation", "padding_mode")
        return {name: getattr(conv, name) for name in names}

    def _rank(self) -> dict[str, Any]:
        return {"rank": self.depth_multiplier} if depthwise_first(self.order) else {}

    def _depthwise_array(self) -> Any:
        return array_of(self.conv_dw.weight)

    def _swapped(self, weights: Any) -> Any:
        """Return dense weights with the axes that `decompose` and torch's convolution order otherwise."""
        return weights

    def _check_dense(self) -> None:
        for name in ("norm", "activation", "output_norm", "output_activation"):
            step = getattr(self, name)
            if step is not None and not isinstance(step, nn.Identity):
                raise ValueError(
                    f"`{name}` is {name_of(step)}: the layer is more than two convolutions, and no single "
                    f"one equals it. Set {name} to None to compose the convolutions alone."
                )
        if self.residual:
            raise ValueError("`residual` is True: the layer adds its input, and a convolution does not.")

    def _dense_bias(self) -> Tensor | None:
        first, second = self._convs()
        if first.bias is None:
            return None if second.bias is None else second.bias.detach()
        if depthwise_first(self.order):
            shape = (self.groups, -1, first.out_channels // self.groups)
            mixing = self.conv_pw.weight.detach().double().reshape(shape)
            moved = (mixing @ first.bias.detach().double().reshape(self.groups, -1, 1)).reshape(-1)
        else:
            self._check_bias_meets_no_zeros()
            sums = self.conv_dw.weight.detach().double().flatten(2).sum(2)
            moved = (sums * first.bias.detach().double().reshape(sums.shape)).sum(1)
        total: Tensor = moved if second.bias is None else moved + second.bias.detach().double()
        return total

    def _check_bias_meets_no_zeros(self) -> None:
        if self.padding_mode == "zeros" and any(
            side for pair in padding_pairs(self.conv_dw) for side in pair
        ):
            raise ValueError(
                "conv_pw has a bias, and zero padding follows it: near the border the pair is no single "
                "convolution. Remove the bias (conv_pw.bias = None), or the padding."
            )

    def _check_residual(self) -> None:
        conv = self.conv_dw
        spans = [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        kept = all(sum(pair) == span for pair, span in zip(padding_pairs(conv), spans, strict=True))
        if self.in_channels != self.out_channels or not kept or any(step != 1 for step in conv.stride):
            raise ValueError(
                f"`residual=True` adds the input to the output, but the layer takes {self.in_channels} to "
                f"{self.out_channels} channels with stride {tuple(conv.stride)} and padding {conv.padding}; "
                "it needs equal channels, stride 1 and padding='same'."
            )


def padding_pairs(conv: Any) -> Padding:
    """Return the samples of padding before and after each axis that torch's conv takes."""
    if conv.padding == "valid":
        return ((0, 0),) * len(conv.kernel_size)
    if conv.padding == "same":
        spans = [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    return tuple((samples, samples) for samples in conv.padding)


def full_rank(conv: Any, order: str) -> int:
    """Return the depth multiplier that reproduces any dense convolution of these sizes."""
    channels = conv.out_channels if depthwise_first(order) else conv.in_channels
    return max(1, min(int(channels) // int(conv.groups), int(math.prod(conv.kernel_size))))


def checked_dense(conv: nn.Module, kind: type[nn.Module]) -> Any:
    """Return `conv`, a dense convolution of the kind given whose weights are numbers."""
    if not isinstance(conv, kind):
        raise TypeError(f"`conv` is {name_of(conv)}; expected torch.nn.{kind.__name__}.")
    if conv.weight.is_meta:
        raise ValueError("`conv` is on the device 'meta' and holds no weights; load them first.")
    return conv


def check_channels(groups: int, **counts: int) -> None:
    """Refuse numbers of channels that are no multiples of `groups`."""
    for name, count in counts.items():
        if whole(count, name) % whole(groups, "groups"):
            raise ValueError(
                f"`{name}={count}` is no multiple of groups={groups}; choose groups that divide it."
            )


def array_of(weight: Tensor) -> Any:
    """Return a weight as a float64 array, detached."""
    return weight.detach().cpu().double().numpy()


def name_of(step: object) -> str:
    """Return what a module or function is called in messages."""
    return getattr(step, "__name__", type(step).__name__)
