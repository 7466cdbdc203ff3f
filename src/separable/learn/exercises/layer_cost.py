"""Count a layer."""

from __future__ import annotations

from ...conv import cost
from ..answers import Answers
from ..exercise import Exercise

C_IN, C_OUT, K, SIZE = 64, 128, 3, 56
PIXELS = SIZE * SIZE

_FLOPS = "you counted FLOPs: a multiply-accumulate is one multiplication and one addition, two FLOPs."
_PER_PIXEL = "that is what one pixel takes; the layer gives 56 x 56 of them."


def answers(given: Answers) -> None:
    """Judge parameters and MACs of both forms."""
    dense, pair = cost.standard(C_IN, C_OUT, K).params, cost.depthwise_separable(C_IN, C_OUT, K).params
    given.number(
        "dense_params",
        dense,
        [
            (K * C_IN * C_OUT, "you took 3 weights for a kernel of 3 x 3: it has 9."),
            (K * K * C_IN, "you forgot that every output has its own kernels: 128 times as many."),
            (K * K * C_OUT, "you forgot that every output has a kernel for each of the 64 inputs."),
            (dense + C_OUT, "you counted 128 biases too; this layer has none."),
            (dense * PIXELS, "you counted the multiply-accumulates: weights are shared by all pixels."),
        ],
    )
    given.number(
        "dense_macs",
        dense * PIXELS,
        [
            (2 * dense * PIXELS, _FLOPS),
            (dense, _PER_PIXEL),
            (dense * SIZE, "you took 56 pixels: there are 56 x 56."),
        ],
    )
    _judge_pair(given, dense, pair)
    given.number(
        "times_fewer",
        dense / pair,
        [
            (pair / dense, "that is the ratio of separable to dense; how many times fewer is its inverse."),
            (
                1 - pair / dense,
                "that is the saving as a fraction; how many times fewer is dense over separable.",
            ),
            (K * K, "nine is the limit for very many outputs: the pointwise convolution is not free."),
        ],
        tolerance=2e-3,
    )


def _judge_pair(given: Answers, dense: int, pair: int) -> None:
    """Judge parameters and MACs of the separable form."""
    depthwise, pointwise = K * K * C_IN, C_IN * C_OUT
    parts = [
        (
            depthwise,
            "the depthwise convolution alone; you forgot the pointwise one, which mixes the channels.",
        ),
        (pointwise, "the pointwise convolution alone; you forgot the depthwise one, which filters."),
        (
            K * K * C_OUT + pointwise,
            "one filter for each output; the depthwise convolution comes first and has one for each input.",
        ),
        (
            dense + pointwise,
            "a kernel for each pair of channels in the depthwise convolution; it has one for each channel "
            "alone.",
        ),
        (K * C_IN + pointwise, "filters of 3 weights; one of 3 x 3 has 9."),
        (
            depthwise * pointwise,
            "the product of both convolutions; they run one after the other, and their counts add up.",
        ),
    ]
    given.number("pair_params", pair, [(count, f"you counted {told}") for count, told in parts])
    given.number(
        "pair_macs",
        pair * PIXELS,
        [
            *((count * PIXELS, f"you counted the multiply-accumulates of {told}") for count, told in parts),
            (2 * pair * PIXELS, _FLOPS),
            (pair, _PER_PIXEL),
            (dense * PIXELS, "those are the dense layer's."),
        ],
    )


EXERCISE = Exercise(
    1,
    "layer_cost",
    "Count a layer",
    """\
A convolution layer reads 64 channels of 56 x 56 pixels and gives 128 channels of the same size. Its
kernels are 3 x 3, it has no bias, and beyond the border it reads zeros, which count like pixels.

How many parameters has it, and how many multiply-accumulates (MACs) does it take for one image? And as a
depthwise separable layer: a filter of 3 x 3 for each input channel, then a pointwise (1 x 1) convolution
that mixes the channels? How many times fewer MACs is that?
""",
    """\
dense_params = ...
dense_macs = ...
pair_params = ...
pair_macs = ...
times_fewer = ...  # dense_macs over pair_macs
""",
    """\
A dense layer has a kernel for each *pair* of an output and an input channel. The depthwise convolution
has one for each *input* channel, and the pointwise convolution is a matrix. Each weight is used once for
each output pixel.
""",
    """\
k, c_in, c_out, pixels = 3, 64, 128, 56 * 56
dense_params = k * k * c_in * c_out
dense_macs = dense_params * pixels
pair_params = k * k * c_in + c_in * c_out
pair_macs = pair_params * pixels
times_fewer = dense_macs / pair_macs
""",
    answers,
)
