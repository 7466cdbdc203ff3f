"""The Khatri-Rao product."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._base.types import Array
from ...conv import khatri_rao
from ..answers import Answers, array_fault, shape_of
from ..exercise import Exercise

C_IN, C_OUT, K = 3, 4, 9


def answers(given: Answers) -> None:
    """Judge the product, and the rank of a slice."""
    rng = np.random.default_rng(7)
    depthwise, pointwise = rng.standard_normal((C_IN, K)), rng.standard_normal((C_OUT, C_IN))
    product = given.function("flat_weights")
    if product is not None:
        given.judge(
            "flat_weights", _product_fault(product(depthwise.copy(), pointwise.copy()), depthwise, pointwise)
        )
    given.number(
        "slice_rank",
        1,
        [
            (C_OUT, "that is the number of its rows; but all of them are multiples of one filter."),
            (K, "that is the number of its taps; but all its rows are multiples of one filter."),
            (C_IN, "there are so many slices; asked is the rank of one."),
        ],
    )


def _product_fault(got: Any, depthwise: Array, pointwise: Array) -> str | None:
    """Return what is wrong with the weights that a learner's function gave."""
    wanted = khatri_rao(depthwise.reshape(C_IN, 1, 3, 3), pointwise)
    if got is None or got is ...:
        return "it returns nothing yet."
    shape = shape_of(got)
    if shape == (C_OUT * C_IN, C_IN * K) or shape == (C_IN * C_OUT, K * C_IN):
        return (
            "that is the Kronecker product, every column with every column: here mixing vector i goes with "
            "filter i alone."
        )
    if shape == wanted.T.shape:
        return "it is transposed: a row for each output and tap, a column for each input channel."
    if shape == (C_OUT, K):
        return "the matrix product adds up over the channels; their columns have to stay apart."
    if shape == (C_OUT, C_IN, K):
        return (
            "these are the weights W[o, i, t]: put the channel last, then make one axis of outputs and taps."
        )
    fault = array_fault(got, wanted.shape)
    if fault is not None:
        return fault
    array = np.asarray(got, float)
    if np.allclose(array, wanted):
        return None
    columns = np.stack([np.kron(depthwise[i], pointwise[:, i]) for i in range(C_IN)], axis=1)
    if np.allclose(array, columns):
        return "filter and mixing vector are swapped: rows go output by output, in each of them tap by tap."
    mixed = np.einsum("oi,it->oit", pointwise, depthwise).reshape(wanted.shape)
    if np.allclose(array, mixed):
        return "you reshaped W[o, i, t] with the channel in the middle: move it to the end first."
    sums = np.stack([np.add.outer(pointwise[:, i], depthwise[i]).ravel() for i in range(C_IN)], axis=1)
    if np.allclose(array, sums):
        return "you added; each number of the mixing vector *multiplies* the whole filter."
    column = int(np.abs(array - wanted).max(axis=0).argmax())
    return f"column {column} is not the Kronecker product of pointwise[:, {column}] and depthwise[{column}]."


EXERCISE = Exercise(
    3,
    "khatri_rao",
    "The Khatri-Rao product",
    """\
A depthwise separable layer is the dense layer with the weights W[o, i, t] = pointwise[o, i] *
depthwise[i, t], for outputs o, inputs i and taps t. Laid flat, with a row for each (o, t) and a column
for each i, these weights are the *Khatri-Rao product* of the two: column i is the Kronecker product of
mixing vector i and filter i.

Write `flat_weights(depthwise, pointwise)`, with `depthwise` of shape (C_in, K) and `pointwise` of shape
(C_out, C_in); it returns an array of shape (C_out * K, C_in), output by output.

And: W[:, i, :] is the *slice* of input channel i, a matrix of C_out rows and K columns. Which rank has it?
""",
    """\
import numpy as np


def flat_weights(depthwise, pointwise):
    return ...


slice_rank = ...
""",
    """\
`np.kron(a, b)` of two vectors is a[0] * b, a[1] * b, ... one after the other. Or use
`np.einsum("oi,it->oti", ...)` and `reshape`.
""",
    """\
import numpy as np


def flat_weights(depthwise, pointwise):
    columns = [np.kron(pointwise[:, i], depthwise[i]) for i in range(len(depthwise))]
    return np.stack(columns, axis=1)


slice_rank = 1
""",
    answers,
)
