"""What a file says beside its samples: kept where the target holds it, said where not, refused early."""

from __future__ import annotations

import importlib.util
import math
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable import files
from separable.files.formats import tiff_output as tiff_writing

nib = pytest.importorskip("nibabel")
tifffile = pytest.importorskip("tifffile")
PIL = pytest.importorskip("PIL.Image")

Array = np.ndarray[Any, Any]
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">u2", ">f4"]


def samples(shape: tuple[int, ...], dtype: str = "u1", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def written(image: files.Image, path: Path, dtype: str | None = None) -> tuple[files.Image, str]:
    """Write an image as the command line does; return what is read of it, and what was said to be lost."""
    data = image.data if dtype is None else image.data.astype(dtype)
    notes = files.check_storable(image, data.dtype, path)
    files.write(path, replace(image, data=data))
    return files.read(path), " ".join(notes)


def has_imagecodecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def overwritten(path: Path, tag: str, value: bytes) -> Path:
    """Put other bytes into the value of a tag."""
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[tag].valueoffset
    body = bytearray(path.read_bytes())
    body[place : place + len(value)] = value
    path.write_bytes(body)
    return path


def plain_tiff(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, samples((20, 30)), metadata=None, **options)
    return path


# -- what is let through is written ------------------------------------------------------------------


@settings(max_examples=120)
@given(st.data())
def test_what_is_not_refused_before_the_work_is_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    axes = data.draw(
        st.one_of(
            st.integers(0, 8).map("Q".__mul__),
            st.sampled_from(["X", "YX", "YXS", "SYX", "ZYX", "ZYXS", "TZCYX", "XYZT", "IYX", "UYX"]),
        )
    )
    shape = tuple(data.draw(st.sampled_from([1, 2, 3, 4, 5, 7, 0])) for _ in axes)
    steps = tuple(data.draw(st.sampled_from([None, 0.5, 2e-4])) if axis in "XYZ" else None for axis in axes)
    colour = data.draw(st.sampled_from(["", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "5-band"]))
    nodata = data.draw(st.sampled_from([None, -9999.0, math.nan]))
    array = np.asarray(samples(shape, data.draw(st.sampled_from(DTYPES))))
    image = files.Image(array, axes, steps, colour if "S" in axes else "", None, nodata)
    name = data.draw(st.sampled_from(["a.npy", "a.png", "a.jpg", "a.tif", "a.nii", "a.nii.gz"]))
    path = tmp_path_factory.getbasetemp() / f"kept-{name}"
    try:
        files.check_storable(image, array.dtype, path)
    except files.FileError:
        with pytest.raises(files.FileError, match=path.name):
            files.write(path, image)
        return
    files.write(path, image)
    back = files.read(path).data
    if name != "a.jpg":
        expected = np.where(array, 255, 0) if array.dtype == bool and name == "a.tif" else array
        assert np.array_equal(np.sort(back, axis=None), np.sort(expected, axis=None))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.nii"])
def test_empty_images_and_numbers_are_no_pictures(tmp_path: Path, name: str) -> None:
    for array in (np.zeros((0, 5), "u1"), np.array(3, "u1")):
        image = files.Image(array, "Q" * array.ndim, (None,) * array.ndim)
        with pytest.raises(files.FileError, match=rf"{name}`: a .* holds no (empty image|single number)"):
            files.check_storable(image, array.dtype, tmp_path / name)


def test_an_empty_tiff_is_called_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((0, 5), "u1"))
    with pytest.raises(files.FileError, match="holds an empty image"):
        files.read(tmp_path / "a.tif")


# -- tags that are not as they should be -------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_descriptions_in_any_language_stay(tmp_path: Path, encoding: str) -> None:
    path = plain_tiff(tmp_path / "a.tif", description="Größe 5 µm".encode(encoding))
    _, lost = written(files.read(path), tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].description == "Größe 5 µm"
    assert not lost


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_texts_of_other_tags_stay(tmp_path: Path, dtype: str) -> None:
    texts = {270: "a", 306: "2024:01:02 03:04:05", 315: "Åsa", 33432: "© Åsa", 42112: "<GDALMetadata>ü"}
    tags = [(code, "s", 0, text.encode(), True) for code, text in texts.items() if code != 270]
    path = plain_tiff(tmp_path / "a.tif", description="a", extratags=[*tags, (274, "H", 1, 6, True)])
    _, lost = written(files.read(path), tmp_path / "b.tif", dtype)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        found = file.pages[0].tags
        assert {code: found[code].value for code in texts} == texts
        assert found[274].value == 6
    assert not lost


def test_tags_that_are_not_copied_are_named(tmp_path: Path) -> None:
    path = plain_tiff(tmp_path / "a.tif", extratags=[(65000, "H", 1, 7, True)])
    assert "its tag 65000 is not kept" in written(files.read(path), tmp_path / "b.tif")[1]


@pytest.mark.parametrize(
    ("tag", "value", "lost"),
    [
        ("XResolution", struct.pack("<II", 300, 0), "resolution of 300 / 0 by 300 / 1 is no number"),
        ("ResolutionUnit", struct.pack("<H", 9), "unit of resolution 9 is unknown"),
        ("PhotometricInterpretation", struct.pack("<H", 99), "interpretation 99 is unknown"),
    ],
)
def test_values_that_no_writer_takes_are_said(tmp_path: Path, tag: str, value: bytes, lost: str) -> None:
    path = overwritten(plain_tiff(tmp_path / "a.tif", resolution=(300, 300)), tag, value)
    back, said = written(files.read(path), tmp_path / "b.tif")
    assert np.array_equal(back.data, samples((20, 30)))
    assert lost in said


# -- bits --------------------------------------------------------------------------------------------


def packed_tiff(path: Path, values: Array, bits: int) -> Path:
    """Write samples of any number of bits, rows padded to bytes, as the standard says."""
    rows = b"".join(
        int("".join(f"{value:0{bits}b}" for value in row).ljust(-(-values.shape[1] * bits // 8) * 8, "0"), 2)
        .to_bytes(-(-values.shape[1] * bits // 8), "big")
        for row in values.tolist()
    )  # fmt: skip
    height, width = values.shape
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: 1,
        273: 0,
        277: 1,
        278: height,
        279: len(rows),
    }
    start = 8 + 2 + 12 * len(entries) + 4
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for code, value in entries.items():
        head += struct.pack("<HHII", code, 4, 1, start if code == 273 else value)
    path.write_bytes(head + bytes(4) + rows)
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
def test_samples_of_few_bits_are_read_or_what_reads_them_is_named(tmp_path: Path, bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (7, 13))
    path = packed_tiff(tmp_path / "a.tif", values, bits)
    if bits > 1 and not has_imagecodecs():
        with pytest.raises(
            files.FileError, match=rf"a\.tif` stores samples of {bits} bits.*install imagecodecs"
        ):
            files.read(path)
        return
    assert np.array_equal(files.read(path).data, values * 255 if bits == 1 else values)


def test_masks_of_one_bit_are_read_whoever_wrote_them(tmp_path: Path) -> None:
    mask = samples((4, 33, 45)) > 90
    tifffile.imwrite(tmp_path / "stack.tif", mask)
    tifffile.imwrite(tmp_path / "page.tif", mask[0])
    PIL.fromarray(mask[0]).save(tmp_path / "pillow.tif")
    files.write(tmp_path / "ours.tif", files.Image(mask, "ZYX", (None,) * 3))
    for name, expected in (("stack", mask), ("page", mask[0]), ("pillow", mask[0]), ("ours", mask)):
        assert np.array_equal(files.read(tmp_path / f"{name}.tif").data, np.where(expected, 255, 0)), name


def test_colours_of_one_bit_are_refused(tmp_path: Path) -> None:
    image = files.Image(samples((4, 5, 3)) > 90, "YXS", (None,) * 3, "RGB")
    with pytest.raises(files.FileError, match=r"a\.tif`: a TIFF holds no colours of one bit"):
        files.check_storable(image, image.data.dtype, tmp_path / "a.tif")


# -- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["plain", "imagej"])
def test_what_needs_a_bigtiff_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str) -> None:
    data = samples((5, 40, 50), "u2")
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"} if flavour == "imagej" else None
    tifffile.imwrite(
        tmp_path / "a.tif", data, imagej=flavour == "imagej", resolution=(4, 4), metadata=metadata,
        photometric="minisblack",
    )  # fmt: skip
    for limit, big in ((20_000, True), (100_000, False)):
        monkeypatch.setattr(tiff_writing, "_CLASSIC_LIMIT", limit)
        back, lost = written(files.read(tmp_path / "a.tif"), tmp_path / "b.tif")
        assert np.array_equal(back.data, data)
        assert back.spacing == files.read(tmp_path / "a.tif").spacing
        assert ("4 GiB" in lost) == (big and flavour == "imagej")
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            assert file.is_bigtiff == big


@pytest.mark.parametrize("dtype", ["u1", "f4", "?"])
def test_one_axis_stays_one_axis(tmp_path: Path, dtype: str) -> None:
    array = samples((60,), "u1") > 90 if dtype == "?" else samples((60,), dtype)
    back, _ = written(files.Image(array, "Q", (None,)), tmp_path / "a.tif")
    assert np.array_equal(back.data, np.where(array, 255, 0) if dtype == "?" else array)


# -- compression, tiles, pyramids --------------------------------------------------------------------


def test_another_compression_becomes_deflate_and_is_said(tmp_path: Path) -> None:
    PIL.fromarray(samples((20, 30)) > 90).save(tmp_path / "a.tif", compression="packbits")
    _, lost = written(files.read(tmp_path / "a.tif"), tmp_path / "b.tif")
    assert "PACKBITS compression becomes Deflate" in lost
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


@pytest.mark.parametrize(("code", "name"), [(50000, "ZSTD"), (5, "LZW"), (34887, "LERC"), (7, "JPEG")])
def test_what_decodes_is_named_where_it_is_missing(tmp_path: Path, code: int, name: str) -> None:
    path = overwritten(plain_tiff(tmp_path / "a.tif"), "Compression", struct.pack("<H", code))
    with pytest.raises(files.FileError, match=r"a\.tif`") as error:
        files.read(path)
    if not has_imagecodecs():
        assert f"is compressed with {name}" in str(error.value)
        assert "pip install imagecodecs" in str(error.value)


def test_tiles_stay_and_pyramids_are_said(tmp_path: Path) -> None:
    data = samples((130, 200), "u2")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(data, subifds=1, tile=(64, 64))
        file.write(data[::2, ::2], subfiletype=1, tile=(64, 64))
    back, lost = written(files.read(tmp_path / "a.tif"), tmp_path / "b.tif")
    assert np.array_equal(back.data, data)
    assert "its smaller image is not kept" in lost
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].tile == (64, 64)


def test_a_sparse_tiff_is_not_called_damaged(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples((128, 128)), tile=(64, 64), metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = [file.pages[0].tags[name] for name in ("TileOffsets", "TileByteCounts")]
        spans = [(tag.valueoffset, {3: 2, 4: 4}[int(tag.dtype)]) for tag in tags]
        first = file.pages[0].dataoffsets[0]
    body = bytearray((tmp_path / "a.tif").read_bytes())
    for place, size in spans:  # of four tiles the first alone is there
        body[place + size : place + 4 * size] = bytes(3 * size)
    (tmp_path / "a.tif").write_bytes(body[: first + 64 * 64])
    expected = np.zeros((128, 128), "u1")
    expected[:64, :64] = samples((128, 128))[:64, :64]
    assert np.array_equal(files.read(tmp_path / "a.tif").data, expected)


# -- ImageJ, OME, GDAL -------------------------------------------------------------------------------


def imagej_tiff(path: Path, **more: Any) -> Path:
    metadata = {"axes": "TZCYX", "spacing": 2.0, "unit": "µm", "finterval": 0.5, "Labels": ["ä"] * 30}
    data = samples((2, 5, 3, 8, 9), "u2")
    escaped = {**metadata, "unit": "\\u00B5m", "vunit": "Gray Value", "xorigin": 7.0, **more}
    tifffile.imwrite(path, data, imagej=True, resolution=(4.0, 2.0), metadata=escaped)
    return path


def test_all_that_imagej_says_stays(tmp_path: Path) -> None:
    path = imagej_tiff(tmp_path / "a.tif", min=3.0, max=90.0)
    _, lost = written(files.read(path), tmp_path / "b.tif")
    with tifffile.TiffFile(path) as before, tifffile.TiffFile(tmp_path / "b.tif") as after:
        assert after.imagej_metadata == before.imagej_metadata
    assert not lost


@pytest.mark.parametrize("dtype", ["i2", "i4", "f8", "c8"])
def test_imagej_voxels_and_times_stay_in_any_dtype(tmp_path: Path, dtype: str) -> None:
    image = files.read(imagej_tiff(tmp_path / "a.tif"))
    back, lost = written(image, tmp_path / "b.tif", dtype)
    assert np.array_equal(back.data, image.data.astype(dtype))
    assert (back.axes, back.spacing) == (image.axes, pytest.approx((None, 2e-3, None, 0.5e-3, 0.25e-3)))
    assert f"ImageJ holds no samples of {np.dtype(dtype).name}" in lost
    assert "without its Labels, vunit, xorigin" in lost
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert 'TimeIncrement="0.5" TimeIncrementUnit="s"' in file.ome_metadata


@pytest.mark.parametrize("dtype", ["i8", "f2"])
def test_where_nothing_holds_the_voxel_size_that_is_said(tmp_path: Path, dtype: str) -> None:
    back, lost = written(files.read(imagej_tiff(tmp_path / "a.tif")), tmp_path / "b.tif", dtype)
    assert back.axes == "TZCYX"
    assert not any(back.spacing)
    assert "without voxel size" in lost


def ome_tiff(path: Path) -> Path:
    metadata = {
        "axes": "TCYX",
        "Name": "my image",
        "Description": "Größe",
        "PhysicalSizeX": 500.0,
        "PhysicalSizeXUnit": "nm",
        "TimeIncrement": 0.1,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["DAPI", "GFP"]},
        "Plane": {"PositionX": [1.5] * 8, "PositionXUnit": ["µm"] * 8},
    }
    tifffile.imwrite(path, samples((4, 2, 6, 5), "u2"), metadata=metadata)
    return path


@pytest.mark.parametrize(("dtype", "kind"), [("u2", "uint16"), ("f4", "float"), ("f8", "double")])
def test_all_that_ome_says_stays(tmp_path: Path, dtype: str, kind: str) -> None:
    image = files.read(ome_tiff(tmp_path / "a.ome.tif"))
    back, lost = written(image, tmp_path / "b.ome.tif", dtype)
    assert np.array_equal(back.data, image.data.astype(dtype))
    assert (back.axes, back.spacing) == (image.axes, image.spacing)
    assert not lost
    with (
        tifffile.TiffFile(tmp_path / "a.ome.tif") as before,
        tifffile.TiffFile(tmp_path / "b.ome.tif") as after,
    ):
        said = [tifffile.xml2dict(file.ome_metadata)["OME"]["Image"] for file in (before, after)]
    assert said[1]["Pixels"]["Type"] == kind
    for one in said:
        for key in ("Type", "TiffData", "DimensionOrder"):
            del one["Pixels"][key]
    assert said[0] == said[1]
    assert [channel["Name"] for channel in said[1]["Pixels"]["Channel"]] == ["DAPI", "GFP"]


def test_planes_that_ome_lacks_are_said(tmp_path: Path) -> None:
    path = ome_tiff(tmp_path / "a.ome.tif")
    body = path.read_bytes()
    assert body.count(b'PlaneCount="8"') == 1
    path.write_bytes(body.replace(b'PlaneCount="8"', b'PlaneCount="7"'))
    assert "lacks 1 of its 8 planes; taken as 0" in " ".join(files.read(path).notes)


def test_voxels_of_a_nifti_volume_reach_a_tiff(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(samples((4, 5, 6), "i2"), np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "a.nii")
    back, lost = written(files.read(tmp_path / "a.nii"), tmp_path / "b.tif")
    assert (back.axes, back.spacing) == ("ZYX", pytest.approx((4.0, 3.0, 2.0)))
    assert not lost


@pytest.mark.parametrize(
    ("text", "value"),
    [("-9999", -9999.0), ("nan", math.nan), ("-3.4028234663852886e+38", -3.4028234663852886e38)],
)
def test_what_is_no_data_is_known_and_stays(tmp_path: Path, text: str, value: float) -> None:
    tags = [(42113, "s", 0, text, True)]
    tifffile.imwrite(tmp_path / "a.tif", samples((8, 9), "f4"), metadata=None, extratags=tags)
    image = files.read(tmp_path / "a.tif")
    assert image.nodata == pytest.approx(value, rel=0, abs=0, nan_ok=True)
    written(image, tmp_path / "b.tif")
    written(replace(image, nodata=None), tmp_path / "none.tif")
    written(replace(image, nodata=7.5), tmp_path / "other.tif")
    for name, expected in (("b", text), ("none", None), ("other", "7.5")):
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as file:
            tag = file.pages[0].tags.get(42113)
            assert (tag.value if tag is not None else None) == expected


def test_no_data_that_is_no_number_is_said(tmp_path: Path) -> None:
    tags = [(42113, "s", 0, "1.#QNAN", True)]
    tifffile.imwrite(tmp_path / "a.tif", samples((8, 9), "f4"), metadata=None, extratags=tags)
    image = files.read(tmp_path / "a.tif")
    assert image.nodata is None
    assert "calls '1.#QNAN' no data, which is no number" in image.notes[0]


# -- NIfTI, .npy -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 4, 5), bool), "no bool; pass --dtype uint8"),
        (np.ones((2,) * 8, "u1"), r"a\.nii`: a NIfTI file holds volumes of space and time, not 2 x 2"),
    ],
)
def test_what_nifti_does_not_hold_is_refused_by_the_files_name(
    tmp_path: Path, array: Array, message: str
) -> None:
    image = files.Image(array, "Q" * array.ndim, (None,) * array.ndim)
    with pytest.raises(files.FileError, match=message):
        files.check_storable(image, array.dtype, tmp_path / "a.nii")


def test_npy_reads_its_third_header_and_big_numbers_first(tmp_path: Path) -> None:
    for version in ((1, 0), (2, 0), (3, 0)):
        for array in (samples((3, 4), ">f4"), np.asfortranarray(samples((3, 4), "u2")), np.array(5.0)):
            with (tmp_path / "a.npy").open("wb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                np.lib.format.write_array(file, array, version=version)
            back = files.read(tmp_path / "a.npy").data
            assert np.array_equal(back, array)
            assert back.dtype == array.dtype
