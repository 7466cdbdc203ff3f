"""OME-Zarr pictures: levels are exact and lie where they say, metadata and memory are kept, runs killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import separable as sp
from separable import files
from separable.stream.ome import reduction
from separable.stream.ome.geometry import OmeLevel, Pyramid, levels_of, placed
from separable.stream.ome.metadata import OmeAxis, OmePicture, rendering_of
from separable.stream.ome.stack import LevelStack
from separable.stream.ome.target import SUFFIX
from separable.stream.parts import Region
from separable.stream.places.place import all_of
from separable.stream.places.zarrs import ZarrForm, ZarrTarget

zarr = pytest.importorskip("zarr")

Array = np.ndarray[Any, Any]
EXAMPLES = int(os.environ.get("SEPARABLE_EXAMPLES", "60"))
KERNEL = sp.families.gaussian([1.0, 1.5, 1.5])


def volume(shape: tuple[int, ...] = (70, 45, 52), dtype: str = "u2") -> Array:
    return np.random.default_rng(7).integers(0, 60000 if dtype != "u1" else 250, shape).astype(dtype)


def level(target: Path, number: int) -> Array:
    whole: Array = zarr.open(str(target / str(number)), mode="r")[:]
    return whole


def said(target: Path) -> dict[str, Any]:
    ome: dict[str, Any] = json.loads((target / "zarr.json").read_text())["attributes"]["ome"]
    return ome


def places(target: Path) -> list[tuple[list[float], list[float]]]:
    """Return scale and translation of each level."""
    (picture,) = said(target)["multiscales"]
    found = []
    for data_set in picture["datasets"]:
        steps = {step["type"]: step[step["type"]] for step in data_set["coordinateTransformations"]}
        found.append((steps["scale"], steps.get("translation", [0.0] * len(picture["axes"]))))
    return found


def means(x: Array, factors: tuple[int, ...]) -> Array:
    """Return means of blocks by NumPy, in float64; those at the ends of what there is."""
    padded = np.pad(
        x.astype(float),
        [(0, -n % f) for n, f in zip(x.shape, factors, strict=True)],
        constant_values=np.nan,
    )
    cut = [number for n, f in zip(padded.shape, factors, strict=True) for number in (n // f, f)]
    blocks = padded.reshape(cut)
    return np.nanmean(blocks, axis=tuple(range(1, 2 * x.ndim, 2)))


# -- levels of arrays --------------------------------------------------------------------------------

KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?", "f2", "f4", "f8", "c8"]


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Array, tuple[OmeLevel, ...], list[int]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ndim, dtype = draw(st.integers(1, 3)), np.dtype(draw(st.sampled_from(KINDS)))
    shape = tuple(draw(st.integers(1, 17)) for _ in range(ndim))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        if draw(st.booleans()):  # sums that are as large as they become, and halves
            x = np.where(rng.random(shape) < 0.5, info.max, info.min).astype(dtype)
    else:
        x = (rng.standard_normal(shape) * 100).astype(dtype) if dtype.kind != "b" else rng.random(shape) < 0.5
    spatial = draw(st.sets(st.integers(0, ndim - 1)))
    steps = [draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])) for _ in range(ndim)]
    made = levels_of(shape, sorted(spatial), steps, (2,) * ndim, Pyramid(None, "mean", draw(st.booleans())))
    return x, made, [draw(st.integers(1, 6)) for _ in range(20)]


def rounded(block: Array) -> int:
    exact = Fraction(sum(int(sample) for sample in block.ravel()), block.size)
    return round(exact)  # halves to even


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrays(), st.sampled_from([1, 30, 1000]))
def test_levels_are_exact_however_rows_come(
    case: tuple[Array, tuple[OmeLevel, ...], list[int]], block: int
) -> None:
    x, made, cuts = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reduction, "_BLOCK", block)
        for kind in (reduction.LevelMeans, reduction.LevelSamples):
            results = [np.zeros(one.shape, x.dtype) for one in made]
            done, place, reduce = [0] * len(made), 0, kind(made, x.dtype)
            for cut in [*cuts, len(x)]:
                for number, first, rows in reduce.take(x[place : place + cut]):
                    assert first == done[number]
                    results[number][first : first + len(rows)] = rows
                    done[number] += len(rows)
                place = min(place + cut, len(x))
            for number, one in enumerate(made[1:], 1):
                assert done[number] == one.shape[0]
                check(results[number], x, one, kind is reduction.LevelSamples)


def check(result: Array, x: Array, one: OmeLevel, sampled: bool) -> None:
    if sampled:
        np.testing.assert_array_equal(result, x[tuple(slice(None, None, f) for f in one.factors)])
        return
    for place in np.ndindex(*one.shape):
        block = x[tuple(slice(i * f, (i + 1) * f) for i, f in zip(place, one.factors, strict=True))]
        if x.dtype.kind in "biu":
            assert result[place] == rounded(block)
        else:
            wide = block.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
            far = 2e-3 if x.dtype == np.float16 else 1e-5
            np.testing.assert_allclose(result[place], wide.mean().astype(x.dtype), rtol=far, atol=1e-4)


def test_means_of_the_largest_floats_do_not_overflow() -> None:
    x = np.full((8, 8, 8), 1.7e308)
    made = levels_of(x.shape, (0, 1, 2), (None,) * 3, (1, 1, 1), Pyramid(None))
    for _, _, rows in reduction.LevelMeans(made, x.dtype).take(x):
        np.testing.assert_array_equal(rows, 1.7e308)


@pytest.mark.parametrize("rows", [4, 8, 12, 20, 64, 150])
@pytest.mark.parametrize("width", [None, 16])
@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_rows_that_wait_take_no_more_than_is_said(
    tmp_path: Path, kind: Any, width: int | None, rows: int
) -> None:
    x = volume((150, 40, 24))
    levels = levels_of(x.shape, (0, 1, 2), (None,) * 3, (8,) * 3, Pyramid(3))
    form = ZarrForm((4, 8, 8))
    places = [tmp_path / str(number) for number in range(3)]
    arrays = [
        ZarrTarget(tmp_path, one.shape, x.dtype, form, "C", place)
        for one, place in zip(levels, places, strict=True)
    ]
    for array in arrays:
        array.begin(False)
    stack = LevelStack(arrays, levels, x.dtype, kind)
    assert stack.columns == 4
    most = 0
    for left in range(0, 40, width or 40):
        columns = None if width is None else (left, min(left + width, 40))
        for begin in range(0, 150, rows):
            part = Region((begin, min(begin + rows, 150)), columns)
            all_of(stack.pieces(part, x[tuple(slice(*own) for own in part.box(x.shape))]))
            all_of(stack.complete())
            most = max(most, sum(waiting._memory.nbytes for waiting in stack._waiting))
    assert 0 < most <= stack.waiting_bytes(min(rows, 150), width)
    for number, one in enumerate(levels[1:], 1):
        f = one.factors[0]
        expected = np.rint(means(x, one.factors)) if kind == "mean" else x[::f, ::f, ::f]
        np.testing.assert_array_equal(zarr.open(str(places[number]), mode="r")[:], expected)


def test_sums_of_times_and_channels_are_made_in_strips(tmp_path: Path) -> None:
    """A row of t, c, z, y, x is a volume: no thread sums up all of it at once."""
    shape = (4, 2, 100, 1024, 1024)
    levels = levels_of(shape, (2, 3, 4), (None,) * 5, (1, 1, 64, 64, 64), Pyramid(5))
    arrays = [
        ZarrTarget(tmp_path, one.shape, np.dtype("f4"), ZarrForm((1, 1, 64, 64, 64)), "C") for one in levels
    ]
    assert LevelStack(arrays, levels, np.dtype("f4"), "mean").thread_bytes < 48 << 20


def test_axes_are_halved_until_they_are_short_or_alike() -> None:
    def factors(*words: Any) -> list[tuple[int, ...]]:
        return [one.factors for one in levels_of(*words)]

    every = Pyramid(None)
    assert factors((100, 64, 5), (0, 1, 2), (None,) * 3, (32,) * 3, every) == [(1,) * 3, (2,) * 3, (4,) * 3]
    assert factors((3, 300, 2), (1, 2), (None,) * 3, (1, 40, 40), every)[-1] == (1, 8, 2)  # 2 is 1 at once
    steps, alike = (2.0, 0.5, 0.5), Pyramid(4, "mean", True)
    assert factors((50, 400, 400), (0, 1, 2), steps, (32,) * 3, alike) == [
        (1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"levels=9` is more than there are: 3, the last of shape \(1, 1\)"):
        levels_of((3, 3), (0, 1), (None, None), (9, 9), Pyramid(9))
    with pytest.raises(ValueError, match=r"`isotropic` goes by the distance.*none for axis 0; leave it out"):
        levels_of((3, 3), (0, 1), (None, 1.0), (9, 9), alike)
    one = OmeLevel((2, 2), (4, 1))
    assert placed(one, (0.5, 2.0), (10.0, 0.0), "mean") == ((2.0, 2.0), (10.75, 0.0))
    assert placed(one, (0.5, 2.0), (10.0, 0.0), "sample") == ((2.0, 2.0), (10.0, 0.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"levels": 0}, "levels=0` is no number of levels"),
        ({"levels": 2.5}, "levels=2.5` is no number of levels"),
        ({"reduction": "median"}, "reduction='median'` is unknown; expected 'mean' or 'sample'"),
        ({"mask": np.ones((9, 9, 9), bool)}, "go with a kernel"),
        ({"levels": 9}, "levels=9` is more than there are: 5"),
        ({"target": "y.npy"}, "y.npy'`: smaller levels go into OME-Zarr"),
        ({"target": np.zeros((9, 9, 9))}, "type ndarray: smaller levels go into OME-Zarr"),
    ],
)
def test_what_no_picture_can_be_is_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    asked: dict[str, Any] = {"target": tmp_path / "y.ome.zarr", "memory": "4GiB", **wrong}
    with pytest.raises(ValueError, match=message):
        sp.stream.pyramid(np.zeros((9, 9, 9)), **asked)
    with pytest.raises(ValueError, match=r"pyramid=-1` is no number of smaller levels"):
        sp.stream.plan(np.zeros((9, 9, 9)), None, pyramid=-1)
    assert list(tmp_path.iterdir()) == []


# -- pictures ----------------------------------------------------------------------------------------


def picture(path: Path, x: Array, version: str = "0.5", axes: str = "zyx", **more: Any) -> Path:
    """Write an OME-Zarr picture of one level with scale and translation."""
    kinds = {"c": {"type": "channel"}, "t": {"type": "time", "unit": "second"}}
    named = [{"name": name, **kinds.get(name, {"type": "space", "unit": "micrometer"})} for name in axes]
    steps = [
        {"type": "scale", "scale": [{"z": 2.0, "c": 1.0, "t": 3.5}.get(name, 0.5) for name in axes]},
        {"type": "translation", "translation": [{"z": 100.0}.get(name, 0.0) for name in axes]},
    ]
    scales = [
        {"name": "cells", "axes": named, "datasets": [{"path": "s0", "coordinateTransformations": steps}]}
    ]
    if version == "0.4":
        scales[0]["version"] = "0.4"
    inner = {"multiscales": scales, **more}
    content: Any = {"ome": {"version": "0.5", **inner}} if version == "0.5" else inner
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2, attributes=content)
    group.create_array("s0", shape=x.shape, dtype=x.dtype, chunks=(16,) * x.ndim)[:] = x
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_filtered_picture_keeps_axes_units_scale_and_translation(tmp_path: Path, version: str) -> None:
    x = volume()
    source, target = picture(tmp_path / "x.zarr", x, version), tmp_path / f"y{SUFFIX}"
    sp.stream.filter(source, target, KERNEL, memory="4GiB", dtype="u2")
    np.testing.assert_array_equal(level(target, 0), sp.correlate(x, KERNEL, output="u2"))
    ome = said(target)
    (one,) = ome["multiscales"]
    assert (ome["version"], one["name"]) == ("0.5", "cells")
    assert one["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    assert places(target) == [([2.0, 0.5, 0.5], [100.0, 0.0, 0.0])]
    stored = zarr.open(str(target / "0"), mode="r")
    assert stored.metadata.dimension_names == ("z", "y", "x")
    assert stored.chunks == (16, 16, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr", "y.ome.zarr"]
    again = sp.stream.plan(target, KERNEL, target=tmp_path / "z.zarr", memory="4GiB")
    assert again.shape == x.shape  # the largest level is found


@pytest.mark.parametrize("shards", [None, (32, 32, 32)])
@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_levels_are_made_of_the_filtered_picture(tmp_path: Path, kind: Any, shards: Any) -> None:
    x = volume()
    source, target = tmp_path / "x.zarr", tmp_path / "y.zarr"
    zarr.create_array(str(source), data=x, chunks=(16, 16, 16), shards=shards, dimension_names=tuple("zyx"))
    sp.stream.pyramid(source, target, levels=4, kernel=KERNEL, reduction=kind, dtype="u2", memory="4GiB")
    whole = level(target, 0)
    np.testing.assert_array_equal(whole, sp.correlate(x, KERNEL, output="u2"))
    for number in range(1, 4):
        f = 2**number
        expected = np.rint(means(whole, (f,) * 3)) if kind == "mean" else whole[::f, ::f, ::f]
        np.testing.assert_array_equal(level(target, number), expected)
        scale, translation = places(target)[number]
        assert scale == [f, f, f]
        assert translation == ([(f - 1) / 2] * 3 if kind == "mean" else [0.0] * 3)
    assert (zarr.open(str(target / "1"), mode="r").shards is None) == (shards is None)


@pytest.mark.parametrize("width", [16, 32, 48])
@pytest.mark.parametrize("shards", [None, (16, 32, 32)])
@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_columns_give_the_bytes_of_slabs(tmp_path: Path, kind: Any, shards: Any, width: int) -> None:
    """Columns end within chunks, and shards, of smaller levels: the next one fills them up."""
    x = volume((70, 101, 52))
    source = tmp_path / "x.zarr"
    zarr.create_array(str(source), data=x, chunks=(8, 16, 16), shards=shards)
    targets = tmp_path / "y.zarr", tmp_path / "z.zarr"
    for target in targets:
        asked: dict[str, Any] = {"target": target, "memory": "4GiB", "pyramid": 3, "reduction": kind}
        plan = sp.stream.plan(source, KERNEL, dtype="u2", **asked)
        if target is targets[1]:
            wide = max(width, 32 if shards else 0)
            plan = dataclasses.replace(plan, unit=16, width=wide, overlapped=bool(width % 32))
        plan.run()
    assert contents(targets[1]) == contents(targets[0])


def test_a_pyramid_fits_where_a_slab_does_not(tmp_path: Path) -> None:
    """Least memory is that of a column; levels do not need chunks of all the cross-section."""
    x = zarr.create_array(str(tmp_path / "x.zarr"), shape=(256, 1024, 1024), dtype="f4", chunks=(64,) * 3)
    asked: dict[str, Any] = {"target": tmp_path / "y.ome.zarr", "memory": "300MiB"}
    alone = sp.stream.plan(x, KERNEL, **asked)
    plan = sp.stream.plan(x, KERNEL, pyramid=4, **asked)
    assert plan.width is not None
    assert plan.width % 64 == 0
    assert plan.least_memory < alone.least_memory + (40 << 20)
    deep = sp.stream.plan(x, KERNEL, pyramid=7, **{**asked, "memory": "400MiB"})
    assert deep.width is not None
    assert deep.width % 128 == 0  # no sample of a level is cut in two


def test_channels_and_times_are_not_halved_and_their_looks_are_kept(tmp_path: Path) -> None:
    x = volume((2, 3, 40, 50))
    window = {"min": 0, "max": 65535, "start": 10, "end": 900.5}
    channels = [
        {"color": "00FF00", "window": window, "label": name, "active": True, "odd": 3} for name in "abc"
    ]
    source = picture(tmp_path / "x.zarr", x, axes="tcyx", omero={"channels": channels})
    target = tmp_path / "y.ome.zarr"
    sp.stream.pyramid(source, target, levels=3, memory="4GiB")
    assert [level(target, number).shape for number in range(3)] == [x.shape, (2, 3, 20, 25), (2, 3, 10, 13)]
    np.testing.assert_array_equal(level(target, 2), np.rint(means(x, (1, 1, 4, 4))))
    assert places(target)[2] == ([3.5, 1.0, 2.0, 2.0], [0.0, 0.0, 0.75, 0.75])
    kept = said(target)["omero"]["channels"]
    assert [channel["label"] for channel in kept] == ["a", "b", "c"]
    assert kept[0]["window"] == window
    assert "odd" not in kept[0]
    for wrong in ({"channels": channels[:1]}, {"channels": [{**channels[0], "color": "green"}] * 3}, 3, None):
        assert rendering_of(wrong, 3) is None


def test_axes_much_coarser_are_left_alone(tmp_path: Path) -> None:
    source, target = picture(tmp_path / "x.zarr", volume((20, 90, 80))), tmp_path / "y.ome.zarr"
    sp.stream.pyramid(source, target, levels=4, isotropic=True, memory="4GiB")
    assert [scale for scale, _ in places(target)] == [
        [2.0, 0.5, 0.5], [2.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]
    ]  # fmt: skip
    assert [translation for _, translation in places(target)][-1] == [101.0, 1.75, 1.75]
    np.testing.assert_array_equal(level(target, 2), np.rint(means(level(target, 0), (1, 4, 4))))


@pytest.mark.parametrize("kind", ["mean", "sample"])
def test_a_blob_lies_at_one_place_in_all_levels(tmp_path: Path, kind: Any) -> None:
    """Its centre of mass, in the units of the axes: what a shift by half a sample would spoil."""
    centre, shape = (61.3, 70.9, 66.2), (128, 144, 136)
    along = [np.exp(-0.5 * ((np.arange(n) - c) / 9.0) ** 2) for n, c in zip(shape, centre, strict=True)]
    blob = np.einsum("i,j,k->ijk", *along).astype(np.float32)
    target = tmp_path / "y.ome.zarr"
    source = picture(tmp_path / "x.zarr", blob)
    sp.stream.pyramid(source, target, levels=4, reduction=kind, memory="4GiB")
    centres = []
    for number, (scale, translation) in enumerate(places(target)):
        x = level(target, number).astype(float)
        grids = np.meshgrid(*[np.arange(n) for n in x.shape], indexing="ij")
        mass = [float((grid * x).sum() / x.sum()) for grid in grids]
        centres.append([m * s + t for m, s, t in zip(mass, scale, translation, strict=True)])
    away = np.abs(np.array(centres) - centres[0]) / places(target)[0][0]
    assert away.max() < 1e-3
    np.testing.assert_allclose(centres[0], [100 + 61.3 * 2, 70.9 / 2, 66.2 / 2], atol=1e-3)


def test_volumes_of_nifti_become_z_y_x(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    x = volume((30, 40, 50), "i2")
    nib.save(nib.Nifti1Image(x, np.diag([2.0, 2.5, 3.0, 1.0]), dtype="i2"), tmp_path / "x.nii")
    target = tmp_path / "y.ome.zarr"
    sp.stream.pyramid(tmp_path / "x.nii", target, levels=2, memory="4GiB")
    np.testing.assert_array_equal(level(target, 0), x.T)
    np.testing.assert_array_equal(level(target, 1), np.rint(means(x.T, (2, 2, 2))))
    assert places(target)[0][0] == [3.0, 2.5, 2.0]
    assert said(target)["multiscales"][0]["axes"][0] == {"name": "z", "type": "space", "unit": "millimeter"}
    np.save(tmp_path / "f.npy", np.asfortranarray(x))  # whose axes have no names: they stay where they are
    sp.stream.pyramid(tmp_path / "f.npy", tmp_path / "f.ome.zarr", levels=2, memory="4GiB")
    np.testing.assert_array_equal(level(tmp_path / "f.ome.zarr", 1), np.rint(means(x, (2, 2, 2))))


def test_stacks_of_tiff_keep_their_spacing(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    x = volume((12, 40, 50))
    spaced = {"spacing": 3.0, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "x.tif", x, imagej=True, resolution=(2.0, 4.0), metadata=spaced)
    sp.stream.filter(tmp_path / "x.tif", tmp_path / "y.ome.zarr", KERNEL, memory="4GiB")
    np.testing.assert_allclose(places(tmp_path / "y.ome.zarr")[0][0], [3.0, 0.25, 0.5])
    assert said(tmp_path / "y.ome.zarr")["multiscales"][0]["axes"][2]["unit"] == "micrometer"
    assert files.read(tmp_path / "x.tif").axes == "ZYX"


def test_what_ome_zarr_does_not_hold_is_refused(tmp_path: Path) -> None:
    source = picture(tmp_path / "x.zarr", volume((4, 9, 8)), axes="zcx")
    with pytest.raises(
        files.FileError, match=r"y.ome.zarr`: an OME-Zarr picture of 4 x 9 x 8 samples: expected"
    ):
        sp.stream.filter(source, tmp_path / "y.ome.zarr", KERNEL)
    with pytest.raises(
        files.FileError, match=r"has 2 or 3 axes, or names for them, not 3 x 3 x 3 x 3 samples"
    ):
        sp.stream.pyramid(np.zeros((3,) * 4), tmp_path / "y.ome.zarr")
    axes = tuple(OmeAxis(name, "space") for name in "zyx")
    one = OmePicture(axes, (1.0,) * 3, (0.0,) * 3)
    assert one.refusal() == ""
    assert "names of their own" in OmePicture((axes[0],) * 3, (1.0,) * 3, (0.0,) * 3).refusal()


def test_metadata_that_are_damaged_are_not_trusted(tmp_path: Path) -> None:
    source = picture(tmp_path / "x.zarr", volume((40, 20, 20)))
    path = source / "zarr.json"
    text = path.read_text()
    for old, new in (('"s0"', '"../../etc"'), ("[2.0, 0.5, 0.5]", f"[{10**400}, 1, 1]"), ("100.0", "NaN")):
        (source / "zarr.json").write_text(json.dumps(json.loads(text)).replace(old, new))
        if old == '"s0"':
            with pytest.raises(ValueError, match=r"is a group of zarr, not an array"):
                sp.stream.plan(source, KERNEL)
            continue
        target = tmp_path / f"y{len(new)}.ome.zarr"
        sp.stream.filter(source, target, KERNEL, memory="4GiB")
        ((scale, translation),) = places(target)
        assert scale in ([1.0] * 3, [2.0, 0.5, 0.5])
        assert translation == [0.0] * 3


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_readers_of_others_take_the_picture(tmp_path: Path, version: str) -> None:
    source, target = picture(tmp_path / "x.zarr", volume(), version), tmp_path / "y.ome.zarr"
    sp.stream.pyramid(source, target, levels=3, kernel=KERNEL, dtype="u2", memory="4GiB")
    models = pytest.importorskip("ome_zarr_models.v05")
    image = models.Image.from_zarr(zarr.open_group(str(target), mode="r"))
    assert len(image.attributes.ome.multiscales[0].datasets) == 3


def test_ngff_zarr_reads_the_picture(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ngff_zarr = pytest.importorskip("ngff_zarr")
        source, target = picture(tmp_path / "x.zarr", volume()), tmp_path / "y.ome.zarr"
        sp.stream.pyramid(source, target, levels=3, memory="4GiB")
        images = ngff_zarr.from_ngff_zarr(str(target), validate=False).images
    assert [image.data.shape for image in images] == [(70, 45, 52), (35, 23, 26), (18, 12, 13)]
    assert images[1].scale == {"z": 4.0, "y": 1.0, "x": 1.0}
    assert images[1].translation == {"z": 101.0, "y": 0.25, "x": 0.25}
    assert set(images[0].axes_units.values()) == {"micrometer"}


# -- killed, and memory ------------------------------------------------------------------------------

_RUN = """
import dataclasses, sys, time
import separable as sp
kernel = sp.families.gaussian([1.0, 1.5, 1.5])
plan = sp.stream.plan(sys.argv[1], kernel, target=sys.argv[2], memory="4GiB", dtype="u2", pyramid=4)
plan = dataclasses.replace(plan, unit=8, overlapped=True)
def tell(done, of):
    print(done, of, flush=True)
    time.sleep(float(sys.argv[3]))
plan.run(progress=tell)
"""


def start(source: Path, target: Path, pause: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _RUN, str(source), str(target), str(pause)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A volume in slabs of 8, whose smaller levels have chunks of many slabs."""
    x = volume((151, 30, 34))
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(8, 16, 16), dimension_names=tuple("zyx"))
    return tmp_path / "x.zarr"


def contents(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_again_and_again_it_is_the_same_to_the_last_byte(large: Path, tmp_path: Path) -> None:
    target, whole = tmp_path / "y.ome.zarr", tmp_path / "z.ome.zarr"
    with start(large, whole, 0.0) as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    done = 0
    for slabs in (2, 5, 1, 4, 3):
        with start(large, target, 0.05) as running:
            assert running.stdout is not None
            lines = [running.stdout.readline() for _ in range(slabs + 1)]
            running.send_signal(signal.SIGKILL)
            running.communicate()
        assert int(lines[0].split()[0]) >= done  # what was finished is not made again
        done = int(lines[0].split()[0])
        assert not (target.with_name("y.ome.zarr.part") / "zarr.json").exists()  # metadata come last
        assert not target.exists()
    assert done >= 8
    with start(large, target, 0.0) as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert contents(target) == contents(whole)
    np.testing.assert_array_equal(level(target, 4), np.rint(means(level(target, 0), (16,) * 3)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr", "y.ome.zarr", "z.ome.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_chunk_that_was_lost_is_made_again_with_all_behind_it(large: Path, tmp_path: Path) -> None:
    target, whole = tmp_path / "y.ome.zarr", tmp_path / "z.ome.zarr"
    with start(large, whole, 0.0) as running:
        running.communicate(timeout=60)
    with start(large, target, 0.05) as running:
        assert running.stdout is not None
        for _ in range(9):
            running.stdout.readline()
        running.send_signal(signal.SIGKILL)
        running.communicate()
    (tmp_path / "y.ome.zarr.part" / "1" / "c" / "1" / "0" / "0").unlink()
    with start(large, target, 0.0) as running:
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert int(out.split()[0]) in (2, 3)
    assert contents(target) == contents(whole)


def test_other_levels_are_refused_by_name(large: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.ome.zarr"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("separable.stream.ome.target.OmeTarget.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            sp.stream.pyramid(large, target, levels=3, memory="4GiB")
    for other in ({"levels": 2}, {"levels": 3, "reduction": "sample"}):
        with pytest.raises(sp.stream.JournalError, match=r"was begun with another levels"):
            sp.stream.pyramid(large, target, memory="4GiB", **other)
    sp.stream.pyramid(large, target, levels=3, memory="4GiB")
    np.testing.assert_array_equal(level(target, 1), np.rint(means(volume((151, 30, 34)), (2,) * 3)))


_PEAK = """
import sys
from pathlib import Path
import separable as sp
kernel = sp.families.gaussian([2.0, 2.0, 2.0])
plan = sp.stream.plan(sys.argv[1], kernel, target=sys.argv[2], memory=sys.argv[3], pyramid=4)
print(plan)
plan.run()
most = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(int(most) * 1024, plan.memory, plan.memory_limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_memory_is_kept_to(tmp_path: Path) -> None:
    shape = (256, 320, 320)
    made = zarr.create_array(str(tmp_path / "x.zarr"), shape=shape, dtype="f4", chunks=(32, 64, 64))
    for n in range(0, shape[0], 32):
        made[n : n + 32] = np.random.default_rng(n).random((32, *shape[1:]), np.float32)
    words = [sys.executable, "-c", _PEAK, str(tmp_path / "x.zarr"), str(tmp_path / "y.ome.zarr"), "340MiB"]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    most, predicted, limit = map(int, out.splitlines()[-1].split())
    assert most <= predicted <= limit
    assert most > predicted // 2  # not promised away
    assert "levels  256x320x320, 128x160x160, 64x80x80, 32x40x40, 16x20x20" in out
