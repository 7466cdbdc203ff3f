"""``separable::depthwise_separable``: a torch operator over the compiled core, and its plain equal.

The operator has shape inference and derivatives, so that autograd, ``torch.compile`` and fake tensors know
it. Tensors reach the core through their memory, without a copy where the channels are the innermost axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from ..._base.types import Array
from ...conv.algebra import geometry
from ...conv.algebra.terms import depthwise_first
from .activations import FUNCTIONS
from .packed import Options, PairWeights, packed_convs

Gradients: TypeAlias = tuple[Tensor, ...]  # by x, depthwise, pointwise, depthwise_bias, bias

_DTYPES: Final = (torch.float32, torch.float64)
# What carries plain memory; other subclasses (fake, distributed, quantized tensors) have their own convs.
_PLAIN: Final = (Tensor, torch.nn.Parameter)
_CONVS: Final[tuple[Callable[..., Tensor], ...]] = (F.conv1d, F.conv2d, F.conv3d)


def runs_fused(x: Tensor) -> bool:
    """Return whether the fused operator takes this input, here and now.

    It does not on other devices and dtypes, under autocast, while a graph is exported or traced (that holds
    plain convolutions, which every runtime knows), and under the transforms of torch.func.
    """
    if not (type(x) in _PLAIN and x.device.type == "cpu" and x.dtype in _DTYPES):
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return False
    return torch.compiler.is_compiling() or not _is_transformed()


def are_like(x: Tensor, *tensors: Tensor | None) -> bool:
    """Return whether the tensors are plain ones of the dtype and the device of `x`."""
    return all(
        t is None or (type(t) in _PLAIN and t.dtype == x.dtype and t.device == x.device) for t in tensors
    )


def _is_transformed() -> bool:
    functorch = torch._C._functorch
    forward_mode = forward_ad._current_level >= 0
    traced = torch._C._get_tracing_state() is not None
    return forward_mode or traced or functorch.peek_interpreter_stack() is not None


def separable_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    options: Options,
) -> Tensor:
    """Run arguments that are known to fit, fused where that is possible."""
    tensors = (x, depthwise, pointwise, depthwise_bias, bias, residual)
    run = fused_conv if runs_fused(x) and are_like(*tensors) else _two_convs
    return run(*tensors, options)


def fused_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    options: Options,
) -> Tensor:
    """Run the operator on arguments that it takes, the last activation where autograd has it cheapest."""
    last = _last_activation(options)
    tensors = (x, depthwise, pointwise, depthwise_bias, bias, residual)
    if last is None or not _needs_grad(tensors) or (_clamps_last(options) and residual is None):
        return _call(*tensors, options)
    # Autograd differentiates the last activation from the operator's result, which is kept anyway; inside
    # the operator it would have to be computed again.
    y = FUNCTIONS[last](_call(*tensors[:-1], None, _without_last(options)))
    return y if residual is None else y + residual


def _needs_grad(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _last_activation(options: Options) -> str | None:
    return options.activation if depthwise_first(options.order) else options.depthwise_activation


def _clamps_last(options: Options) -> bool:
    """Return whether the derivative of the last activation is known from the operator's result."""
    return depthwise_first(options.order) and options.activation in ("relu", "relu6")


def _without_last(options: Options) -> Options:
    if depthwise_first(options.order):
        return options._replace(activation=None)
    return options._replace(depthwise_activation=None)


# --- two plain convolutions -------------------------------------------------------------------------


def _two_convs(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    options: Options,
) -> Tensor:
    """Do the work of the operator with torch's convolutions."""
    conv = _CONVS[x.dim() - 3]
    mix = pointwise.reshape(pointwise.shape[:2] + (1,) * (x.dim() - 2))
    activation, between = options.activation, options.depthwise_activation

    def spread(y: Tensor) -> Tensor:
        groups = x.shape[1] if depthwise_first(options.order) else depthwise.shape[0]
        y, padding = _padded(y, options)
        y = conv(y, depthwise, depthwise_bias, options.stride, padding, options.dilation, groups)
        return y if between is None else FUNCTIONS[between](y)

    def mixed(y: Tensor) -> Tensor:
        y = conv(y, mix, bias)
        return y if activation is None else FUNCTIONS[activation](y)

    y = mixed(spread(x)) if depthwise_first(options.order) else spread(mixed(x))
    return y if residual is None else y + residual


def _padded(x: Tensor, options: Options) -> tuple[Tensor, tuple[int, ...]]:
    """Return `x` with the padding that torch's conv cannot do itself, and the padding left to do."""
    if options.padding_mode == "zeros" and all(before == after for before, after in options.padding):
        return x, tuple(before for before, _ in options.padding)
    sides = [samples for pair in reversed(options.padding) for samples in pair]
    mode = "constant" if options.padding_mode == "zeros" else options.padding_mode
    return F.pad(x, sides, mode=mode), (0,) * len(options.padding)


# --- the operator -------------------------------------------------------------------------------------

_TENSORS: Final = "Tensor x, Tensor depthwise, Tensor pointwise, Tensor? depthwise_bias, Tensor? bias"
_NUMBERS: Final = "int[] stride, int[] padding, int[] dilation, str padding_mode, str order"

_library: Final = torch.library.Library("separable", "DEF")  # type: ignore[no-untyped-call]
_TAGS: Final = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
_library.define(  # type: ignore[no-untyped-call]
    f"depthwise_separable({_TENSORS}, Tensor? residual, {_NUMBERS}, str? depthwise_activation, "
    "str? activation) -> Tensor",
    tags=_TAGS,
)
# The derivatives by x, depthwise, pointwise, depthwise_bias and bias, of an operator without last activation,
# or with one that clamps and whose result is `output`; empty where nobody needs them.
_library.define(  # type: ignore[no-untyped-call]
    f"depthwise_separable_backward(Tensor grad, Tensor? output, {_TENSORS}, {_NUMBERS}, "
    "str? depthwise_activation, str? activation, bool needs_x, bool needs_weights) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_TAGS,
)


def _call(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    options: Options,
) -> Tensor:
    y: Tensor = torch.ops.separable.depthwise_separable.default(
        x, depthwise, pointwise, depthwise_bias, bias, residual, *_numbers(options)
    )
    return y


def _numbers(options: Options) -> tuple[Any, ...]:
    """Return the operator's arguments after the tensors: `_options` the other way round."""
    sides = [samples for pair in options.padding for samples in pair]
    return (
        options.stride,
        sides,
        options.dilation,
        options.padding_mode,
        options.order,
        options.depthwise_activation,
        options.activation,
    )


def _options(
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    padding_mode: str,
    order: str,
    depthwise_activation: str | None,
    activation: str | None,
) -> Options:
    pairs = tuple(zip(padding[::2], padding[1::2], strict=True))
    steps, spread = tuple(stride), tuple(dilation)
    return Options(order, steps, pairs, spread, padding_mode, depthwise_activation, activation)


def _is_channels_last(x: Tensor) -> bool:
    """Return whether the strides grow from the channels over the spatial axes to the batch.

    torch decides by the same rule (c10/core/MemoryFormat.h) which format a convolution's result takes; here
    it holds for one spatial axis as well.
    """
    sizes, strides = x.shape, x.stride()
    least = 0
    for axis in (1, *range(x.dim() - 1, 1, -1), 0):
        if sizes[axis] == 0 or strides[axis] < least or strides[1] == 0:
            return False
        if axis == 0 and least == strides[1]:  # one pixel, or strides that say nothing
            return False
        least = strides[axis] * max(sizes[axis], 1)
    return True


def _channels_inside(x: Tensor) -> Tensor:
    """Return (N, *spatial, C), the channels contiguous: a view where the memory allows it."""
    inside = x.detach().movedim(1, -1)
    return inside if inside.stride(-1) == 1 or inside.shape[-1] == 1 else inside.contiguous()


def _outside(y: Tensor, like: Tensor) -> Tensor:
    """Return (N, *spatial, C) as (N, C, *spatial), in the memory format of `like`."""
    moved = y.movedim(-1, 1)
    return moved if _is_channels_last(like) else moved.contiguous()


def _outside_array(y: Array, like: Tensor) -> Tensor:
    """Return an array as :func:`_outside` would, and no view, which autograd lets nobody write to."""
    moved = torch.from_numpy(np.moveaxis(y, -1, 1))
    return moved if _is_channels_last(like) else moved.contiguous()


def _array(tensor: Tensor | None) -> Array | None:
    return None if tensor is None else tensor.detach().numpy()


def _weights(
    depthwise: Tensor, pointwise: Tensor, depthwise_bias: Tensor | None, bias: Tensor | None
) -> PairWeights:
    return PairWeights(
        depthwise.detach().numpy(), pointwise.detach().numpy(), _array(depthwise_bias), _array(bias)
    )


def _forward_cpu(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    *numbers: Any,
) -> Tensor:
    op = packed_convs.get(_weights(depthwise, pointwise, depthwise_bias, bias), _options(*numbers))
    inside = _channels_inside(x).numpy()
    shape = op.output_shape(inside.shape)
    if 0 in shape:
        return _outside_array(np.empty(shape, inside.dtype), x)
    added = None if residual is None else _channels_inside(residual).numpy()
    # The core's arrays lie on huge pages where they are large: a fresh result costs a fraction of the page
    # faults that torch.empty's does (half of the time of a convolution with 13 MB of output, measured).
    return _outside_array(op(inside, residual=added, threads=torch.get_num_threads()), x)


def _forward_fake(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    *numbers: Any,
) -> Tensor:
    options = _options(*numbers)
    spans = geometry.reach(depthwise.shape[2:], options.dilation)
    sizes = [
        (before + n + after - span) // step + 1
        for n, span, step, (before, after) in zip(
            x.shape[2:], spans, options.stride, options.padding, strict=True
        )
    ]
    outputs = pointwise.shape[0] if depthwise_first(options.order) else depthwise.shape[0]
    return _outside(x.new_empty((x.shape[0], *sizes, outputs)), x)


def _backward_cpu(
    grad: Tensor,
    output: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    *numbers: Any,
) -> Gradients:
    *rest, needs_x, needs_weights = numbers
    tensors = (depthwise, pointwise, depthwise_bias, bias)
    if not grad.numel():
        x_grad, *others = _backward_fake(grad, output, x, *tensors, *numbers)
        return x_grad.zero_(), *(other.zero_() for other in others)
    weights, options = _weights(*tensors), _options(*rest)
    gradients = packed_convs.get(weights, options).gradients(
        _channels_inside(x).numpy(),
        _channels_inside(grad).numpy(),
        output=None if output is None else _channels_inside(output).numpy(),
        needs_x=needs_x,
        needs_weights=needs_weights,
        threads=torch.get_num_threads(),
    )
    if needs_weights:
        # An optimizer's step follows: the packed weights of before would only fill the memory.
        packed_convs.drop(weights, options)
    nothing = [x.new_empty(0) for _ in gradients]
    return (
        nothing[0] if gradients.x is None else _outside_array(gradients.x, x),
        *(
            empty if array is None or tensor is None else torch.from_numpy(array).reshape(tensor.shape)
            for empty, array, tensor in zip(nothing[1:], gradients[1:], tensors, strict=True)
        ),
    )


def _backward_fake(
    grad: Tensor,
    output: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    depthwise_bias: Tensor | None,
    bias: Tensor | None,
    *numbers: Any,
) -> Gradients:
    *_, needs_x, needs_weights = numbers
    inside = (x.shape[0], *x.shape[2:], x.shape[1])
    return (
        _outside(x.new_empty(inside), x) if needs_x else x.new_empty(0),
        *(
            x.new_empty(0 if tensor is None or not needs_weights else tensor.shape)
            for tensor in (depthwise, pointwise, depthwise_bias, bias)
        ),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, depthwise, pointwise, depthwise_bias, bias, residual, *numbers = inputs
    kept = output if _clamps_last(_options(*numbers)) and residual is None else None
    ctx.save_for_backward(x, depthwise, pointwise, depthwise_bias, bias, kept)
    ctx.numbers = numbers


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, output = ctx.saved_tensors
    options = _options(*ctx.numbers)
    wanted = ctx.needs_input_grad[:5]
    gradients_of_all: Sequence[Tensor | None] = (None,) * 5
    if torch.is_grad_enabled() or (_last_activation(options) is not None and output is None):
        gradients_of_all = _differentiable_gradients(grad, tensors, wanted, options)
    elif any(wanted):
        gradients_of_all = torch.ops.separable.depthwise_separable_backward.default(
            grad, output, *tensors, *ctx.numbers, wanted[0], any(wanted[1:])
        )
    gradients = [g if want else None for g, want in zip(gradients_of_all, wanted, strict=True)]
    return *gradients, grad if ctx.needs_input_grad[5] else None, *(None,) * len(ctx.numbers)


def _differentiable_gradients(
    grad: Tensor, tensors: Sequence[Tensor | None], wanted: Sequence[bool], options: Options
) -> list[Tensor | None]:
    """Return the derivatives as torch's convolutions give them, which can be differentiated again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that a tensor given twice has two derivatives.
        x, depthwise, pointwise, depthwise_bias, bias = views = [
            None if tensor is None else tensor.view_as(tensor) for tensor in tensors
        ]
        assert x is not None
        assert depthwise is not None
        assert pointwise is not None
        y = _two_convs(x, depthwise, pointwise, depthwise_bias, bias, None, options)
        asked = [view for view, want in zip(views, wanted, strict=True) if want and view is not None]
        got = iter(torch.autograd.grad(y, asked, grad, create_graph=again) if asked else ())
    return [next(got) if want else None for want in wanted]


def _flops(
    x_shape: Sequence[int],
    depthwise_shape: Sequence[int],
    pointwise_shape: Sequence[int],
    *arguments: Any,
    out_shape: Sequence[int],
    **_: Any,
) -> int:
    """Count as torch's FlopCounterMode counts the two convs: two FLOPs per multiply-accumulate."""
    order = arguments[7]
    after = out_shape[0] * math.prod(out_shape[2:])
    before = x_shape[0] * math.prod(x_shape[2:])
    mixing = math.prod(pointwise_shape) * (after if depthwise_first(order) else before)
    return 2 * (math.prod(depthwise_shape) * after + mixing)


def _backward_flops(
    grad_shape: Sequence[int], output_shape: object, *shapes: Any, out_shape: object, **_: Any
) -> int:
    """Count the derivatives by input and weights, each as much as the way there."""
    x, depthwise, pointwise, depthwise_bias, bias, *numbers, needs_x, needs_weights = shapes
    # The second convolution always hands a gradient to the first.
    there = _flops(x, depthwise, pointwise, depthwise_bias, bias, None, *numbers, out_shape=grad_shape)
    return there * (int(needs_x) + int(needs_weights))


_library.impl("depthwise_separable", _forward_cpu, "CPU")  # type: ignore[no-untyped-call]
_library.impl("depthwise_separable_backward", _backward_cpu, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("separable::depthwise_separable", _forward_fake, lib=_library)
torch.library.register_fake("separable::depthwise_separable_backward", _backward_fake, lib=_library)
torch.library.register_autograd(
    "separable::depthwise_separable", _differentiate, setup_context=_remember, lib=_library
)
register_flop_formula(torch.ops.separable.depthwise_separable)(_flops)
register_flop_formula(torch.ops.separable.depthwise_separable_backward)(_backward_flops)
