"""From dense weights to the nearest separable layer: by themselves, or as the data they see demand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from .descent import Quadratic, alternate_outputs, inverse_root, leading_filters
from .geometry import whole
from .terms import (
    Rank,
    Weights,
    balanced_terms,
    binary_exponent,
    check_even_ranks,
    checked_order,
    compose,
    depthwise_first,
    float_array,
    float_dtype,
    layer_weights,
    rank_per_channel,
    slice_spectrum,
    weight_slices,
)

__all__ = ["DecompositionError", "allocate_ranks", "decompose"]

# Fraction of the mean variance added to every variance. It settles in favour of the given weights what the
# data leave open; smaller ones drown in the rounding of a covariance that was summed in float32.
_RIDGE: Final = 1e-6

# Relative decrease of the loss per sweep below which descent ends, and the maximum number of sweeps; ten are
# usual.
_GAIN: Final = 1e-4
_SWEEPS: Final = 100

# Channels per block of columns, sized for matrix products.
_CHANNELS_AT_ONCE: Final = 8


@dataclass(frozen=True)
class DecompositionError:
    """How far a separable layer W^ is from the dense layer W it stands for.

    Attributes
    ----------
    relative_l2 : float
        ``||W - W^|| / ||W||`` in the Frobenius norm: the error of the output for white input.
    channels : tuple of float
        The same for each slice (input channel in "dw-pw", output channel in "pw-dw").
    relative_output : float or None
        With a covariance C: ``sqrt(tr((W - W^) C (W - W^)') / tr(W C W'))``, the standard deviation of
        the output's error, all channels together, over that of the output.

    ``float(error)`` is `relative_output` where there is one, else `relative_l2`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> weights = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> depthwise, pointwise, error = sp.conv.decompose(weights, rank=2)
    >>> left = np.linalg.norm(weights - sp.conv.compose(depthwise, pointwise, rank=2))
    >>> bool(np.isclose(error.relative_l2, left / np.linalg.norm(weights)))
    True
    >>> len(error.channels), float(error) == error.relative_l2
    (4, True)
    """

    relative_l2: float
    channels: tuple[float, ...]
    relative_output: float | None = None

    def __float__(self) -> float:
        return self.relative_l2 if self.relative_output is None else self.relative_output


def decompose(
    weights: npt.ArrayLike,
    rank: Rank,
    order: str = "dw-pw",
    covariance: npt.ArrayLike | None = None,
    *,
    groups: SupportsIndex = 1,
    ridge: float = _RIDGE,
) -> tuple[Weights, Weights, DecompositionError]:
    """Return the depthwise separable layer nearest to a dense one, and how near that is.

    Without `covariance` it is the exact optimum in the Frobenius norm: the truncated singular value
    decomposition of every slice [1]_. With it, the expected squared error of the layer's output is
    reduced, by block-coordinate descent that never increases it.

    Parameters
    ----------
    weights : array_like, shape ``(C_out, C_in/groups, *k)``
    rank : int or sequence of int
        Terms T of each slice: of all, or one number for each input channel ("dw-pw") or output channel
        ("pw-dw"), 0 allowed; :func:`allocate_ranks` finds good ones. ``min(M, K)`` is exact, where
        M = C_out/groups or C_in/groups and K is the number of taps; terms beyond it are zeros.
    order : {"dw-pw", "pw-dw"}, optional
    covariance : array_like, shape ``(C_in*K, C_in*K)`` or ``(C_in, K, K)``, optional
        Covariance of the input patches the layer sees, centred where the layer has a bias to carry the
        mean; channel-major, taps as in `weights`. Three axes: the blocks of single channels, others
        taken as 0.
    groups : int, optional
        Groups of the dense convolution; they become groups of the pointwise one.
    ridge : float, optional
        This fraction of the mean variance is added to every variance, so that covariances of few
        samples can be inverted; where the data say nothing the weights decide.

    Returns
    -------
    depthwise : ndarray, shape ``(C_in*T, 1, *k)`` for "dw-pw", ``(C_out, T, *k)`` for "pw-dw"
        With a rank for each channel: ``(R, 1, *k)``, R the sum of the ranks.
    pointwise : ndarray, shape ``(C_out, C_in*T/groups)`` for "dw-pw", ``(C_out*T, C_in/groups)`` for "pw-dw"
        Both in the floating dtype of `weights` (float64 for integers), in :func:`canonical` form.
    error : DecompositionError
        Of the kernels as returned, rounding to their dtype included.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    *A rank for each channel* still runs as two convolutions. With ``owner = np.repeat(np.arange(channels),
    rank)``: for "dw-pw" repeat the input channels, ``x[owner]``, then one filter for each of the R
    channels, then the 1x1. For "pw-dw" the 1x1 makes R channels, each is filtered, and those of one owner
    are added up. Ranks that differ need ``groups=1``. ``compose(..., rank=rank)`` gives the
    dense weights back.

    *The descent, "dw-pw"* [2]_: with all other channels fixed, the best slice i is the truncated SVD,
    whitened by the channel's own K x K covariance, of ``W_i + sum_{j != i} (W_j - W^_j) C_ji C_ii^-1``.
    After each sweep the whole pointwise kernel is solved for by least squares.

    *"pw-dw"* falls apart into one problem for each output channel: mixing and filters are solved for in
    turn by least squares, from the SVD that is exact where C is a Kronecker product of a covariance of
    channels and one of taps.

    References
    ----------
    .. [1] C. Eckart, G. Young, The approximation of one matrix by another of lower rank,
       Psychometrika 1, 1936.
    .. [2] X. Zhang, J. Zou, K. He, J. Sun, Accelerating very deep convolutional networks for classification
       and detection, IEEE TPAMI 38(10), 2016, minimise the output error of low-rank layers on data.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> weights = np.random.default_rng(0).standard_normal((32, 16, 3, 3))
    >>> depthwise, pointwise, error = sp.conv.decompose(weights, rank=1)
    >>> depthwise.shape, pointwise.shape
    ((16, 1, 3, 3), (32, 16))
    >>> [round(sp.conv.decompose(weights, rank)[2].relative_l2, 2) for rank in (1, 4, 9)]
    [0.88, 0.56, 0.0]
    """
    dense = float_array("weights", weights, least_ndim=3)
    parts = whole(groups, "groups")
    slices = weight_slices(dense, checked_order(order), parts)
    channels, mixed, taps = slices.shape
    ranks = rank_per_channel(rank, channels)
    check_even_ranks(ranks, parts)
    if covariance is None:
        blocks, fitted = None, slices
    else:
        inputs = dense.shape[1] * parts
        blocks = _group_covariances(covariance, inputs, taps, parts)
        exponent = binary_exponent(slices)
        most = [min(r, mixed, taps) for r in ranks]
        near = _fitted(np.ldexp(slices, -exponent), blocks, order, most, _checked_ridge(ridge))
        fitted = np.ldexp(near, exponent)
    ragged = isinstance(rank, Iterable)
    terms = balanced_terms(fitted, ranks)
    kernel, dtype = dense.shape[2:], float_dtype(weights)
    depthwise, pointwise = layer_weights(terms, order, parts, kernel, dtype, ragged)
    got = compose(depthwise, pointwise, order, rank=rank if ragged else ranks[0], groups=parts)
    return depthwise, pointwise, _error(dense, got.astype(np.float64), order, parts, blocks)


def allocate_ranks(
    weights: npt.ArrayLike, total: SupportsIndex, order: str = "dw-pw", *, groups: SupportsIndex = 1
) -> tuple[int, ...]:
    """Return the rank of each channel that keeps the globally largest singular values of a layer.

    Every term costs the same, so no other way to spend `total` terms leaves less of the weights; the
    uniform rank at the same cost is one of them.

    Parameters
    ----------
    weights : array_like, shape ``(C_out, C_in/groups, *k)``
    total : int
        Terms of all slices together. More than all there are gives all there are.
    order : {"dw-pw", "pw-dw"}, optional
    groups : int, optional
        Groups of the dense convolution.

    Returns
    -------
    tuple of int
        One for each input ("dw-pw") or output ("pw-dw") channel, 0 where a channel is not worth a term;
        meant as the `rank` of :func:`decompose`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> weights = np.random.default_rng(0).standard_normal((8, 4, 3, 3))
    >>> weights[:, 0] *= 10  # one channel matters more
    >>> ranks = sp.conv.allocate_ranks(weights, total=8)
    >>> ranks[0], sum(ranks)
    (6, 8)
    >>> sp.conv.decompose(weights, ranks)[2].relative_l2 < sp.conv.decompose(weights, 2)[2].relative_l2
    True
    """
    spectrum = slice_spectrum(weights, order, groups)
    largest_first = np.argsort(-spectrum, axis=None, kind="stable")
    owners = largest_first[: whole(total, "total")] // spectrum.shape[1]
    return tuple(np.bincount(owners, minlength=len(spectrum)).tolist())


# -- how far -----------------------------------------------------------------------------------------


def _error(
    dense: FloatArray, got: FloatArray, order: str, groups: int, blocks: list[FloatArray] | None
) -> DecompositionError:
    exponent = binary_exponent(dense)
    scaled = np.ldexp(dense, -exponent)
    left = scaled - np.ldexp(got, -exponent)
    whole_l2, left_l2 = (np.linalg.norm(weight_slices(w, order, groups), axis=(1, 2)) for w in (scaled, left))
    channels = np.divide(left_l2, whole_l2, out=np.zeros_like(left_l2), where=whole_l2 > 0)
    return DecompositionError(
        relative_l2=_ratio(float(np.linalg.norm(left_l2)), float(np.linalg.norm(whole_l2))),
        channels=tuple(channels.tolist()),
        relative_output=None
        if blocks is None
        else _ratio(_output_norm(left, blocks), _output_norm(scaled, blocks)),
    )


def _output_norm(dense: FloatArray, blocks: list[FloatArray]) -> float:
    """Return the standard deviation of the output, all channels together."""
    total = 0.0
    for rows, covariance in zip(np.split(dense, len(blocks)), blocks, strict=True):
        flat = rows.reshape(len(rows), -1)
        total += float(np.sum(_times(flat, covariance) * flat))
    return math.sqrt(max(total, 0.0))


def _ratio(part: float, total: float) -> float:
    return part / total if total > 0 else 0.0


# -- covariances: for each group (I*K, I*K), or (I, K, K) where channels do not correlate ------------


def _group_covariances(covariance: npt.ArrayLike, c_in: int, taps: int, groups: int) -> list[FloatArray]:
    given = float_array("covariance", covariance, least_ndim=2)
    size = c_in * taps
    if given.shape not in ((size, size), (c_in, taps, taps)):
        raise ValueError(
            f"`covariance` has shape {given.shape}; expected ({size}, {size}), the {c_in} input channels' "
            f"{taps} taps each, channel-major, or ({c_in}, {taps}, {taps}), one block for each channel."
        )
    even = (given + given.swapaxes(-1, -2)) / 2
    largest = float(np.abs(given).max())
    # A covariance summed in float32 is symmetric to a few times 1e-7.
    if np.abs(given - even).max() > 1e-4 * largest:
        raise ValueError("`covariance` is not symmetric; expected patches' * patches / count.")
    variances = np.diagonal(even, axis1=-2, axis2=-1)
    if variances.min() < -1e-6 * largest or largest == 0:
        raise ValueError("`covariance` has a negative variance, or none at all; expected patches' * patches.")
    if even.ndim == 3:
        return np.split(even, groups)
    step = size // groups
    return [even[start : start + step, start : start + step] for start in range(0, size, step)]


def _times(flat: FloatArray, covariance: FloatArray) -> FloatArray:
    """Multiply rows (n, I*K) by a covariance."""
    if covariance.ndim == 2:
        return flat @ covariance
    channels, taps, _ = covariance.shape
    product: FloatArray = np.einsum("nik,ikl->nil", flat.reshape(-1, channels, taps), covariance)
    return product.reshape(flat.shape)


def _checked_ridge(ridge: float) -> float:
    if not 0.0 < ridge < math.inf:
        raise ValueError(f"`ridge={ridge!r}` is not a fraction of the variance; expected > 0, such as 1e-6.")
    return float(ridge)


def _full(covariance: FloatArray) -> FloatArray:
    """Write (I, K, K) blocks out as the (I*K, I*K) matrix they are the diagonal of."""
    if covariance.ndim == 2:
        return covariance
    channels, taps, _ = covariance.shape
    full = np.zeros((channels, taps, channels, taps))
    full[np.arange(channels), :, np.arange(channels)] = covariance
    return full.reshape(channels * taps, -1)


def _with_ridge(covariance: FloatArray, ridge: float) -> FloatArray:
    """Add `ridge` to every variance, and check that nothing negative is left."""
    raised = covariance + ridge * np.eye(covariance.shape[-1])
    try:
        np.linalg.cholesky(raised)
    except np.linalg.LinAlgError:
        raise ValueError(
            "`covariance` has a negative eigenvalue below -ridge times the mean variance; "
            "sum the patches' products in float64, or raise `ridge`."
        ) from None
    return raised


# -- fitting to data ---------------------------------------------------------------------------------


def _fitted(
    slices: FloatArray, blocks: list[FloatArray], order: str, ranks: Sequence[int], ridge: float
) -> FloatArray:
    """Return slices of the given ranks whose outputs on the data are near to those of `slices`."""
    fitted = []
    share = len(slices) // len(blocks)
    for number, block in enumerate(blocks):
        here = slice(number * share, (number + 1) * share)
        variance = float(np.mean(np.diagonal(block, axis1=-2, axis2=-1)))
        # A group whose inputs are constant has only the ridge: it keeps to the original weights.
        scaled = _with_ridge(block / (variance or 1.0), ridge)
        if min(ranks[here]) == min(slices.shape[1:]):  # nothing to approximate
            fitted.append(slices[here])
        elif not depthwise_first(order):
            fitted.append(_fit_outputs(slices[here], scaled, ranks[here]))
        elif scaled.ndim == 3:
            fitted.append(_fit_lone_inputs(slices[here], scaled, ranks[here])[0])
        else:
            fitted.append(_fit_inputs(slices[here], scaled, ranks[here]))
    return np.concatenate(fitted)


def _leading_slice(
    wanted: FloatArray, root: FloatArray, unroot: FloatArray, rank: int
) -> tuple[FloatArray, FloatArray]:
    """Return the slice (M, K) of this rank nearest to `wanted` in the metric root**2; its filters (T, K)."""
    white = wanted @ root
    vectors = np.linalg.eigh(white.T @ white)[1][:, len(root) - rank :]
    filters = vectors.T @ unroot
    return white @ vectors @ filters, filters


def _fit_lone_inputs(
    wanted: FloatArray, own: FloatArray, ranks: Sequence[int]
) -> tuple[FloatArray, list[FloatArray]]:
    """Fit each slice (M, K) to its own covariance (K, K): the optimum where channels do not correlate."""
    pairs = [_leading_slice(*given) for given in zip(wanted, *inverse_root(own), ranks, strict=True)]
    return np.stack([fitted for fitted, _ in pairs]), [filters for _, filters in pairs]


def _fit_inputs(wanted: FloatArray, covariance: FloatArray, ranks: Sequence[int]) -> FloatArray:
    """Fit the slices (I, M, K) of input channels to a full covariance (I*K, I*K)."""
    channels, mixed, taps = wanted.shape
    places = [slice(i * taps, (i + 1) * taps) for i in range(channels)]
    own = np.stack([covariance[here, here] for here in places])
    roots, unroots = inverse_root(own)
    flat = wanted.swapaxes(0, 1).reshape(mixed, -1)
    pull = flat @ covariance
    energy = float(np.sum(pull * flat))
    _, filters = _fit_lone_inputs(wanted, own, ranks)
    fitted, loss = _mixed(filters, places, covariance, pull, energy)
    for _ in range(_SWEEPS):
        before, left = loss, flat - fitted
        for start in range(0, channels, _CHANNELS_AT_ONCE):
            block = range(start, min(start + _CHANNELS_AT_ONCE, channels))
            columns = slice(places[block[0]].start, places[block[-1]].stop)
            pulls = left @ covariance[:, columns]
            for i in block:
                here = places[i]
                others = pulls[:, (i - start) * taps : (i - start + 1) * taps] - left[:, here] @ own[i]
                target = wanted[i] + others @ unroots[i] @ unroots[i]
                best, filters[i] = _leading_slice(target, roots[i], unroots[i], ranks[i])
                change = wanted[i] - best - left[:, here]
                left[:, here] += change
                pulls += change @ covariance[here, columns]
        fitted, loss = _mixed(filters, places, covariance, pull, energy)
        if _is_settled(before, loss, energy):
            break
    return fitted.reshape(mixed, channels, taps).swapaxes(0, 1)


def _mixed(
    filters: list[FloatArray], places: list[slice], covariance: FloatArray, pull: FloatArray, energy: float
) -> tuple[FloatArray, float]:
    """Solve for the mixing of all filters at once; return the slices (M, I*K) so fitted, and the loss."""
    filtered = np.concatenate([f @ covariance[here] for f, here in zip(filters, places, strict=True)])
    gram = np.concatenate([filtered[:, here] @ f.T for f, here in zip(filters, places, strict=True)], axis=1)
    pulled = np.concatenate([pull[:, here] @ f.T for f, here in zip(filters, places, strict=True)], axis=1)
    mixing = np.linalg.solve(gram, pulled.T).T
    ends = np.cumsum([len(f) for f in filters])
    fitted = [mixing[:, end - len(f) : end] @ f for f, end in zip(filters, ends, strict=True)]
    return np.concatenate(fitted, axis=1), energy - float(np.sum(mixing * pulled))


def _fit_outputs(wanted: FloatArray, covariance: FloatArray, ranks: Sequence[int]) -> FloatArray:
    """Fit the slices (O, I, K) of output channels, each by itself, to the covariance of all inputs."""
    gram, flat = _full(covariance), wanted.reshape(len(wanted), -1).T
    pull = gram @ flat
    energies = np.sum(pull * flat, axis=0)
    fitted = np.zeros_like(wanted)
    for rank in sorted(set(ranks) - {0}):
        some = np.flatnonzero(np.array(ranks) == rank)
        problem = Quadratic(gram, pull[:, some], energies[some], wanted.shape[2])
        filters = leading_filters(problem, flat[:, some], rank)
        filters, mixing, _ = alternate_outputs(problem, filters, _SWEEPS, _GAIN)
        fitted[some] = mixing.swapaxes(1, 2) @ filters
    return fitted


def _is_settled(before: float, loss: float, energy: float) -> bool:
    # Losses are differences of numbers as large as the energy.
    return before - loss <= max(_GAIN * before, 1e-15 * energy)
