"""The forms of a layer as sequences of convolutions: their ranks, their costs, and their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ..algebra.geometry import whole
from ..algebra.terms import (
    Array,
    Rank,
    balanced_terms,
    compose,
    layer_weights,
    rank_per_channel,
    weight_slices,
)
from .layer import FORMS, ConvLayer

__all__ = ["composed", "flat_weights", "form_cost", "full_rank", "stages"]


def full_rank(layer: ConvLayer, form: str) -> int:
    """Return the rank from which on a form can say everything that a layer does; 0 for a form it cannot have.

    Parameters
    ----------
    layer : ConvLayer
    form : str

    Returns
    -------
    int
    """
    outputs, inputs, taps = layer.c_out // layer.groups, layer.c_in // layer.groups, layer.taps
    if form == "dense":
        return 1
    if form == "dw-pw":
        return min(outputs, taps) if taps > 1 else 0
    if form == "pw-dw":
        return min(inputs, taps) if taps > 1 else 0
    if form == "low-rank":
        return min(inputs * taps, outputs)
    if form == "spatial":
        counts = [k for k in layer.kernel if k > 1]
        firsts = [inputs * math.prod(counts[:n]) for n in range(1, len(counts))]
        rests = [outputs * math.prod(counts[n:]) for n in range(1, len(counts))]
        return max((min(pair) for pair in zip(firsts, rests, strict=True)), default=0)
    raise ValueError(f"`form={form!r}` is unknown; expected one of {', '.join(map(repr, FORMS))}.")


def form_cost(layer: ConvLayer, form: str, rank: int) -> tuple[int, int]:
    """Return the MACs, for one input sample and all calls, and the parameters of a layer in a form.

    Parameters
    ----------
    layer : ConvLayer
    form : str
    rank : int

    Returns
    -------
    macs, params : int
        A bias of the last convolution included, but in "dense" only if the layer has one.
    """
    if form == "dense":
        return layer.macs, layer.params
    outputs, inputs, groups = layer.c_out, layer.c_in, layer.groups
    made, read = math.prod(layer.out_sizes), math.prod(layer.sizes)
    count = min(rank, full_rank(layer, form))
    if form in ("dw-pw", "pw-dw"):
        dots = outputs * inputs * count // groups
        filters = (inputs if form == "dw-pw" else outputs) * count * layer.taps
        dot_sizes = made if form == "dw-pw" else read
        return (dots * dot_sizes + filters * made) * layer.calls, dots + filters + outputs
    if form == "low-rank":
        first, last = groups * count * (inputs // groups) * layer.taps, outputs * count
        return (first + last) * made * layer.calls, first + last + outputs
    macs, params, sizes, before = 0, outputs, list(layer.sizes), inputs // groups
    counts = [k for k in layer.kernel if k > 1]
    for number, axes in enumerate(_spatial_axes(layer)):
        after = outputs // groups
        if number < len(counts) - 1:
            after = min(count, before * counts[number], outputs // groups * math.prod(counts[number + 1 :]))
        for axis in axes:
            sizes[axis] = layer.out_sizes[axis]
        weights = groups * before * after * counts[number]
        macs, params, before = macs + weights * math.prod(sizes), params + weights, after
    return macs * layer.calls, params


# -- from dense weights that have a form to its convolutions ----------------------------------------------


def stages(
    layer: ConvLayer, form: str, rank: Rank, weights: Array, bias: Array | None
) -> tuple[ConvLayer, ...]:
    """Write dense weights as the convolutions of a form.

    Exact where the weights have the rank, else the nearest in the Frobenius norm (for "spatial" in more
    than two dimensions near to it).

    Parameters
    ----------
    layer : ConvLayer
        The geometry.
    form : str
    rank : int or sequence of int
    weights : ndarray, shape ``(C_out, C_in/groups, *k)``
    bias : ndarray, shape ``(C_out,)``, or None

    Returns
    -------
    tuple of ConvLayer
        Only the last has a bias, so that samples of padding are the same before and after each of them.
    """
    if form == "dense":
        return (_stage(layer, "", weights, bias),)
    if form in ("dw-pw", "pw-dw"):
        return _term_stages(layer, form, rank, weights, bias)
    count = min(whole(rank, "rank"), full_rank(layer, form))
    if form == "low-rank":
        return _low_rank_stages(layer, count, weights, bias)
    return _spatial_stages(layer, count, weights, bias)


def _stage(
    layer: ConvLayer,
    suffix: str,
    weights: Array,
    bias: Array | None = None,
    *,
    axes: Iterable[int] | None = None,
    groups: int | None = None,
    sizes: tuple[int, ...] | None = None,
) -> ConvLayer:
    """Return a convolution with the layer's stride, dilation and padding along some axes (None: all)."""
    ndim = len(layer.kernel)
    chosen = range(ndim) if axes is None else set(axes)
    return ConvLayer(
        name=f"{layer.name}{suffix}",
        weights=weights,
        bias=bias,
        stride=tuple(layer.stride[a] if a in chosen else 1 for a in range(ndim)),
        padding=tuple(layer.padding[a] if a in chosen else (0, 0) for a in range(ndim)),
        dilation=tuple(layer.dilation[a] if a in chosen else 1 for a in range(ndim)),
        groups=layer.groups if groups is None else groups,
        padding_mode=layer.padding_mode,
        sizes=layer.sizes if sizes is None else sizes,
        calls=layer.calls,
    )


def _term_stages(
    layer: ConvLayer, form: str, rank: Rank, weights: Array, bias: Array | None
) -> tuple[ConvLayer, ...]:
    slices = weight_slices(weights, form, layer.groups)
    ranks = rank_per_channel(rank, len(slices))
    uneven = isinstance(rank, Iterable)
    terms = balanced_terms(slices, ranks)
    dtype = np.dtype(np.float64)
    depthwise, pointwise = layer_weights(terms, form, layer.groups, layer.kernel, dtype, uneven)
    dots = pointwise.reshape(*pointwise.shape, *(1,) * len(layer.kernel))
    if form == "dw-pw":
        first = _stage(layer, "/dw", depthwise, groups=len(depthwise) if uneven else layer.c_in)
        return first, _stage(layer, "/pw", dots, bias, axes=(), sizes=first.out_sizes)
    first = _stage(layer, "/pw", dots, axes=())
    return first, _stage(layer, "/dw", depthwise, bias, groups=layer.c_out)


def _low_rank_stages(
    layer: ConvLayer, rank: int, weights: Array, bias: Array | None
) -> tuple[ConvLayer, ...]:
    flat = weights.reshape(layer.groups, layer.c_out // layer.groups, -1)
    last, first = _balanced(flat, rank)
    reduce = _stage(layer, "/reduce", first.reshape(-1, *weights.shape[1:]))
    dots = last.reshape(layer.c_out, rank, *(1,) * len(layer.kernel))
    return reduce, _stage(layer, "/expand", dots, bias, axes=(), sizes=reduce.out_sizes)


def _balanced(matrices: Array, rank: int) -> tuple[Array, Array]:
    """Split matrices (..., m, n) into (..., m, rank) and (..., rank, n) of equal norms."""
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    roots = np.sqrt(values[..., :rank])
    return left[..., :rank] * roots[..., np.newaxis, :], right[..., :rank, :] * roots[..., np.newaxis]


def _spatial_axes(layer: ConvLayer) -> list[tuple[int, ...]]:
    """Return the axes that each convolution of "spatial" works along; those of one tap go with the first."""
    long = [axis for axis, taps in enumerate(layer.kernel) if taps > 1]
    short = [axis for axis, taps in enumerate(layer.kernel) if taps == 1]
    return [tuple(sorted((long[0], *short))), *((axis,) for axis in long[1:])]


def _spatial_stages(layer: ConvLayer, rank: int, weights: Array, bias: Array | None) -> tuple[ConvLayer, ...]:
    groups, outputs = layer.groups, layer.c_out // layer.groups
    # For each group (I, k1, k2, ..., O), without axes of one tap; then axis after axis is split off.
    left = np.moveaxis(weights.reshape(groups, outputs, *weights.shape[1:]), 1, -1)
    counts = [k for k in layer.kernel if k > 1]
    inputs, sizes = layer.c_in // groups, layer.sizes
    found: list[ConvLayer] = []
    for number, axes in enumerate(_spatial_axes(layer)):
        taps, last = counts[number], number == len(counts) - 1
        shape = tuple(taps if layer.kernel[a] > 1 and a in axes else 1 for a in range(len(layer.kernel)))
        if last:
            rows, hidden = left.reshape(groups, inputs * taps, outputs).swapaxes(1, 2), outputs
        else:
            matrix = left.reshape(groups, inputs * taps, -1)
            hidden = min(rank, *matrix.shape[1:])
            rest, rows = _balanced(matrix.swapaxes(1, 2), hidden)
            left = rest.swapaxes(1, 2)
        made = _stage(
            layer,
            f"/{'xyzuvw'[number] if number < 6 else number}",
            rows.reshape(groups * hidden, inputs, *shape),
            bias if last else None,
            axes=axes,
            sizes=sizes,
        )
        found.append(made)
        inputs, sizes = hidden, made.out_sizes
    return tuple(found)


def composed(layer: ConvLayer, form: str, rank: Rank, convs: Sequence[ConvLayer]) -> Array:
    """Return the dense weights that the convolutions of a form amount to: the inverse of :func:`stages`.

    Parameters
    ----------
    layer : ConvLayer
    form : str
    rank : int or sequence of int
    convs : sequence of ConvLayer

    Returns
    -------
    ndarray, shape ``(C_out, C_in/groups, *k)``
    """
    first, *others = (conv.weights for conv in convs)
    if form == "dense":
        return first
    if form in ("dw-pw", "pw-dw"):
        depthwise, pointwise = (first, others[0]) if form == "dw-pw" else (others[0], first)
        return np.asarray(compose(depthwise, pointwise, form, rank=rank, groups=layer.groups), np.float64)
    total = first.reshape(layer.groups, -1, *first.shape[1:])
    for weights in others:
        grouped = weights.reshape(layer.groups, -1, *weights.shape[1:])
        # Each convolution has one tap along the axes of the others, so that kernels multiply by broadcasting.
        total = np.einsum("goh...,ghi...->goi...", grouped, total)
    return total.reshape(layer.weights.shape)


def flat_weights(layer: ConvLayer, weights: Array) -> list[Array]:
    """Return dense weights as a matrix ``(I*K, O)`` for each group."""
    return [rows.reshape(len(rows), -1).T for rows in np.split(weights, layer.groups)]
