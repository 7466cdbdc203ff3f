"""Scales between convolutions, and what eight bits make of them in ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx_models import Array, Net

import separable as sp
from separable.conv.conversion.fit import Fitter
from separable.conv.conversion.moments import Moments
from separable.conv.forms.equalise import EqualisedOn, equalised
from separable.conv.forms.layer import ConvLayer, Replacement

# Layers of one to three axes, with what scales have to take care of.
LAYERS = {
    "2-D": ((8, 6, 3, 3), {"padding": 1}, ("dw-pw", "pw-dw", "low-rank", "spatial")),
    "1-D, strided": ((8, 6, 5), {"stride": 2}, ("dw-pw", "pw-dw", "low-rank")),
    "3-D": ((6, 4, 3, 1, 3), {}, ("dw-pw", "spatial")),
    "3-D, three axes": ((6, 4, 3, 2, 3), {}, ("spatial", "low-rank")),
    "groups": ((8, 3, 3, 3), {"groups": 2}, ("dw-pw", "pw-dw", "low-rank", "spatial")),
}
CASES = [(name, form) for name, (_, _, forms) in LAYERS.items() for form in forms]


def layer_of(name: str) -> ConvLayer:
    shape, options, _ = LAYERS[name]
    weights = np.random.default_rng(0).standard_normal(shape)
    return ConvLayer("layer", weights, np.ones(shape[0]), sizes=(9,) * (len(shape) - 2), **options)


def seen(layer: ConvLayer, count: int = 24) -> Array:
    """Inputs as behind a rectifier, each channel of a size of its own."""
    rng = np.random.default_rng(1)
    x = np.maximum(rng.standard_normal((count, layer.c_in, *layer.sizes)) + 0.3, 0)
    return x * np.geomspace(0.1, 10, layer.c_in).reshape(-1, *(1,) * len(layer.sizes))


def fitted(layer: ConvLayer, form: str, rank: int | tuple[int, ...] = 2) -> Replacement:
    moments = Moments(layer)
    x = seen(layer)
    moments.add(x, layer(x))
    return Fitter(layer, moments).replacement(form, rank)


def unbalanced(replacement: Replacement) -> Replacement:
    """Multiply channels between the first two convolutions by 1/8 to 8 or less than 0, and undo it."""
    first, second, *others = replacement.convs
    scales = 8 ** np.random.default_rng(2).uniform(-1, 1, first.c_out)
    scales[::2] *= -1
    axes = (1,) * len(first.kernel)
    rows = second.weights.reshape(second.groups, -1, *second.weights.shape[1:])
    rows = rows / scales.reshape(second.groups, 1, -1, *axes)
    convs = (
        replace(first, weights=first.weights * scales.reshape(-1, 1, *axes)),
        replace(second, weights=rows.reshape(second.weights.shape)),
        *others,
    )
    return replace(replacement, convs=convs)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_nothing_changes_but_for_rounding(name: str, form: str) -> None:
    layer = layer_of(name)
    replacement, x = fitted(layer, form), seen(layer)
    new, wanted = equalised(replacement, x), replacement(x)
    assert (new.form, new.rank, new.error, new.macs) == (form, 2, replacement.error, replacement.macs)
    assert np.abs(new(x) - wanted).max() < 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_where_it_starts_does_not_matter(name: str, form: str) -> None:
    layer = layer_of(name)
    replacement, x = fitted(layer, form), seen(layer)
    found = [equalised(each, x).convs for each in (replacement, unbalanced(replacement))]
    for one, other in zip(*found, strict=True):
        ratio = np.abs(other.weights[one.weights != 0] / one.weights[one.weights != 0])
        assert ratio.max() / ratio.min() < 1.2


def test_uneven_ranks_and_channels_that_are_silent() -> None:
    layer = ConvLayer("layer", np.random.default_rng(0).standard_normal((8, 3, 3, 3)), sizes=(9, 9))
    replacement, x = fitted(layer, "dw-pw", (2, 1, 3)), seen(layer)
    x[:, 1] = 0
    new = equalised(replacement, x)
    assert all(np.isfinite(conv.weights).all() for conv in new.convs)
    assert np.abs(new(x) - replacement(x)).max() < 1e-12 * np.abs(replacement(x)).max()


def test_channels_reach_further_above_zero_than_below() -> None:
    layer = layer_of("2-D")
    replacement, x = unbalanced(fitted(layer, "dw-pw")), seen(layer)
    reaches = [
        (made.max(axis=(0, 2, 3)), -made.min(axis=(0, 2, 3)))
        for made in (each.convs[0](x) for each in (replacement, equalised(replacement, x)))
    ]
    assert not (reaches[0][0] >= reaches[0][1]).all()
    assert (reaches[1][0] >= reaches[1][1]).all()


def test_one_convolution_stays_as_it_is() -> None:
    layer = layer_of("2-D")
    dense = Replacement("dense", 0, (layer,), 0.0)
    assert equalised(dense, seen(layer)) is dense


# --- in ONNX Runtime ----------------------------------------------------------------------------------


class Reader:
    """Batches for the calibration of ONNX Runtime's quantiser."""

    def __init__(self, x: Array) -> None:
        self.batches: Iterator[dict[str, Array]] = iter([{"x": x}])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.batches, None)


def noise(replacement: Replacement, x: Array, folder: Path, per_channel: bool) -> float:
    """Return the squared change that static quantisation makes, over the output's variance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that it imports
        from onnxruntime.quantization import QuantFormat, quantize_static
    net = Net()
    current = net.input("x", ["N", *x.shape[1:]])
    for number, conv in enumerate(replacement.convs):
        label = net.constant(f"w{number}", conv.weights.astype(np.float32))
        pads = [before for before, _ in conv.padding] + [after for _, after in conv.padding]
        current = net.node("Conv", [current, label], f"conv{number}", group=conv.groups, pads=pads)
    path, small = folder / "model.onnx", folder / "small.onnx"
    onnx.save(net.model(current), path)
    # Weights of 7 bits: those of 8 saturate ONNX Runtime's sums on processors without VNNI.
    quantize_static(
        path, small, Reader(x), quant_format=QuantFormat.QDQ, per_channel=per_channel, reduce_range=True
    )
    wanted, got = (models.run(str(each), {"x": x})[0] for each in (path, small))
    return float(np.square(got - wanted).mean() / wanted.var())


@pytest.mark.parametrize(("form", "rank"), [("dw-pw", 2), ("pw-dw", 2), ("low-rank", 10)])
def test_eight_bits_cost_less_where_scales_were_off(form: str, rank: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layer = ConvLayer("layer", rng.standard_normal((16, 8, 3, 3)), None, padding=1, sizes=(9, 9))
    replacement, x = fitted(layer, form, rank), seen(layer).astype(np.float32)
    off = unbalanced(replacement)
    for per_channel in (True, False):
        before, after = (noise(each, x, tmp_path, per_channel) for each in (off, equalised(off, x)))
        assert after < 0.5 * before


def test_a_conversion_is_equalised_unless_asked_otherwise() -> None:
    model = models.vgg(width=8)
    x = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
    results = [
        sp.onnx.separate(model, x, rank=1, forms=["dw-pw"], threads=1, equalise=each)
        for each in (True, False)
    ]
    weights = [
        {each.name: onnx.numpy_helper.to_array(each) for each in r.model.graph.initializer} for r in results
    ]
    moved = [name for name in weights[0] if not np.allclose(weights[0][name], weights[1][name], rtol=1e-3)]
    assert {name.rpartition("/")[0] for name in moved} == {"conv0", "conv1", "conv2"}
    got, wanted = (models.run(each.model, {"image": x})[0] for each in results)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_what_ranges_come_from_does_not_depend_on_batches() -> None:
    layer = layer_of("2-D")
    x = seen(layer, 400).astype(np.float32)
    found = []
    for cut in (1, 7, 64, 400):
        ranges = EqualisedOn(layer)
        for start in range(0, len(x), cut):
            ranges.add(x[start : start + cut], len(x))
        found.append(ranges.equalised(fitted(layer, "dw-pw")))
    assert EqualisedOn(layer).inputs < len(x)
    for new in found[1:]:
        for one, other in zip(new.convs, found[0].convs, strict=True):
            np.testing.assert_array_equal(one.weights, other.weights)
    plain = fitted(layer, "dw-pw")
    assert EqualisedOn(layer).equalised(plain) is plain  # it has seen nothing


def test_ranges_come_from_windows_of_large_inputs() -> None:
    layer = replace(layer_of("2-D"), sizes=(200, 90))
    places = np.broadcast_to(np.arange(200.0 * 90).reshape(200, 90), (8, 6, 200, 90))
    ranges = EqualisedOn(layer)
    ranges.add(places)
    windows = np.stack(ranges._kept)
    assert windows.shape == (8, 6, 64, 64)
    assert len(set(windows[:, 0, 0, 0])) == 8  # each at another place
    x, plain = seen(layer, 8), fitted(layer_of("2-D"), "dw-pw")
    ranges = EqualisedOn(layer)
    ranges.add(x)
    reach = [
        np.abs(new.convs[0](x)).max(axis=(0, 2, 3)) for new in (equalised(plain, x), ranges.equalised(plain))
    ]
    np.testing.assert_allclose(reach[1] / reach[0], np.mean(reach[1] / reach[0]), rtol=0.2)
