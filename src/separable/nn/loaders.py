"""Layers from the weights and modules of others: Keras arrays, timm modules, nn.Sequential."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from .._base.types import Array
from ..conv.algebra.geometry import per_axis
from ..conv.algebra.terms import depthwise_first
from .layers.activations import Activation, known_name
from .layers.between import Device, is_plain
from .layers.modules import DepthwiseSeparableConv1d, DepthwiseSeparableConv2d, DepthwiseSeparableConv3d
from .layers.pair import Size, name_of, padding_pairs
from .layers.separable import SeparableConv

__all__ = ["depthwise_from_keras", "from_sequential", "from_timm", "separable_from_keras"]


_LAYERS: Final = (DepthwiseSeparableConv1d, DepthwiseSeparableConv2d, DepthwiseSeparableConv3d)
_CONVS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS: Final = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

# Relative distance, in units of rounding, at which two computations count as different. They run the same
# kernels in the same order, so that they rarely differ at all.
_DIFFERENT: Final = 8.0


def separable_from_keras(
    weights: Sequence[npt.ArrayLike],
    *,
    stride: Size = 1,
    padding: str | Size = "valid",
    dilation: Size = 1,
    activation: Activation = None,
    device: Device = None,
) -> SeparableConv:
    """Return the layer with the weights of a Keras SeparableConv1D or SeparableConv2D.

    Parameters
    ----------
    weights : sequence of array_like
        What ``layer.get_weights()`` returns: the depthwise kernel ``(*k, C_in, M)``, the pointwise kernel
        ``(1, ..., C_in*M, C_out)`` with channel ``c*M + m``, and, with ``use_bias``, a bias ``(C_out,)``.
    stride, padding, dilation : optional
        The layer's ``strides``, ``padding`` and ``dilation_rate``; `padding` may be given in samples too.
    activation : str, module, module class or callable, optional
        The layer's activation, which Keras applies last.
    device : optional
        As in torch.

    Returns
    -------
    DepthwiseSeparableConv1d or DepthwiseSeparableConv2d
        In the dtype of the arrays. It takes channels first: pass ``x.permute(0, 3, 1, 2)``, which has the
        memory of Keras' images and costs no copy.

    Raises
    ------
    ValueError
        If shapes do not fit, or `padding` is "same" with a stride: Keras then pads by the image's size,
        as ``nn.functional.depthwise_separable(..., padding="same")`` does.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.nn import separable_from_keras
    >>> layer = separable_from_keras([np.ones((3, 3, 8, 2)), np.ones((1, 1, 16, 4)), np.zeros(4)])
    >>> layer.depth_multiplier, tuple(layer.conv_pw.weight.shape)
    (2, (4, 16, 1, 1))
    """
    depthwise, pointwise, bias = _keras_arrays(weights, 2)
    assert pointwise is not None
    ndim = depthwise.ndim - 2
    inputs, multiplier = depthwise.shape[-2:]
    if pointwise.ndim != depthwise.ndim or pointwise.shape[:-1] != (*(1,) * ndim, inputs * multiplier):
        raise ValueError(
            f"`weights[1]` has shape {pointwise.shape}; expected {(*(1,) * ndim, inputs * multiplier)} and "
            f"C_out at the end, for the depthwise kernel {depthwise.shape}."
        )
    layer = _LAYERS[ndim - 1](
        inputs,
        pointwise.shape[-1],
        depthwise.shape[:-2],
        stride,
        _keras_padding(padding, stride, ndim),
        dilation,
        bias=bias is not None,
        device=device,
        dtype=torch.from_numpy(depthwise).dtype,
        depth_multiplier=multiplier,
        output_activation=activation,
    )
    # (*k, C_in, M) -> (C_in, M, *k), rows c*M + m; (1..., R, C_out) -> (C_out, R, 1...).
    _copy_into(layer.conv_dw.weight, np.moveaxis(depthwise, (-2, -1), (0, 1)))
    _copy_into(layer.conv_pw.weight, np.moveaxis(pointwise, (-1, -2), (0, 1)))
    if bias is not None:
        _copy_into(layer.conv_pw.bias, bias)
    return layer


def depthwise_from_keras(
    weights: Sequence[npt.ArrayLike],
    *,
    stride: Size = 1,
    padding: str | Size = "valid",
    dilation: Size = 1,
    device: Device = None,
) -> nn.Module:
    """Return the torch convolution with the weights of a Keras DepthwiseConv1D or DepthwiseConv2D.

    Parameters
    ----------
    weights : sequence of array_like
        What ``layer.get_weights()`` returns: the kernel ``(*k, C_in, M)`` and, with ``use_bias``, a bias
        ``(C_in*M,)``.
    stride, padding, dilation, device : optional
        As in `separable_from_keras`.

    Returns
    -------
    nn.Conv1d or nn.Conv2d
        With ``C_in*M`` output channels, channel ``c*M + m``, and C_in groups.

    Raises
    ------
    ValueError
        As `separable_from_keras`.

    Examples
    --------
    >>> import numpy as np
    >>> from separable.nn import depthwise_from_keras
    >>> kernel, bias = np.ones((3, 3, 8, 1), np.float32), np.zeros(8, np.float32)
    >>> conv = depthwise_from_keras([kernel, bias], padding="same")
    >>> conv.groups, tuple(conv.weight.shape)
    (8, (8, 1, 3, 3))
    """
    depthwise, _, bias = _keras_arrays(weights, 1)
    ndim = depthwise.ndim - 2
    inputs, multiplier = depthwise.shape[-2:]
    conv: Any = _CONVS[ndim - 1](
        inputs,
        inputs * multiplier,
        depthwise.shape[:-2],
        stride,  # type: ignore[arg-type]  # any sequence will do
        _keras_padding(padding, stride, ndim),  # type: ignore[arg-type]
        dilation,  # type: ignore[arg-type]
        groups=inputs,
        bias=bias is not None,
        device=device,
        dtype=torch.from_numpy(depthwise).dtype,
    )
    _copy_into(conv.weight, np.moveaxis(depthwise, (-2, -1), (0, 1)))
    if bias is not None:
        _copy_into(conv.bias, bias)
    done: nn.Module = conv
    return done


def from_sequential(module: nn.Module) -> SeparableConv:
    """Return one layer that does the work of a depthwise and a pointwise convolution in sequence.

    Parameters
    ----------
    module : nn.Module
        Such as ``nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16,
        1))``: two convolutions, in either order, a norm and an activation after each of them or not. It
        may be nested; its parts run in the order in which they are registered.

    Returns
    -------
    DepthwiseSeparableConv1d, 2d or 3d
        With copies of the parameters, in the mode (train or eval) of `module`.

    Raises
    ------
    TypeError
        If a part is none of those.
    ValueError
        If the convolutions are no depthwise and pointwise pair, or the module, run on random numbers,
        does something else than its parts in sequence.

    Examples
    --------
    >>> from torch import nn
    >>> from separable.nn import from_sequential
    >>> pair = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 16, 1))
    >>> from_sequential(pair).out_channels
    16
    """
    return _from_parts(module, residual=False)


def from_timm(module: nn.Module) -> SeparableConv:
    """Return one layer that does the work of a depthwise separable module of timm.

    It goes by the parts, not by the class: SeparableConv2d, SeparableConvNormAct, DepthwiseSeparableConv
    (of EfficientNets and MobileNets) and what is built like them. timm itself is not needed.

    Parameters
    ----------
    module : nn.Module
        With a skip connection (``has_skip``) the layer adds its input (``residual=True``).

    Returns
    -------
    DepthwiseSeparableConv1d, 2d or 3d
        With copies of the parameters, in the mode (train or eval) of `module`.

    Raises
    ------
    TypeError
        If the module holds something else as well: squeeze-and-excitation, anti-aliasing, drop path, or
        a convolution that pads by the size of its input.
    ValueError
        As `from_sequential`.

    Examples
    --------
    >>> import torch
    >>> from separable.nn import from_timm
    >>> class SeparableConv2d(torch.nn.Module):  # as in timm, which is not needed here
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv_dw = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    ...         self.conv_pw = torch.nn.Conv2d(8, 16, 1, bias=False)
    ...     def forward(self, x):
    ...         return self.conv_pw(self.conv_dw(x))
    >>> theirs = SeparableConv2d()
    >>> ours, x = from_timm(theirs), torch.randn(1, 8, 20, 20)
    >>> bool(torch.allclose(ours(x), theirs(x), atol=1e-5))
    True
    """
    return _from_parts(module, residual=bool(getattr(module, "has_skip", False)))


# --- Keras -------------------------------------------------------------------------------------------


def _keras_arrays(weights: Sequence[npt.ArrayLike], kernels: int) -> tuple[Array, Array | None, Array | None]:
    arrays = [np.asarray(array) for array in weights]
    if len(arrays) not in (kernels, kernels + 1):
        raise ValueError(
            f"`weights` holds {len(arrays)} arrays; expected {kernels}, or {kernels + 1} with a bias, as "
            "layer.get_weights() returns them."
        )
    depthwise = arrays[0]
    if not 3 <= depthwise.ndim <= 5:
        raise ValueError(f"`weights[0]` has shape {depthwise.shape}; expected (*k, C_in, M).")
    bias = arrays[kernels] if len(arrays) > kernels else None
    pointwise = arrays[1] if kernels == 2 else None
    outputs = depthwise.shape[-2] * depthwise.shape[-1] if pointwise is None else pointwise.shape[-1]
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"`weights[{kernels}]`, the bias, has shape {bias.shape}; expected ({outputs},).")
    return depthwise, pointwise, bias


def _keras_padding(padding: str | Size, stride: Size, ndim: int) -> str | tuple[int, ...]:
    if not isinstance(padding, str):
        return per_axis(padding, ndim, "padding", 0)
    if padding == "same" and any(step > 1 for step in per_axis(stride, ndim, "stride")):
        raise ValueError(
            f"`padding='same'` with stride={stride}: Keras pads by the size of the input, and a torch layer "
            "always alike. Pass the samples of padding, or call nn.functional.depthwise_separable."
        )
    return padding


def _copy_into(parameter: Any, array: Array) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(parameter.shape))


# --- modules -----------------------------------------------------------------------------------------


def _from_parts(module: nn.Module, residual: bool) -> SeparableConv:
    if not isinstance(module, nn.Module):
        raise TypeError(f"`module` is {type(module).__name__}; expected a torch.nn.Module.")
    first, second = _stages(module)
    order = _order_of(first[0], second[0])
    depthwise, pointwise = (first[0], second[0]) if depthwise_first(order) else (second[0], first[0])
    kind = _LAYERS[len(depthwise.kernel_size) - 1]
    layer = kind.__new__(kind)._assemble(
        copy.deepcopy(depthwise),
        copy.deepcopy(pointwise),
        order=order,
        norm=copy.deepcopy(first[1]),
        activation=copy.deepcopy(first[2]),
        output_norm=copy.deepcopy(second[1]),
        output_activation=copy.deepcopy(second[2]),
        residual=residual,
    )
    layer.train(module.training)
    _check_same(module, layer)
    return layer


def _stages(module: nn.Module) -> list[tuple[Any, nn.Module | None, nn.Module | None]]:
    """Return (convolution, norm, activation) twice."""
    stages: list[list[Any]] = []
    for part in _parts(module):
        place = 0 if isinstance(part, _ConvNd) else 1 if isinstance(part, _NORMS) else 2
        if place == 0:
            stages.append([part, None, None])
        elif not stages:
            raise ValueError(f"`module` begins with {name_of(part)}; expected a convolution.")
        elif any(stages[-1][slot] is not None for slot in range(place, 3)):
            raise ValueError(
                f"{name_of(part)} follows {name_of(stages[-1][2] or stages[-1][1])}; expected at most one "
                "norm, and then one activation, after each convolution."
            )
        else:
            stages[-1][place] = part
    if len(stages) != 2:
        raise ValueError(
            f"`module` holds {len(stages)} convolutions; expected a depthwise and a pointwise one."
        )
    return [(conv, norm, activation) for conv, norm, activation in stages]


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the convolutions, norms and activations inside, in the order of their registration."""
    if isinstance(module, nn.Identity):
        return
    if isinstance(module, _ConvNd):
        if not any(is_plain(module, kind) for kind in _CONVS):
            raise TypeError(
                f"{name_of(module)} does not convolve as torch's own layers do (a padding that depends on "
                "the input's size, say); replace it by nn.Conv1d, 2d or 3d."
            )
        yield module
    elif isinstance(module, _BatchNorm) and hasattr(module, "act"):  # timm's norm and activation in one
        yield _batch_norm(module)
        for name in ("drop", "act"):
            yield from _parts(getattr(module, name, nn.Identity()))
    elif isinstance(module, _NORMS) or "activation" in type(module).__module__ or known_name(module)[0]:
        yield module
    else:
        parts = list(module.children())
        if not parts or module._parameters or module._buffers:
            raise TypeError(
                f"`module` holds {name_of(module)}, which no separable layer has; expected convolutions, "
                "norms and activations. Replace it by nn.Identity() where it does nothing."
            )
        for part in parts:
            yield from _parts(part)


def _batch_norm(module: Any) -> nn.Module:
    kind = next(kind for kind in _BATCH_NORMS if isinstance(module, kind))
    plain = kind(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
    held: dict[str, Any] = {**module._parameters, **module._buffers}
    for name, tensor in held.items():
        setattr(plain, name, tensor)
    return plain.train(module.training)


def _order_of(first: Any, second: Any) -> str:
    if first.groups == first.in_channels and _is_pointwise(second):
        return "dw-pw"
    if _is_pointwise(first) and second.groups == second.out_channels:
        return "pw-dw"
    raise ValueError(
        f"{first} and {second} are no depthwise and pointwise pair; expected one with a group for each "
        "channel, and one with a 1x1 kernel, stride 1 and no padding."
    )


def _is_pointwise(conv: Any) -> bool:
    ones = all(k == 1 for k in conv.kernel_size) and all(s == 1 for s in conv.stride)
    return ones and not any(side for pair in padding_pairs(conv) for side in pair)


def _check_same(module: nn.Module, layer: SeparableConv) -> None:
    """Run both on random numbers: a forward of its own may do more than the parts tell."""
    like = layer.conv_dw.weight
    if like.is_meta:
        return
    spans = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    sizes = [(k - 1) * d + 1 + 4 * s for k, d, s in spans]
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(2, layer.in_channels, *sizes, generator=numbers).to(like)
    with torch.no_grad():
        want = copy.deepcopy(module).eval()(x.clone())
        got = copy.deepcopy(layer).eval()._in_sequence(x)
    if want.shape != got.shape or _differ(want, got):
        raise ValueError(
            f"{name_of(module)} does something else than its convolutions, norms and activations in "
            "sequence; build the layer by hand."
        )


def _differ(want: torch.Tensor, got: torch.Tensor) -> bool:
    distance, norm = float((want.double() - got.double()).norm()), float(want.double().norm())
    return distance > _DIFFERENT * torch.finfo(want.dtype).eps * norm
