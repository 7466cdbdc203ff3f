"""The two separable forms of a convolution layer, and the algebra between them and the dense weights.

Everything rests on one picture. Cut the dense weights into *slices*, one per channel of the depthwise
kernel: for "dw-pw" the (C_out/groups, K) matrix of one input channel, for "pw-dw" the (C_in/groups, K)
matrix of one output channel, K being the number of taps. A depthwise separable layer of rank T is one
whose every slice is a sum of T outer products *mixing x filter*: the pointwise kernel holds the mixing
vectors, the depthwise kernel the filters. Nothing else distinguishes it from a dense layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from .geometry import PerAxis, axis_count, per_axis, whole

__all__ = [
    "ORDERS",
    "Terms",
    "balanced_terms",
    "binary_exponent",
    "canonical",
    "check_even_ranks",
    "checked_order",
    "compose",
    "degrees_of_freedom",
    "dense_weights",
    "depthwise_first",
    "float_array",
    "float_dtype",
    "khatri_rao",
    "layer_terms",
    "layer_weights",
    "rank_per_channel",
    "slice_spectrum",
    "weight_slices",
]

Weights: TypeAlias = npt.NDArray[Any]
Rank: TypeAlias = SupportsIndex | Sequence[SupportsIndex]

ORDERS: Final = ("dw-pw", "pw-dw")

# Taps this close to the largest one count as equal to it when the sign of a filter is fixed: float32
# weights of a symmetric filter differ by their rounding.
_TIE: Final = 1e-4


@dataclass(frozen=True)
class Terms:
    """A separable layer as outer products, the terms of channel 0 first.

    Attributes
    ----------
    mixing : ndarray, shape ``(R, M)``
        M is the number of output ("dw-pw") or input ("pw-dw") channels per group.
    filters : ndarray, shape ``(R, K)``
        Spatial filters, flattened.
    ranks : tuple of int
        How many of the R terms each channel has.
    """

    mixing: FloatArray
    filters: FloatArray
    ranks: tuple[int, ...]

    def slices(self) -> FloatArray:
        """Return each channel's sum of its terms, shape ``(channels, M, K)``."""
        ends = np.cumsum(self.ranks)
        return np.stack(
            [
                self.mixing[end - rank : end].T @ self.filters[end - rank : end]
                for end, rank in zip(ends, self.ranks, strict=True)
            ]
        )


# -- the public verbs --------------------------------------------------------------------------------


def compose(
    depthwise: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    order: str = "dw-pw",
    *,
    rank: Rank | None = None,
    groups: SupportsIndex = 1,
) -> Weights:
    """Return the dense weights of the layer that does in one convolution what the two do in sequence.

    ``W[o, i] = sum_t P[o, i*T + t] * D[i*T + t]`` for "dw-pw", and
    ``W[o, i] = sum_t P[o*T + t, i] * D[o, t]`` for "pw-dw".

    Parameters
    ----------
    depthwise : array_like, shape ``(C_in*T, 1, *k)`` for "dw-pw", ``(C_out, T, *k)`` for "pw-dw"
        With a rank for each channel ``(R, 1, *k)`` in both orders, R the sum of the ranks.
    pointwise : array_like, ``(C_out, C_in*T/groups)`` for "dw-pw", ``(C_out*T, C_in/groups)`` for "pw-dw"
        Trailing axes of length 1 are allowed.
    order : {"dw-pw", "pw-dw"}, optional
        Which convolution comes first.
    rank : int or sequence of int, optional
        Depth multiplier T, or one for each channel as in :func:`decompose`. The shapes do not tell it
        in "dw-pw", where the default is 1; in "pw-dw" it is read off `depthwise`.
    groups : int, optional
        Groups of the pointwise convolution, which are those of the dense one.

    Returns
    -------
    ndarray, shape ``(C_out, C_in/groups, *k)``
        Computed in float64, returned in the floating dtype of the arguments (float64 for integers).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> depthwise, pointwise = rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((8, 4))
    >>> dense = sp.conv.compose(depthwise, pointwise)
    >>> dense.shape
    (8, 4, 3, 3)
    >>> bool(np.allclose(dense[2, 1], pointwise[2, 1] * depthwise[1, 0]))
    True
    """
    terms, kernel = layer_terms(depthwise, pointwise, order, rank, groups)
    dense = dense_weights(terms.slices(), order, whole(groups, "groups"), kernel)
    return dense.astype(float_dtype(depthwise, pointwise))


def khatri_rao(depthwise: npt.ArrayLike, pointwise: npt.ArrayLike) -> Weights:
    """Return the Khatri-Rao product of the pointwise and the depthwise kernel, order "dw-pw".

    With P of shape (C_out, R) and D of shape (K, R), R = C_in*T, it is the matrix of shape
    (C_out*K, R) whose column r is the Kronecker product of column r of P with column r of D [1]_:
    ``KR[o*K + k, r] = P[o, r] * D[k, r]``.

    For T = 1 it is the dense weights, input channel last: ``np.moveaxis(W, 1, -1).reshape(C_out*K,
    C_in)``. For T > 1 the T columns of each input channel add up to that column.

    Parameters
    ----------
    depthwise : array_like, shape ``(C_in*T, 1, *k)``
    pointwise : array_like, shape ``(C_out, C_in*T)``
        Trailing axes of length 1 are allowed.

    Returns
    -------
    ndarray, shape ``(C_out*K, C_in*T)``
        Computed in float64, returned in the floating dtype of the arguments.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    References
    ----------
    .. [1] T. G. Kolda, B. W. Bader, Tensor decompositions and applications, SIAM Review 51(3), 2009.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> depthwise, pointwise = rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((8, 4))
    >>> product = sp.conv.khatri_rao(depthwise, pointwise)
    >>> product.shape
    (72, 4)
    >>> bool(np.allclose(product[:, 2], np.kron(pointwise[:, 2], depthwise[2].ravel())))
    True
    >>> dense = sp.conv.compose(depthwise, pointwise)
    >>> bool(np.allclose(np.moveaxis(dense, 1, -1).reshape(72, 4), product))
    True
    """
    terms, _ = layer_terms(depthwise, pointwise, "dw-pw", 1, 1)
    product: FloatArray = np.einsum("ro,rk->okr", terms.mixing, terms.filters)
    flat: Weights = product.reshape(-1, len(terms.ranks))
    return flat.astype(float_dtype(depthwise, pointwise))


def slice_spectrum(weights: npt.ArrayLike, order: str = "dw-pw", groups: SupportsIndex = 1) -> FloatArray:
    """Return the singular values of every slice: what each rank leaves of a layer.

    The best separable layer of rank T is off by the root of the sum of squares of the values from
    column T on, in the Frobenius norm.

    Parameters
    ----------
    weights : array_like, shape ``(C_out, C_in/groups, *k)``
    order : {"dw-pw", "pw-dw"}, optional
        One (C_out/groups, K) slice for each of C_in input channels, or one (C_in/groups, K) slice for
        each of C_out output channels.
    groups : int, optional
        Groups of the dense convolution.

    Returns
    -------
    ndarray, shape ``(channels, min(M, K))``, float64
        Descending along axis 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> separable = sp.conv.compose(rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((8, 4)))
    >>> spectrum = sp.conv.slice_spectrum(separable)
    >>> spectrum.shape, bool((spectrum[:, 1:] < 1e-12 * spectrum[:, :1]).all())
    ((4, 8), True)
    """
    dense = float_array("weights", weights, least_ndim=3)
    return np.asarray(np.linalg.svd(weight_slices(dense, order, groups), compute_uv=False), np.float64)


def canonical(
    depthwise: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    order: str = "dw-pw",
    *,
    rank: Rank | None = None,
    groups: SupportsIndex = 1,
) -> tuple[Weights, Weights]:
    """Return the one representative of all kernels that compose to the same layer.

    A term keeps its outer product when its filter is scaled and its mixing vector is divided by the same
    number; T terms of a channel keep their sum under every invertible T x T matrix. The representative
    is read off the singular value decomposition of each composed slice: terms by descending singular
    value, filters (and mixing vectors) of one channel orthogonal to each other, filter and mixing vector
    of equal norm, the largest tap of each filter positive (the first of them, if several are equal).

    Parameters
    ----------
    depthwise, pointwise, order, rank, groups
        As for :func:`compose`.

    Returns
    -------
    depthwise, pointwise : ndarray
        Shapes as given, `pointwise` two-dimensional. They compose to the same dense weights.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    Where two singular values of a slice are equal, their terms are determined only up to a rotation
    among them, and so is this form; rank 1 has no such case. A channel with fewer than T independent terms
    gets zeros for the rest.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> depthwise, pointwise = rng.standard_normal((4, 1, 3, 3)), rng.standard_normal((8, 4))
    >>> one = sp.conv.canonical(depthwise, pointwise)
    >>> other = sp.conv.canonical(-5 * depthwise, pointwise / -5)  # the same layer, written in another way
    >>> bool(np.allclose(one[0], other[0]) and np.allclose(one[1], other[1]))
    True
    """
    terms, kernel = layer_terms(depthwise, pointwise, order, rank, groups)
    ragged = isinstance(rank, Iterable)
    settled = balanced_terms(terms.slices(), terms.ranks)
    dtype = float_dtype(depthwise, pointwise)
    return layer_weights(settled, order, whole(groups, "groups"), kernel, dtype, ragged)


def degrees_of_freedom(
    c_in: SupportsIndex,
    c_out: SupportsIndex,
    kernel: PerAxis,
    rank: SupportsIndex = 1,
    order: str = "dw-pw",
    *,
    groups: SupportsIndex = 1,
    ndim: int = 2,
) -> int:
    """Return the dimension of the set of layers that a separable form can be.

    Matrices of M rows, K columns and rank T form a manifold of dimension T*(M + K - T) [1]_, one for each
    channel. At T = 1 that is the number of parameters less one for each channel: the scale that filter and
    mixing vector share.

    Parameters
    ----------
    c_in, c_out : int
        Channels.
    kernel : int or sequence of int
        Taps along each axis; an int means the same along `ndim` axes.
    rank : int, optional
        Depth multiplier T. From min(M, K) on the form is dense.
    order : {"dw-pw", "pw-dw"}, optional
    groups : int, optional
        Groups of the pointwise convolution.
    ndim : int, optional
        Number of spatial axes, where `kernel` is an int.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    References
    ----------
    .. [1] J. M. Lee, Introduction to Smooth Manifolds, 2nd ed., 2013, example 5.30.

    Examples
    --------
    >>> import separable as sp
    >>> sp.conv.degrees_of_freedom(64, 128, 3)
    8704
    >>> 64 * 9 + 64 * 128 - 64  # parameters, less a free scale for each input channel
    8704
    >>> sp.conv.degrees_of_freedom(64, 128, 3, rank=9) == 64 * 128 * 9  # nine terms are dense
    True
    """
    taps = math.prod(per_axis(kernel, axis_count(ndim, kernel), "kernel"))
    inputs, outputs, parts = whole(c_in, "c_in"), whole(c_out, "c_out"), whole(groups, "groups")
    channels, others = (inputs, outputs) if depthwise_first(checked_order(order)) else (outputs, inputs)
    _check_groups(inputs, outputs, parts)
    mixed = others // parts
    used = min(whole(rank, "rank"), mixed, taps)
    return channels * used * (mixed + taps - used)


# -- dense weights <-> slices <-> terms <-> the two kernels ------------------------------------------


def weight_slices(dense: FloatArray, order: str, groups: SupportsIndex) -> FloatArray:
    """Cut dense weights (C_out, C_in/groups, *k) into slices (channels, M, K)."""
    c_out, per_group = dense.shape[:2]
    parts = whole(groups, "groups")
    _check_groups(per_group * parts, c_out, parts)
    if not depthwise_first(checked_order(order)):
        return dense.reshape(c_out, per_group, -1)
    grouped = dense.reshape(parts, c_out // parts, per_group, -1)
    return grouped.swapaxes(1, 2).reshape(parts * per_group, c_out // parts, -1)


def dense_weights(slices: FloatArray, order: str, groups: int, kernel: tuple[int, ...]) -> FloatArray:
    """Put slices together again: the inverse of :func:`weight_slices`."""
    channels, mixed, _ = slices.shape
    if not depthwise_first(order):
        return slices.reshape(channels, mixed, *kernel)
    grouped = slices.reshape(groups, channels // groups, mixed, -1).swapaxes(1, 2)
    return grouped.reshape(groups * mixed, channels // groups, *kernel)


def balanced_terms(slices: FloatArray, ranks: Sequence[int]) -> Terms:
    """Return the leading singular triplets of each slice as terms, in the form :func:`canonical` states.

    A channel asked for more terms than its slice has rows or columns gets zeros for the rest.
    """
    exponent = binary_exponent(slices)
    left, values, right = np.linalg.svd(np.ldexp(slices, -exponent), full_matrices=False)
    values[values <= np.finfo(np.float64).eps * max(slices.shape[1:]) * values[:, :1]] = 0.0
    # Half of an odd exponent would be no power of two: its odd part goes under the root.
    roots = np.ldexp(np.sqrt(np.ldexp(values, exponent % 2)), exponent // 2)
    sizes = np.abs(right)
    peaks = np.argmax(sizes >= (1 - _TIE) * sizes.max(axis=2, keepdims=True), axis=2)
    signs = np.where(np.take_along_axis(right, peaks[:, :, np.newaxis], 2) < 0, -1.0, 1.0)
    filters = right * signs * roots[:, :, np.newaxis]
    mixing = left.swapaxes(1, 2) * signs * roots[:, :, np.newaxis]
    return Terms(_leading(mixing, ranks), _leading(filters, ranks), tuple(ranks))


def binary_exponent(values: FloatArray) -> int:
    """Return e so that ``values * 2**-e``, exact, are at most 1: their squares stay within range."""
    return math.frexp(float(np.abs(values).max()))[1]


def _leading(lines: FloatArray, ranks: Sequence[int]) -> FloatArray:
    """Return the first ``ranks[c]`` rows of each ``lines[c]``, stacked; zeros where there are too few."""
    most = max(ranks)
    short = most - lines.shape[1]
    padded = np.pad(lines, ((0, 0), (0, max(short, 0)), (0, 0)))
    return padded[:, :most][np.arange(most) < np.array(ranks)[:, np.newaxis]]


def layer_terms(
    depthwise: npt.ArrayLike,
    pointwise: npt.ArrayLike,
    order: str,
    rank: Rank | None,
    groups: SupportsIndex,
) -> tuple[Terms, tuple[int, ...]]:
    """Check the two kernels of a layer and return its terms and the shape of its filters."""
    checked_order(order)
    spatial = float_array("depthwise", depthwise, least_ndim=3)
    mixing = _pointwise_matrix(pointwise)
    parts = whole(groups, "groups")
    kernel = spatial.shape[2:]
    if not depthwise_first(order) and not isinstance(rank, Iterable):
        multiplier = spatial.shape[1]
        if rank is not None and whole(rank, "rank") != multiplier:
            raise ValueError(
                f"`rank={rank}`, but `depthwise` of shape {spatial.shape} is (C_out, T, *k) with T = "
                f"{multiplier}; leave rank out."
            )
        ranks = (multiplier,) * spatial.shape[0]
    else:
        if spatial.shape[1] != 1:
            raise ValueError(
                f"`depthwise` has shape {spatial.shape}; expected 1 on axis 1: (C_in*T, 1, *k) for "
                "order 'dw-pw', (R, 1, *k) where each channel has its own rank."
            )
        ranks = _ranks_of(spatial.shape[0], 1 if rank is None else rank)
    check_even_ranks(ranks, parts)
    filters = spatial.reshape(-1, math.prod(kernel))
    if not depthwise_first(order):
        _check_groups(mixing.shape[1] * parts, len(ranks), parts)
        _check_pointwise(mixing.shape, (len(filters), mixing.shape[1]))
        return Terms(mixing, filters, ranks), kernel
    _check_groups(len(ranks), len(mixing), parts)
    _check_pointwise(mixing.shape, (len(mixing), len(filters) // parts))
    grouped = mixing.reshape(parts, len(mixing) // parts, -1).swapaxes(1, 2)
    return Terms(grouped.reshape(len(filters), -1), filters, ranks), kernel


def layer_weights(
    terms: Terms, order: str, groups: int, kernel: tuple[int, ...], dtype: np.dtype[Any], ragged: bool
) -> tuple[Weights, Weights]:
    """Return the depthwise and the pointwise kernel of a layer: the inverse of :func:`layer_terms`.

    `ragged` says that each channel has its own rank, which changes the shape in order "pw-dw".
    """
    filters = terms.filters.astype(dtype)
    mixing = terms.mixing.astype(dtype)
    if not depthwise_first(order):
        leading = (len(filters), 1) if ragged else (len(terms.ranks), terms.ranks[0])
        return filters.reshape(*leading, *kernel), mixing
    grouped = mixing.reshape(groups, len(filters) // groups, -1).swapaxes(1, 2)
    pointwise = grouped.reshape(-1, len(filters) // groups)
    return filters.reshape(-1, 1, *kernel), np.ascontiguousarray(pointwise)


# -- arguments ---------------------------------------------------------------------------------------


def depthwise_first(order: str) -> bool:
    """Return whether the depthwise convolution comes first: the one question that an order answers."""
    return order == ORDERS[0]


def checked_order(order: str) -> str:
    """Return `order` if it is one."""
    if order not in ORDERS:
        raise ValueError(
            f"`order={order!r}` is unknown; expected 'dw-pw' (depthwise first) or 'pw-dw' (pointwise first)."
        )
    return order


def float_array(name: str, values: npt.ArrayLike, least_ndim: int) -> FloatArray:
    """Return `values` in float64: real, finite, not empty, of at least `least_ndim` axes."""
    array = np.asarray(values)
    float_dtype(array, name=name)
    if array.ndim < least_ndim or array.size == 0:
        wanted = "(channels, channels, *k), none of them 0" if least_ndim == 3 else "at least one number"
        raise ValueError(f"`{name}` has shape {array.shape}; expected {wanted}.")
    floats = array.astype(np.float64)
    if not np.isfinite(floats).all():
        raise ValueError(f"`{name}` holds NaN or infinity; expected finite numbers.")
    return floats


def float_dtype(*arrays: npt.ArrayLike, name: str = "weights") -> np.dtype[Any]:
    """Return the dtype that results come back in: that of the floating arrays, else float64."""
    floating = []
    for dtype in (np.asarray(array).dtype for array in arrays):
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise TypeError(
                f"`{name}` has dtype {dtype}; expected real numbers no wider than float64, "
                "in which everything here is computed."
            )
        if dtype.kind == "f":
            floating.append(dtype.newbyteorder("="))
    return np.result_type(*floating) if floating else np.dtype(np.float64)


def rank_per_channel(rank: Rank, channels: int) -> tuple[int, ...]:
    """Return the rank of each channel: one int for all (at least 1), or one for each (0 allowed)."""
    if not isinstance(rank, Iterable):
        return per_axis(rank, channels, "rank")
    given = tuple(rank)
    if len(given) != channels:
        raise ValueError(f"`rank` has {len(given)} entries for {channels} channels; pass an int or one each.")
    ranks = per_axis(given, channels, "rank", least=0)
    if not any(ranks):
        raise ValueError("`rank` is 0 in every channel, which leaves no layer; expected at least one term.")
    return ranks


def check_even_ranks(ranks: Sequence[int], groups: int) -> None:
    """Refuse ranks that differ where a grouped pointwise convolution needs as many in every group."""
    if groups > 1 and len(set(ranks)) > 1:
        raise ValueError("`rank` differs between channels, which needs groups=1; pass one int.")


def _ranks_of(terms: int, rank: Rank) -> tuple[int, ...]:
    """Return the rank of each channel of a depthwise kernel, given its number of filters."""
    if isinstance(rank, Iterable):
        ranks = rank_per_channel(rank, len(tuple(rank)))
        if sum(ranks) != terms:
            raise ValueError(f"`rank` sums to {sum(ranks)}, but `depthwise` holds {terms} filters.")
        return ranks
    multiplier = whole(rank, "rank")
    if terms % multiplier:
        raise ValueError(
            f"`depthwise` holds {terms} filters; expected C_in*T, a multiple of rank {multiplier}."
        )
    return (multiplier,) * (terms // multiplier)


def _pointwise_matrix(pointwise: npt.ArrayLike) -> FloatArray:
    mixing = float_array("pointwise", pointwise, least_ndim=2)
    if any(length != 1 for length in mixing.shape[2:]):
        raise ValueError(f"`pointwise` has shape {mixing.shape}; expected axes of length 1 from axis 2 on.")
    return mixing.reshape(mixing.shape[:2])


def _check_pointwise(got: tuple[int, ...], expected: tuple[int, int]) -> None:
    if got != expected:
        raise ValueError(
            f"`pointwise` has shape {got}; expected {expected}, as many rows or columns as `depthwise` has "
            "filters (in 'dw-pw' divided by groups)."
        )


def _check_groups(c_in: int, c_out: int, groups: int) -> None:
    if groups < 1 or c_in % groups or c_out % groups:
        raise ValueError(f"`groups={groups}` does not divide {c_in} input and {c_out} output channels.")
