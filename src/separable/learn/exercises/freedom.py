"""Degrees of freedom."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._base.types import Array
from ...conv import degrees_of_freedom
from ..answers import Answers, array_fault
from ..exercise import Exercise

C_IN, C_OUT, K = 16, 32, 3


def answers(given: Answers) -> None:
    """Judge the count, and a pair of kernels that is another one of the same layer."""
    params = C_IN * K * K + C_IN * C_OUT
    given.number(
        "free",
        degrees_of_freedom(C_IN, C_OUT, K),
        [
            (
                params,
                f"{params} counts every parameter. One number of each input channel is free: a filter "
                "times b and its "
                "mixing vector over b are the same layer.",
            ),
            (params - 1, "you took away one number in all; there is one for each input channel."),
            (params - C_OUT, "you took away one number for each output; it is one for each input channel."),
            (
                params - 2 * C_IN,
                "you took away two numbers for each input channel; scaling both is one number.",
            ),
            (K * K * C_IN * C_OUT, "that is the dense layer's."),
        ],
    )
    other = given.function("same_layer")
    if other is not None:
        rng = np.random.default_rng(3)
        depthwise, pointwise = rng.standard_normal((4, 9)), rng.standard_normal((6, 4))
        given.judge(
            "same_layer", _pair_fault(other(depthwise.copy(), pointwise.copy()), depthwise, pointwise)
        )


def _pair_fault(got: Any, depthwise: Array, pointwise: Array) -> str | None:
    """Return what is wrong with the other pair of kernels."""
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return "it should return two arrays: the other depthwise kernel and the other pointwise one."
    for name, value, old in (("depthwise", got[0], depthwise), ("pointwise", got[1], pointwise)):
        fault = array_fault(value, old.shape)
        if fault is not None:
            return f"the {name} kernel: {fault}"
    new_depthwise, new_pointwise = (np.asarray(value, float) for value in got)
    if np.allclose(new_depthwise, depthwise) and np.allclose(new_pointwise, pointwise):
        return "it is the same pair of kernels; another one is asked for."
    before, after = (
        np.einsum("oi,it->oit", p, d) for p, d in ((pointwise, depthwise), (new_pointwise, new_depthwise))
    )
    if np.allclose(before, after):
        return None
    if np.allclose(new_pointwise, pointwise):
        return "you changed the filters alone: the mixing vectors have to make up for it."
    if np.allclose(new_depthwise, depthwise):
        return "you changed the mixing vectors alone: the filters have to make up for it."
    square = float(np.vdot(after, before) / np.vdot(before, before))
    if np.allclose(after, square * before):
        return f"the layer has become {square:.3g} times what it was: multiply the one, *divide* the other."
    channel = int(np.abs(after - before).max(axis=(0, 2)).argmax())
    return (
        f"it is another layer: that of channel {channel} has changed. What belongs to channel i is "
        "depthwise[i], a row, and "
        "pointwise[:, i], a column."
    )


EXERCISE = Exercise(
    4,
    "freedom",
    "Degrees of freedom",
    """\
Two pairs of kernels can be one and the same layer: multiply the filter of one input channel by b, divide
its mixing vector by b, and nothing changes.

How many degrees of freedom does a depthwise separable layer from 16 to 32 channels with 3 x 3 taps have,
without bias?

And write `same_layer(depthwise, pointwise)`, with arrays of shapes (C_in, K) and (C_out, C_in): it
returns *another* pair of kernels, of the same shapes, that is the same layer.
""",
    """\
import numpy as np

free = ...


def same_layer(depthwise, pointwise):
    return ...
""",
    """\
Count all parameters; then take away what changes nothing: one number b for each filter that can be
scaled. In NumPy, `depthwise * b[:, None]` scales rows, and `pointwise / b` columns.
""",
    """\
import numpy as np

free = 16 * 9 + 16 * 32 - 16


def same_layer(depthwise, pointwise):
    b = np.arange(2.0, 2.0 + len(depthwise))
    return depthwise * b[:, None], pointwise / b
""",
    answers,
)
