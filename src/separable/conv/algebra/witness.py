"""An input that no separable layer of a given rank can answer as the dense layer does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from .geometry import whole
from .terms import (
    Terms,
    binary_exponent,
    checked_order,
    depthwise_first,
    float_array,
    layer_terms,
    weight_slices,
)

__all__ = ["Witness", "witness"]

# Singular values are off by a small multiple of eps, the larger dimension and the largest of them
# (LAPACK Users' Guide, section 4.9); the bound gives that much away to stay below the truth.
_SLACK: Final = 8 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Witness:
    """An input, the dense layer's answer, and how far off every separable layer must be.

    Attributes
    ----------
    input : ndarray, shape ``(C_in, *sizes)``, float64
        One unit impulse in each channel, apart from each other; everything else is 0.
    output : ndarray, shape ``(C_out, *(sizes - k + 1))``, float64
        The dense layer's answer, without padding, stride or dilation.
    bound : float
        No separable layer of this order and rank answers nearer to `output` than this, in the Euclidean
        norm; the one that :func:`decompose` finds comes as near. Exactly 0 where the dense layer is
        separable up to rounding.
    slice_bounds : tuple of float
        What each input channel ("dw-pw") or output channel ("pw-dw") has to be off by; the squares add up
        to that of `bound`.
    order : str
    rank, groups : int

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> shifts = np.zeros((2, 1, 1, 3))
    >>> shifts[0, 0, 0, 0] = shifts[1, 0, 0, 2] = 1  # one channel, moved two ways for two outputs
    >>> proof = sp.conv.witness(shifts, rank=1)
    >>> round(proof.bound, 9), proof.order
    (1.0, 'dw-pw')
    >>> depthwise, pointwise, _ = sp.conv.decompose(shifts, rank=1)
    >>> round(proof.error(depthwise, pointwise), 9)  # the nearest layer comes as near as the bound
    1.0
    """

    input: FloatArray
    output: FloatArray
    bound: float
    slice_bounds: tuple[float, ...]
    order: str
    rank: int
    groups: int

    @property
    def relative_bound(self) -> float:
        """The bound over the norm of `output`."""
        size = _norm(self.output)
        return self.bound / size if size > 0 else 0.0

    def error(self, depthwise: npt.ArrayLike, pointwise: npt.ArrayLike) -> float:
        """Run a separable layer on the input and return how far off its answer is.

        Parameters
        ----------
        depthwise, pointwise : array_like
            As for :func:`compose`, of this witness's order and groups. Of its rank, the result is not
            below `bound`; a higher rank may come nearer.

        Returns
        -------
        float
            Euclidean norm of the difference to `output`.

        Raises
        ------
        TypeError, ValueError
            If the kernels are not those of such a layer.
        """
        rank = None
        if depthwise_first(self.order):  # the multiplier cannot be read off the shapes
            rank = max(1, len(np.asarray(depthwise)) // len(self.input))
        terms, kernel = layer_terms(depthwise, pointwise, self.order, rank, self.groups)
        inputs, outputs = len(terms.ranks), terms.mixing.shape[1] * self.groups
        if not depthwise_first(self.order):
            inputs, outputs = outputs, inputs
        taps = zip(self.input.shape[1:], self.output.shape[1:], strict=True)
        expected = (len(self.output), len(self.input), *(n - m + 1 for n, m in taps))
        if (outputs, inputs, *kernel) != expected:
            raise ValueError(
                f"the kernels make a layer of weights {(outputs, inputs, *kernel)} (C_out, C_in, *k); "
                f"expected {expected}, as the dense one."
            )
        answer = _answer(self.input, terms, kernel, self.order, self.groups)
        return _norm(answer - self.output)

    def __str__(self) -> str:
        what = "input" if depthwise_first(self.order) else "output"
        if self.bound == 0.0:
            return f"A {self.order} layer of rank {self.rank} can answer exactly as the dense layer does."
        worst = int(np.argmax(self.slice_bounds))
        return (
            f"On this input every {self.order} layer of rank {self.rank} is off by at least {self.bound:.4g} "
            f"({self.relative_bound:.1%} of the answer), most of all because of {what} channel {worst} "
            f"({self.slice_bounds[worst]:.4g})."
        )


def witness(
    weights: npt.ArrayLike, rank: SupportsIndex, order: str = "dw-pw", *, groups: SupportsIndex = 1
) -> Witness:
    """Return an input on which every separable layer of a rank must err, and by how much.

    Parameters
    ----------
    weights : array_like, shape ``(C_out, C_in/groups, *k)``
        Of the dense layer.
    rank : int
        Terms of each slice that a separable layer may have.
    order : {"dw-pw", "pw-dw"}, optional
    groups : int, optional
        Groups of the dense convolution, and of the pointwise one.

    Returns
    -------
    Witness

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    *Theorem.* Let ``s_c1 >= s_c2 >= ...`` be the singular values of slice c of the weights W. On the input
    x returned here, every separable layer of rank T answers at a distance from W's answer of at least
    ``sqrt(sum_c sum_{m > T} s_cm**2)``, and one layer attains it.

    *Proof.* The impulses stand k samples apart along the first axis, so their responses do not overlap, and
    far enough from the rim that none is cut off: each weight of a layer appears exactly once in its answer
    to x, and everything else in the answer is 0. A separable layer answers as the dense layer with composed
    weights W^ does, so the distance of the answers is ``||W - W^||`` in the Frobenius norm. Its square is
    the sum over slices of ``||W_c - W^_c||**2``. Slice W^_c is a sum of T outer products and has rank at most
    T, so each summand is at least ``sum_{m > T} s_cm**2`` [1]_, with equality for the truncated singular
    value decomposition; slices can be chosen freely, so all are attained together.

    The theorem holds for linear layers. An activation between the two convolutions is another matter, and
    biases are taken to be equal: what a layer answers to zeros shows its own.

    References
    ----------
    .. [1] C. Eckart, G. Young, The approximation of one matrix by another of lower rank,
       Psychometrika 1, 1936.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> edges = np.array([[[[1, 2, 1], [0, 0, 0], [-1, -2, -1]]], [[[1, 0, -1], [2, 0, -2], [1, 0, -1]]]])
    >>> proof = sp.conv.witness(edges, rank=1)  # horizontal edges for one output, vertical ones for another
    >>> round(proof.bound, 3)
    3.464
    >>> sp.conv.witness(edges, rank=2).bound, sp.conv.witness(edges, rank=1, order="pw-dw").bound
    (0.0, 0.0)
    """
    dense = float_array("weights", weights, least_ndim=3)
    allowed, parts = whole(rank, "rank"), whole(groups, "groups")
    slices = weight_slices(dense, checked_order(order), parts)
    tails = _tails(slices, allowed)
    evidence = Witness(
        input=_impulses(dense.shape[1] * parts, dense.shape[2:]),
        output=_responses(dense, parts),
        bound=_norm(tails),
        slice_bounds=tuple(tails.tolist()),
        order=order,
        rank=allowed,
        groups=parts,
    )
    evidence.input.flags.writeable = evidence.output.flags.writeable = False
    return evidence


def _tails(slices: FloatArray, rank: int) -> FloatArray:
    """Return what rank T leaves of each slice, rounded down."""
    exponent = binary_exponent(slices)
    values = np.linalg.svd(np.ldexp(slices, -exponent), compute_uv=False)
    tails = np.linalg.norm(values[:, rank:], axis=1) - _SLACK * max(slices.shape[1:]) * values[:, 0]
    bounds: FloatArray = np.ldexp(np.maximum(tails, 0.0), exponent)
    return bounds


def _norm(values: FloatArray) -> float:
    exponent = binary_exponent(values)
    return math.ldexp(float(np.linalg.norm(np.ldexp(values, -exponent))), exponent)


def _impulses(channels: int, kernel: tuple[int, ...]) -> FloatArray:
    first, *others = kernel
    x = np.zeros((channels, (channels + 1) * first - 1, *(2 * k - 1 for k in others)))
    for channel in range(channels):
        x[(channel, (channel + 1) * first - 1, *(k - 1 for k in others))] = 1.0
    return x


def _responses(dense: FloatArray, groups: int) -> FloatArray:
    """Return the impulse responses: the flipped weights side by side, 0 between groups."""
    c_out, per_group, *kernel = dense.shape
    full = np.zeros((c_out, groups, per_group, *kernel))
    full[np.arange(c_out), np.arange(c_out) // (c_out // groups)] = dense
    turned = np.flip(full, axis=tuple(range(3, full.ndim)))
    return turned.reshape(c_out, groups * per_group * kernel[0], *kernel[1:])


def _answer(x: FloatArray, terms: Terms, kernel: tuple[int, ...], order: str, groups: int) -> FloatArray:
    """Run the two convolutions of a layer, without padding, stride or dilation."""
    if depthwise_first(order):
        filtered = _filtered(np.repeat(x, terms.ranks, axis=0), terms.filters, kernel)
        return _mixed(filtered, terms.mixing.reshape(groups, -1, terms.mixing.shape[1]).swapaxes(1, 2))
    hidden = _mixed(x, terms.mixing.reshape(groups, -1, terms.mixing.shape[1]))
    filtered = _filtered(hidden, terms.filters, kernel)
    answer: FloatArray = filtered.reshape(len(terms.ranks), -1, *filtered.shape[1:]).sum(axis=1)
    return answer


def _mixed(x: FloatArray, mixing: FloatArray) -> FloatArray:
    """Mix channels (C, ...) by matrices (groups, rows, C/groups)."""
    flat = x.reshape(len(mixing), mixing.shape[2], -1)
    return (mixing @ flat).reshape(-1, *x.shape[1:])


def _filtered(x: FloatArray, filters: FloatArray, kernel: tuple[int, ...]) -> FloatArray:
    """Filter each channel (R, ...) by its own taps (R, K)."""
    sizes = tuple(n - k + 1 for n, k in zip(x.shape[1:], kernel, strict=True))
    total = np.zeros((len(x), *sizes))
    column = (slice(None), *(np.newaxis for _ in kernel))
    for tap, start in enumerate(np.ndindex(kernel)):
        window = tuple(slice(s, s + n) for s, n in zip(start, sizes, strict=True))
        total += filters[:, tap][column] * x[(slice(None), *window)]
    return total
