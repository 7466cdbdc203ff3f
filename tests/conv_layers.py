"""Convolution layers of every geometry, and data for them, for the tests of the conversion."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from separable.conv import ConvLayer
from separable.conv.forms.layer import PADDING_MODES


def layer_of(
    rng: np.random.Generator,
    shape: tuple[int, ...] = (6, 5, 3, 3),
    sizes: tuple[int, ...] = (9, 8),
    **options: object,
) -> ConvLayer:
    """Return a layer of normal weights and a bias; 'same' padding where nothing else is said."""
    options = {"padding": tuple((k // 2, k // 2) for k in shape[2:]), **options}
    weights = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return ConvLayer("layer", weights, rng.standard_normal(shape[0]), sizes=sizes, **options)


def inputs_of(rng: np.random.Generator, layer: ConvLayer, count: int = 6) -> np.ndarray:
    """Return inputs with neighbours and channels that resemble each other, as those of a network do."""
    x = rng.standard_normal((count, layer.c_in, *layer.sizes))
    for axis in range(2, x.ndim):
        x = x + 0.7 * np.roll(x, 1, axis)
    mixing = np.eye(layer.c_in) + 0.3 * rng.standard_normal((layer.c_in, layer.c_in))
    return np.einsum("oi,ni...->no...", mixing, x) + rng.standard_normal((layer.c_in, *(1,) * (x.ndim - 2)))


@st.composite
def layers(draw: st.DrawFn) -> ConvLayer:
    """Draw a layer of one, two or three axes, transposed or not, with every option of a convolution."""
    ndim = draw(st.sampled_from((1, 2, 2, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    kernel = tuple(draw(st.integers(1, 4 if ndim < 3 else 3)) for _ in range(ndim))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(ndim))
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(ndim))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = tuple(max(r, 3) + draw(st.integers(0, 3)) for r in reach)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (groups * draw(st.integers(1, 4)), draw(st.integers(1, 4)), *kernel)
    transposed = draw(st.sampled_from((False, False, True)))
    steps = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    return ConvLayer(
        "drawn",
        rng.standard_normal(shape),
        rng.standard_normal(shape[0]) if draw(st.booleans()) else None,
        stride=() if transposed else steps,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode="zeros" if transposed else draw(st.sampled_from(tuple(PADDING_MODES))),
        sizes=sizes,
        input_dilation=steps if transposed else (),
        transposed=transposed,
    )
