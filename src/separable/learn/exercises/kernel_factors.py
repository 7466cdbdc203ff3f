"""Separate a kernel, by hand and by `factor`."""

from __future__ import annotations

import numpy as np

from ..._base.types import Array
from ...factor import factor
from ...families import disk
from ..answers import Answers
from ..exercise import Exercise

KERNEL = np.multiply.outer([1.0, 4.0, 6.0, 4.0, 1.0], [-1.0, -2.0, 0.0, 2.0, 1.0])
RADIUS, TOL = 10, 0.05


def answers(given: Answers) -> None:
    """Judge the taps, and what `factor` gives."""
    column, row = given.array("column", (5,)), given.array("row", (5,))
    if column is not None and row is not None:
        given.judge("column and row", _product_fault(column, row))
    weights = disk(RADIUS)
    kernel = factor(weights, tol=TOL)
    exact = factor(weights)
    size = weights.shape[0]
    given.number(
        "terms",
        kernel.rank,
        [
            (exact.rank, "that is without a tolerance; within 5 % fewer are enough: pass tol=0.05."),
            (np.linalg.matrix_rank(weights), "that is the rank of the matrix; within 5 % fewer are enough."),
            (1, "one term is far off: a disk is no column times a row."),
        ],
    )
    given.number(
        "products",
        kernel.macs,
        [
            (weights.size, f"that is the square: all {size} x {size} weights."),
            (2 * size, "that is one term, a column and a row; there are several, and each takes as many."),
            (exact.macs, "that is without a tolerance: pass tol=0.05."),
            (kernel.rank * size, "you counted one line for each term: it is a column and a row."),
        ],
    )


def _product_fault(column: Array, row: Array) -> str | None:
    """Return what is wrong with the product of two lines of taps."""
    product = np.multiply.outer(column, row)
    if np.allclose(product, KERNEL):
        return None
    if np.allclose(product, KERNEL.T):
        return "they are swapped: `column` runs down, over axis 0, and `row` across."
    if np.allclose(product, -KERNEL):
        return "the sign is wrong: turn that of one of the two, not of both."
    scale = float(np.vdot(product, KERNEL)) / max(float(np.vdot(product, product)), 1e-300)
    if scale and np.allclose(scale * product, KERNEL):
        return f"the product is {1 / scale:.3g} times the kernel: divide one of the two by that."
    place = tuple(int(n) for n in np.unravel_index(np.abs(product - KERNEL).argmax(), KERNEL.shape))
    return (
        f"column[{place[0]}] * row[{place[1]}] is {product[place]:g}, and KERNEL[{place[0]}, {place[1]}] is "
        f"{KERNEL[place]:g}."
    )


EXERCISE = Exercise(
    2,
    "kernel_factors",
    "Separate a kernel, by hand and by factor",
    f"""\
This kernel separates: it is a column of five numbers times a row of five numbers. Find them, without a
computer: every row of the kernel is a multiple of one row.

Then take one that does not: a disk of radius {RADIUS}, a lens out of focus. `sp.factor(disk, tol={TOL})`
writes it as a sum of separable terms within 5 %. How many terms are that, and how many multiplications
for each pixel?
""",
    f"""\
import numpy as np

import separable as sp

KERNEL = np.array([
    [-1, -2, 0, 2, 1],
    [-4, -8, 0, 8, 4],
    [-6, -12, 0, 12, 6],
    [-4, -8, 0, 8, 4],
    [-1, -2, 0, 2, 1],
])
column = ...  # five numbers, so that np.multiply.outer(column, row) is KERNEL
row = ...

DISK = sp.families.disk({RADIUS})
terms = ...
products = ...  # multiplications for each pixel
""",
    """\
Take the first row as `row`; then `column` says how many times each row is the first one. What `sp.factor`
returns has `rank`, the number of terms, and `macs`.
""",
    f"""\
import separable as sp

column = [1, 4, 6, 4, 1]
row = [-1, -2, 0, 2, 1]

kernel = sp.factor(sp.families.disk({RADIUS}), tol={TOL})
terms = kernel.rank
products = kernel.macs
""",
    answers,
)
