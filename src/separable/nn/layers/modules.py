"""Separable convolution layers, drop-in replacements for torch's dense ones."""

from __future__ import annotations

from torch import nn

from .separable import SeparableConv, SeparableConvTranspose
from .spatial import SpatialConv

__all__ = [
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DepthwiseSeparableConv3d",
    "DepthwiseSeparableConvTranspose1d",
    "DepthwiseSeparableConvTranspose2d",
    "DepthwiseSeparableConvTranspose3d",
    "SpatiallySeparableConv2d",
    "SpatiallySeparableConv3d",
]


class DepthwiseSeparableConv2d(SeparableConv):
    """A depthwise and a pointwise convolution of images, as one layer that replaces nn.Conv2d.

    On the CPU in float32 and float64 both run as one fused operator, together with the norms (in eval
    mode) and activations around them; elsewhere as torch's convolutions. The numbers are the same.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Taps of the depthwise convolution.
    stride, dilation : int or (int, int), optional
        Of the depthwise convolution.
    padding : int, (int, int), "same" or "valid", optional
        Of the depthwise convolution's input.
    groups : int, optional
        Groups of the *pointwise* convolution. The depthwise one is grouped by nature; `groups` here means
        what it means for the dense convolution that the layer stands for: each group of outputs sees its
        group of inputs only.
    bias : bool, optional
        A bias for the last of the two convolutions; for the first one too where an activation, and no
        norm, follows it.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, optional
    device, dtype : optional
        As in torch.
    depth_multiplier : int, optional
        Spatial filters T for each input channel ("dw-pw") or output channel ("pw-dw"): the rank of what
        the layer can represent.
    order : {"dw-pw", "pw-dw"}, optional
        Which convolution comes first.
    norm, output_norm : callable, optional
        Make a module from a number of channels, such as ``torch.nn.BatchNorm2d``: applied between the
        convolutions and after them.
    activation, output_activation : str, module, module class or callable, optional
        Applied between the convolutions (after `norm`) and after them (after `output_norm`). Names:
        "relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh".
    residual : bool, optional
        Add the input to the output, last of all.

    Attributes
    ----------
    conv_dw, conv_pw : nn.Conv2d
        ``conv_dw.weight`` has shape ``(C_in*T, 1, *k)`` ("dw-pw", channel ``c*T + t``) or ``(C_out, T, *k)``
        ("pw-dw"); ``conv_pw.weight`` has shape ``(C_out, C_in*T/groups, 1, 1)`` or
        ``(C_out*T, C_in/groups, 1, 1)``.
    norm, activation, output_norm, output_activation : nn.Module, callable or None

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    *Initial weights* keep the second moment of the signal through each convolution and the activation that
    follows it, so that ``E[y^2] = E[x^2]`` through the pair: uniform with variance ``gain^2 / fan``, where
    fan counts the products in one sum (taps for the depthwise convolution in "dw-pw", T * taps in "pw-dw",
    input channels of a group for the pointwise one) and gain belongs to the activation [1]_. torch's own
    default has a third of that variance in each convolution, a ninth in two.

    *An inverted residual's half, or a MobileNet block*: ``DepthwiseSeparableConv2d(32, 64, 3, padding=1,
    bias=False, norm=nn.BatchNorm2d, activation="relu", output_norm=nn.BatchNorm2d,
    output_activation="relu")``.

    Hooks on the inner modules are honoured: with one registered, the layer runs its modules one by one.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, arXiv:1502.01852, 2015.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConv2d
    >>> dense = torch.nn.Conv2d(8, 16, 3, padding=1)
    >>> exact = DepthwiseSeparableConv2d.from_dense(dense)
    >>> exact.depth_multiplier
    9
    >>> x = torch.randn(1, 8, 20, 20)
    >>> bool(torch.allclose(exact(x), dense(x), atol=1e-5))
    True
    """

    _pointwise = nn.Conv2d
    _depthwise = nn.Conv2d


class DepthwiseSeparableConv1d(SeparableConv):
    """A depthwise and a pointwise convolution of signals; everything as in `DepthwiseSeparableConv2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConv1d
    >>> layer = DepthwiseSeparableConv1d(8, 16, 9, padding="same", activation="relu")
    >>> layer(torch.randn(1, 8, 1000)).shape
    torch.Size([1, 16, 1000])
    >>> sum(weights.numel() for weights in (layer.conv_dw.weight, layer.conv_pw.weight)), 8 * 16 * 9
    (200, 1152)
    """

    _pointwise = nn.Conv1d
    _depthwise = nn.Conv1d


class DepthwiseSeparableConv3d(SeparableConv):
    """A depthwise and a pointwise convolution of volumes; everything as in `DepthwiseSeparableConv2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConv3d
    >>> layer = DepthwiseSeparableConv3d(4, 8, 3, padding=1)
    >>> layer(torch.randn(1, 4, 10, 12, 14)).shape
    torch.Size([1, 8, 10, 12, 14])
    """

    _pointwise = nn.Conv3d
    _depthwise = nn.Conv3d


class DepthwiseSeparableConvTranspose2d(SeparableConvTranspose):
    """A depthwise transposed and a pointwise convolution, as one layer that replaces nn.ConvTranspose2d.

    The arguments are nn.ConvTranspose2d's in its order, and those of `DepthwiseSeparableConv2d` after
    them. It runs as torch's convolutions.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Taps of the depthwise transposed convolution.
    stride, padding, output_padding, dilation : int or (int, int), optional
        Of the depthwise transposed convolution.
    groups : int, optional
        Groups of the pointwise convolution, which are those of the dense one that the layer stands for.
    bias, padding_mode, device, dtype : optional
        As in torch; the bias as in `DepthwiseSeparableConv2d`.
    depth_multiplier, order, norm, activation, output_norm, output_activation : optional
        As in `DepthwiseSeparableConv2d`.

    Attributes
    ----------
    conv_dw : nn.ConvTranspose2d
        With weights ``(C_in, T, *k)`` ("dw-pw") or ``(C_out*T, 1, *k)`` ("pw-dw").
    conv_pw : nn.Conv2d
    norm, activation, output_norm, output_activation : nn.Module, callable or None

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConvTranspose2d
    >>> dense = torch.nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
    >>> layer = DepthwiseSeparableConvTranspose2d(8, 4, 4, stride=2, padding=1)
    >>> x = torch.randn(1, 8, 10, 12)
    >>> layer(x).shape == dense(x).shape
    True
    """

    _pointwise = nn.Conv2d
    _depthwise = nn.ConvTranspose2d


class DepthwiseSeparableConvTranspose1d(SeparableConvTranspose):
    """The transposed layer for signals; everything as in `DepthwiseSeparableConvTranspose2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConvTranspose1d
    >>> layer = DepthwiseSeparableConvTranspose1d(8, 4, 4, stride=2, padding=1)
    >>> layer(torch.randn(1, 8, 100)).shape
    torch.Size([1, 4, 200])
    """

    _pointwise = nn.Conv1d
    _depthwise = nn.ConvTranspose1d


class DepthwiseSeparableConvTranspose3d(SeparableConvTranspose):
    """The transposed layer for volumes; everything as in `DepthwiseSeparableConvTranspose2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import DepthwiseSeparableConvTranspose3d
    >>> layer = DepthwiseSeparableConvTranspose3d(4, 2, 2, stride=2)
    >>> layer(torch.randn(1, 4, 5, 6, 7)).shape
    torch.Size([1, 2, 10, 12, 14])
    """

    _pointwise = nn.Conv3d
    _depthwise = nn.ConvTranspose3d


class SpatiallySeparableConv2d(SpatialConv):
    """A convolution along the height, then one along the width, as one layer that replaces nn.Conv2d.

    ``k_h*k_w*C_in*C_out`` multiplications per output become ``R*(k_h*C_in + k_w*C_out)`` with R channels
    between. It runs as torch's convolutions.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (int, int)
        Each convolution has those of its axis.
    padding : int, (int, int), "same" or "valid", optional
    groups : int, optional
        Groups of every convolution.
    bias : bool, optional
        A bias for the last convolution; for the others too where an activation, and no norm, follows.
    padding_mode, device, dtype : optional
        As in torch.
    mid_channels : int, optional
        Channels between the convolutions (in 3-D: an int or a pair), by default `out_channels`.
    norm, activation : optional
        Between the convolutions, as in `DepthwiseSeparableConv2d`; each has a norm of its own.
    output_norm, output_activation : optional
        After them.

    Attributes
    ----------
    conv_h, conv_w : nn.Conv2d
        With kernels ``(k_h, 1)`` and ``(1, k_w)``; in 3-D `conv_d` comes before them.
    norm_h, activation, output_norm, output_activation : nn.Module, callable or None

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Initial weights keep the second moment of the signal, as in `DepthwiseSeparableConv2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import SpatiallySeparableConv2d
    >>> dense = torch.nn.Conv2d(4, 6, (5, 3), padding="same")
    >>> layer = SpatiallySeparableConv2d.from_dense(dense)
    >>> layer.mid_channels
    (18,)
    >>> x = torch.randn(1, 4, 20, 20)
    >>> bool(torch.allclose(layer(x), dense(x), atol=1e-5))
    True
    """

    _conv = nn.Conv2d
    _ndim = 2


class SpatiallySeparableConv3d(SpatialConv):
    """Convolutions along depth, height and width; everything as in `SpatiallySeparableConv2d`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import SpatiallySeparableConv3d
    >>> layer = SpatiallySeparableConv3d(1, 1, 5, padding=2, bias=False)
    >>> layer(torch.randn(1, 1, 10, 12, 14)).shape
    torch.Size([1, 1, 10, 12, 14])
    >>> sum(weights.numel() for weights in layer.parameters())  # instead of 125
    15
    """

    _conv = nn.Conv3d
    _ndim = 3
