"""What the plugin of napari computes: axes, recipes, parts, slices, levels. Without napari and Qt."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import separable as sp
from separable.napari import job as jobs
from separable.napari import slices
from separable.napari.axes import LayerAxis, axes_of, usual
from separable.napari.job import FilterJob, is_lazy, levels_of
from separable.napari.recipe import BOX, FILTERS, GAUSSIAN, GRADIENT, LAPLACE, LayerRecipe, odd
from separable.napari.run import LayerResult, steps
from separable.napari.slices import Look, limits_of, sight

VALUES = np.random.default_rng(0).integers(0, 60000, (12, 50, 60)).astype("u2")
SPACING = (2.0, 0.5, 0.5)
SIGMA = (2.0, 1.5, 1.0)


def layer(values: Any = VALUES, **facts: Any) -> Any:
    """Stand in for an image layer of napari."""
    ndim = facts.pop("ndim", values.ndim)
    known = {"scale": (1.0,) * ndim, "multiscale": False, "rgb": False, "data": values, "ndim": ndim}
    return SimpleNamespace(**known | facts)


def unit(name: str, short: str, quantity: str) -> Any:
    class Unit:
        dimensionality = quantity
        __str__ = lambda self: name  # noqa: E731
        __format__ = lambda self, spec: short  # noqa: E731

    return Unit()


MICRON, SECOND = unit("micrometer", "µm", "[length]"), unit("second", "s", "[time]")
PIXEL = unit("pixel", "px", "[printing_unit]")


def axes(values: Any = VALUES, spacing: Any = SPACING) -> tuple[LayerAxis, ...]:
    return axes_of(layer(values, scale=spacing, units=(MICRON,) * values.ndim))


def whole(recipe: LayerRecipe, values: Any = VALUES) -> Any:
    job = FilterJob(recipe, values.shape, values.dtype)
    result = np.empty(values.shape, job.dtype)
    assert list(job.steps(values, result))[-1] == 1
    return result


def test_axes_have_the_layer_s_names_units_and_lengths_but_not_its_colours() -> None:
    scan = layer(scale=(3.0, -0.5, 0.5), units=(SECOND, MICRON, PIXEL), axis_labels=("t", "-2", "x"))
    assert axes_of(scan) == (
        LayerAxis(0, "t", 12, 3.0, "s", "[time]"),
        LayerAxis(1, "axis 1", 50, 0.5, "µm", "[length]"),
        LayerAxis(2, "x", 60, 0.5, "", ""),
    )
    photo = layer(np.zeros((8, 9, 3), "u1"), ndim=2)
    assert [axis.length for axis in axes_of(photo)] == [8, 9]


def test_time_and_channels_are_not_filtered_unless_the_user_says_so() -> None:
    named = layer(scale=SPACING, units=(SECOND, MICRON, MICRON), axis_labels=("t", "y", "x"))
    assert usual(axes_of(named), (1, 2)) == (1, 2)
    assert usual(axes(), (1, 2)) == (0, 1, 2)  # micrometres
    assert usual(axes_of(layer()), (1, 2)) == (1, 2)  # who knows what the first one is
    assert usual(axes_of(layer()), (0, 1, 2)) == (0, 1, 2)  # shown in 3D
    channels = layer(units=(MICRON,) * 3, axis_labels=("c", "y", "x"))
    assert usual(axes_of(channels), (1, 2)) == (1, 2)
    assert usual(axes_of(layer(np.zeros((1, 5, 5)), units=(MICRON,) * 3)), (1, 2)) == (1, 2)


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
@pytest.mark.parametrize("part", [1 << 26, 2000])
def test_widths_are_in_units_and_parts_have_the_bits_of_the_verbs(
    mode: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PART", part)
    smooth = whole(LayerRecipe(GAUSSIAN, axes(), SIGMA, mode))
    how: dict[str, Any] = {"spacing": SPACING, "mode": mode}
    assert_array_equal(smooth, sp.gaussian(VALUES, SIGMA, output="u2", method="separable", **how))
    means = whole(LayerRecipe(BOX, axes(), (6.0, 2.5, 1.0), mode))
    assert_array_equal(means, sp.uniform(VALUES, (3, 5, 3), output="u2", mode=mode))
    orders = np.eye(3, dtype=int)
    slopes = [sp.gaussian(VALUES, SIGMA, order=tuple(order), **how) for order in orders]
    slope = whole(LayerRecipe(GRADIENT, axes(), SIGMA, mode))
    assert slope.dtype == np.float32
    assert_allclose(slope, np.sqrt(sum(np.square(along, dtype="f8") for along in slopes)), rtol=1e-5)
    curves = [sp.gaussian(VALUES.astype("f8"), SIGMA, order=tuple(2 * order), **how) for order in orders]
    curve = whole(LayerRecipe(LAPLACE, axes(), SIGMA, mode))
    assert_allclose(curve, sum(curves), rtol=1e-4, atol=1e-5 * np.abs(curve).max())


def test_a_gradient_is_by_the_units() -> None:
    ramp = np.broadcast_to(3.0 * 0.5 * np.arange(60.0), (50, 60))  # 3 a unit
    slope = whole(LayerRecipe(GRADIENT, axes(ramp, (0.25, 0.5)), (1.0, 1.0), "nearest"), ramp)
    assert_allclose(slope[:, 10:-10], 3.0)
    bowl = np.square(0.25 * np.arange(50.0))[:, None] + np.zeros(60)
    curve = whole(LayerRecipe(LAPLACE, axes(bowl, (0.25, 0.5)), (1.0, 1.0), "nearest"), bowl)
    assert_allclose(curve[20:-20], 2.0)


def test_a_laplacian_of_a_narrow_gaussian() -> None:
    spike = np.zeros((9, 9))
    spike[4, 4] = 1.0
    curve = whole(LayerRecipe(LAPLACE, axes(spike, (1.0, 1.0)), (0.1, 0.1)), spike)
    expected = np.zeros((9, 9))
    expected[4, 3:6] = expected[3:6, 4] = 1.0
    expected[4, 4] = -4.0
    assert_allclose(curve, expected, atol=1e-12)


@pytest.mark.parametrize(("kind", "dtype", "stored"), [
    (GAUSSIAN, "u1", "u1"), (BOX, "i2", "i2"), (GAUSSIAN, "f2", "f2"), (GAUSSIAN, "f8", "f8"),
    (GAUSSIAN, "?", "f4"), (GRADIENT, "u1", "f4"), (LAPLACE, "i4", "f8"),
])  # fmt: skip
def test_dtypes(kind: str, dtype: str, stored: str) -> None:
    values = (VALUES[0] // 600).astype(dtype)
    result = whole(LayerRecipe(kind, axes(values, (1.0, 1.0)), (2.0, 2.0)), values)
    assert result.dtype == stored
    plain = whole(LayerRecipe(kind, axes(values, (1.0, 1.0)), (2.0, 2.0), keeps_dtype=False), values)
    assert plain.dtype == sp.gaussian(values, 1).dtype


def test_axes_that_are_not_filtered_stay_apart() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype("u1")
    own = axes_of(layer(photo, ndim=2))
    assert_array_equal(
        whole(LayerRecipe(GAUSSIAN, own, (1.5, 1.5)), photo),
        sp.gaussian(photo, 1.5, channel_axis=-1, output="u1"),
    )
    assert_array_equal(
        whole(LayerRecipe(GAUSSIAN, axes()[1:], (1.0, 1.0))), sp.gaussian(VALUES, 2, axes=(1, 2), output="u2")
    )


def test_what_makes_no_sense_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="No axis is filtered: tick one"):
        LayerRecipe(GAUSSIAN, (), ()).check(False)
    with pytest.raises(ValueError, match="split the layer first"):
        LayerRecipe(GRADIENT, axes(), SIGMA).check(True)
    mixed = axes_of(layer(units=(SECOND, MICRON, MICRON), axis_labels=("t", "y", "x")))
    with pytest.raises(ValueError, match=r"t in s, y in µm, x in µm.*untick one"):
        LayerRecipe(LAPLACE, mixed, SIGMA).check(False)
    LayerRecipe(GAUSSIAN, mixed, SIGMA).check(True)


def test_boxes_are_odd() -> None:
    assert [odd(width, 0.5) for width in (0, 0.4, 0.9, 1.4, 1.6, 2.4, 2.6)] == [1, 1, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("kind", FILTERS)
def test_dask_gives_the_same_bits_and_reads_nothing_before(kind: str) -> None:
    da = pytest.importorskip("dask.array")
    recipe = LayerRecipe(kind, axes(), SIGMA)
    job = FilterJob(recipe, VALUES.shape, VALUES.dtype)

    def read(block: Any) -> Any:
        counted.append(block.shape)
        return block

    counted: list[Any] = []
    source = da.from_array(VALUES, chunks=(5, 20, 60)).map_blocks(
        read, dtype="u2", meta=np.empty((0, 0, 0), "u2")
    )
    result = job.lazily(source)
    assert (result.chunks, result.dtype, counted) == (source.chunks, job.dtype, [])
    assert_array_equal(result.compute(), whole(recipe))
    assert counted


def test_what_is_large_or_not_in_memory_goes_through_dask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    da = pytest.importorskip("dask.array")
    from separable._base import foreign

    np.save(tmp_path / "scan.npy", VALUES)
    mapped = np.load(tmp_path / "scan.npy", mmap_mode="r")
    recipe = LayerRecipe(GAUSSIAN, axes(), SIGMA)
    for source in (mapped, da.from_array(VALUES)):
        look = Look(recipe, (source,), 0, (1, 2), (0.0, 0.0, 0.0), ((0, 0),) * 3, False)
        assert "lazily by Dask, uint16" in sight(look).plan
        outcome = outcome_of(look)
        assert isinstance(outcome.data, da.Array)
        assert_array_equal(outcome.data.compute(), whole(recipe))
    assert not is_lazy(VALUES, np.dtype("u2"))
    monkeypatch.setattr(foreign, "_free_memory", lambda: 3.0 * VALUES.nbytes)
    assert not is_lazy(VALUES, np.dtype("u2"))  # too small to ask
    monkeypatch.setattr(foreign, "_SMALL", 0)
    assert is_lazy(VALUES, np.dtype("u2"))
    monkeypatch.setattr(foreign, "_free_memory", lambda: 5.0 * VALUES.nbytes)
    assert not is_lazy(VALUES, np.dtype("u2"))
    assert is_lazy(VALUES, np.dtype("f4"))  # the result is twice as large
    assert isinstance(
        outcome_of(look._replace(levels=(VALUES,), recipe=LayerRecipe(GRADIENT, axes(), SIGMA))).data,
        da.Array,
    )


def outcome_of(look: Look) -> LayerResult:
    running = steps(look)
    while True:
        try:
            next(running)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_a_preview_is_the_slice_of_the_result(kind: str, mode: str) -> None:
    recipe = LayerRecipe(kind, axes(), SIGMA, mode, keeps_dtype=False)
    result = whole(recipe)
    for index in (0, 5, 11):
        look = Look(recipe, (VALUES,), 0, (1, 2), (index + 0.2, 0.0, 0.0), ((0, 49),) * 3, True)
        seen = sight(look)
        assert_array_equal(seen.values, result[index : index + 1])
        assert (seen.corner, seen.step, seen.cropped) == ((index, 0, 0), (1, 1, 1), False)
    side = sight(look._replace(shown=(0, 2), point=(0.0, 7.0, 0.0)))
    assert_array_equal(side.values, result[:, 7:8])
    assert sight(look._replace(point=(12.0, 0.0, 0.0))).values is None  # beyond the layer
    assert sight(look._replace(previews=False)).values is None


def test_a_large_slice_is_previewed_where_the_window_is(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = LayerRecipe(GAUSSIAN, axes()[1:], (1.0, 1.0), keeps_dtype=False)
    result = whole(recipe)
    monkeypatch.setattr(slices, "_MOST", 2000)
    look = Look(recipe, (VALUES,), 0, (1, 2), (3.0, 0.0, 0.0), ((0, 0), (10, 19), (-7, 20)), True)
    seen = sight(look)
    assert seen.cropped
    assert_array_equal(seen.values, result[3:4, 10:20, :21])
    assert seen.corner == (3, 10, 0)
    outside = sight(look._replace(view=((0, 0), (80, 90), (0, 59))))
    rows, columns = (int(place) for place in outside.corner[1:])
    assert outside.values is not None
    assert_array_equal(
        outside.values[0], result[3, rows:, columns:][: outside.values.shape[1], : outside.values.shape[2]]
    )
    assert 0 < outside.values.size <= 2000


def test_all_levels_of_a_layer_are_filtered_by_the_same_width() -> None:
    pytest.importorskip("dask.array")
    levels = (VALUES, VALUES[:, ::2, ::2], VALUES[:, ::4, ::4])
    recipe = LayerRecipe(GAUSSIAN, axes(), SIGMA)
    results = levels_of(recipe, levels)
    assert [result.shape for result in results] == [level.shape for level in levels]
    small = sp.gaussian(levels[1], (1.0, 1.5, 1.0), output="u2", method="separable")
    assert_array_equal(results[1].compute(), small)
    look = Look(recipe, levels, 1, (1, 2), (4.0, 0.0, 0.0), ((0, 24),) * 3, True)
    seen = sight(look)
    assert "each level of the layer" in seen.plan
    assert seen.step == (1, 2, 2)
    assert_allclose(np.asarray(seen.values, int), small[4:5].astype(int), atol=1)
    curved = outcome_of(look._replace(recipe=LayerRecipe(LAPLACE, axes()[1:], (0.35, 0.35)), level=0))
    assert [level.shape for level in curved.data] == [level.shape for level in levels]
    assert curved.limits is not None


def test_limits_of_contrast_are_finite_and_apart() -> None:
    assert limits_of(np.array([np.nan, -1.5, np.inf, 4.0])) == (-1.5, 4.0)
    assert limits_of(np.array([3, 3], "f4")) == (3.0, 4.0)
    assert limits_of(np.array([np.nan, np.inf])) is None


def test_plans_name_the_axes_of_the_layer() -> None:
    named = axes_of(layer(scale=SPACING, axis_labels=("depth", "y", "x")))
    seen = sight(
        Look(LayerRecipe(GRADIENT, named, SIGMA), (VALUES,), 0, (1, 2), (0.0,) * 3, ((0, 0),) * 3, False)
    )
    assert seen.plan.startswith(
        "3 kernels, one for each axis; the first:\n9x25x17 kernel on (12, 50, 60) float32"
    )
    assert "\n  depth  9 taps" in seen.plan
    assert seen.plan.endswith("in memory, float32")
    assert (
        str(LayerRecipe(GAUSSIAN, axes(), SIGMA))
        == "Gaussian, axis 0 2 µm, axis 1 1.5 µm, axis 2 1 µm, reflect"
    )


def test_without_napari_the_widget_names_the_extra() -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(("napari", "qtpy", "superqt"))
import separable.napari.run
try:
    import separable.napari.widget
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'separable[napari]'" in done.stdout, done.stderr
