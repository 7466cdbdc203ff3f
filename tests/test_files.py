"""Files: what is read and written again, what is refused, and that no target is ever half-written."""

from __future__ import annotations

import errno
import gzip
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
from separable import files
from separable._base.extras import MissingExtraError
from separable.files import guard, target

nib = pytest.importorskip("nibabel")
tifffile = pytest.importorskip("tifffile")
PIL = pytest.importorskip("PIL.Image")

Array = np.ndarray[Any, Any]

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions, links and pipes as POSIX has them")

BRAIN = Path(nib.__file__).parent / "tests" / "data"
NUMBERS = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", ">i2", ">f4"]


def samples(shape: tuple[int, ...], dtype: str = "u1", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def rewritten(source: Path, out: Path) -> files.Image:
    """What comes back after reading `source`, writing it unchanged to `out`, and reading that."""
    files.write(out, files.read(source))
    return files.read(out)


# -- .npy --------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    hnp.arrays(
        st.sampled_from(NUMBERS).map(np.dtype),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    )
)
def test_npy_holds_every_array_of_numbers(tmp_path_factory: pytest.TempPathFactory, array: Array) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npy"
    np.save(path, array)
    back = rewritten(path, path)
    assert back.data.dtype == array.dtype
    assert back.data.tobytes() == array.tobytes()
    assert back.spatial == tuple(range(array.ndim))


def test_npy_keeps_fortran_order_and_reads_its_second_header(tmp_path: Path) -> None:
    path = tmp_path / "f.npy"
    array = np.asfortranarray(samples((3, 4, 5), "f4"))
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    assert np.array_equal(rewritten(path, tmp_path / "g.npy").data, array)


@pytest.mark.parametrize("array", [np.array([1, None]), np.array(["a"]), np.array([(1, 2.0)], "i4,f4")])
def test_npy_refuses_what_is_no_number(tmp_path: Path, array: Array) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(files.FileError, match="not numbers"):
        files.read(tmp_path / "x.npy")


# -- PNG and JPEG ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "colour"),
    [
        ((5, 7), "u1", "L"),
        ((5, 7), "u2", "L"),
        ((5, 7, 2), "u1", "LA"),
        ((5, 7, 3), "u1", "RGB"),
        ((5, 7, 4), "u1", "RGBA"),
    ],
)
def test_png_holds_grey_and_colour(tmp_path: Path, shape: tuple[int, ...], dtype: str, colour: str) -> None:
    array = samples(shape, dtype) * (200 if dtype == "u2" else 1)
    np.save(tmp_path / "x.npy", array)
    back = rewritten(tmp_path / "x.npy", tmp_path / "x.png")
    assert back.data.dtype == array.dtype
    assert np.array_equal(back.data, array)
    assert (back.axes, back.colour, back.spatial) == ("YXS"[: len(shape)], colour, (0, 1))
    assert back.alpha == colour.endswith("A")


def test_palettes_and_bits_become_the_colours_they_stand_for(tmp_path: Path) -> None:
    colours = samples((6, 6, 3))
    palette = PIL.fromarray(colours).quantize(8)
    palette.save(tmp_path / "p.png")
    assert np.array_equal(files.read(tmp_path / "p.png").data, np.array(palette.convert("RGB")))
    palette.save(tmp_path / "t.png", transparency=0)
    assert files.read(tmp_path / "t.png").colour == "RGBA"
    PIL.fromarray(colours[..., 0] > 90).save(tmp_path / "b.png")
    assert set(np.unique(files.read(tmp_path / "b.png").data)) == {0, 255}


def test_profile_and_resolution_stay(tmp_path: Path) -> None:
    PIL.fromarray(samples((8, 8, 3))).save(tmp_path / "a.png", dpi=(300, 150), icc_profile=b"profile")
    for name in ("b.png", "b.jpg"):
        files.write(tmp_path / name, files.read(tmp_path / "a.png"))
        with PIL.open(tmp_path / name) as picture:
            assert picture.info["icc_profile"] == b"profile"
            assert picture.info["dpi"] == pytest.approx((300, 150), abs=0.1)


def test_jpeg_keeps_its_samples_closely_and_its_exif(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(40))[..., np.newaxis] + np.array([0, 40, 90])
    exif = PIL.Exif()
    exif[0x010E] = "a caption"
    PIL.fromarray(smooth.astype("u1")).save(tmp_path / "a.jpg", quality=95, exif=exif)
    before = files.read(tmp_path / "a.jpg")
    after = rewritten(tmp_path / "a.jpg", tmp_path / "b.JPEG")
    assert np.abs(after.data.astype(int) - before.data).max() <= 3
    with PIL.open(tmp_path / "b.JPEG") as picture:
        assert picture.getexif()[0x010E] == "a caption"


def test_cmyk_is_not_taken_for_opacity(tmp_path: Path) -> None:
    PIL.fromarray(np.full((8, 8, 4), 90, "u1"), "RGBA").convert("RGB").convert("CMYK").save(
        tmp_path / "a.jpg"
    )
    image = files.read(tmp_path / "a.jpg")
    assert (image.colour, image.alpha) == ("CMYK", False)
    assert rewritten(tmp_path / "a.jpg", tmp_path / "b.jpg").colour == "CMYK"
    with pytest.raises(files.FileError, match="no CMYK picture"):
        files.write(tmp_path / "b.png", image)


def test_16_bit_colour_is_refused_not_halved(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + b"\1\2" * 6) * 2))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    with pytest.raises(files.FileError, match=r"16-bit colour PNG.*TIFF"):
        files.read(tmp_path / "a.png")


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [PIL.fromarray(samples((4, 4), seed=n)) for n in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(files.FileError, match="animation of 3 frames"):
        files.read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("shape", "dtype", "name", "message"),
    [
        ((5, 7), "f4", "x.png", "holds uint8 or uint16, not float32; pass --dtype uint8"),
        ((5, 7, 3), "u2", "x.png", "holds uint8, not uint16"),
        ((5, 7), "u2", "x.jpg", "holds uint8, not uint16"),
        ((5, 7, 4), "u1", "x.jpg", "a JPEG holds no RGBA picture"),
        ((5, 7, 9), "u1", "x.png", "1 to 4 colours, not 5 x 7 x 9"),
        ((5, 7, 9, 3), "u1", "x.png", "one 2-D picture"),
        ((5, 7, 9, 3), "u1", "x.tif", "not 5 x 7 x 9 x 3 samples without"),
        ((5, 7, 9), "f2", "x.nii", "NIfTI has no float16; pass --dtype float32"),
    ],
)
def test_what_a_format_cannot_hold(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, name: str, message: str
) -> None:
    np.save(tmp_path / "x.npy", samples(shape, dtype))
    image = files.read(tmp_path / "x.npy")
    with pytest.raises(files.FileError, match=message):
        files.check_storable(image, image.data.dtype, tmp_path / name)
    with pytest.raises(files.FileError, match=message):
        files.write(tmp_path / name, image)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


# -- TIFF --------------------------------------------------------------------------------------------


def test_a_stack_of_pages_is_a_volume(tmp_path: Path) -> None:
    stack = samples((6, 9, 11), "u2")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in stack:
            file.write(page, metadata=None, photometric="minisblack", description="mine", contiguous=False)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert np.array_equal(back.data, stack)
    assert (len(back.axes), back.axes[1:], back.spatial) == (3, "YX", (0, 1, 2))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages) == 6
        assert file.pages[0].description == "mine"


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u8", "f4", "f8", "c8"])
def test_tiff_keeps_dtype_compression_and_resolution(tmp_path: Path, dtype: str) -> None:
    options = {"resolution": (1234.5, 600), "resolutionunit": "CENTIMETER", "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", samples((20, 30), dtype), compression="zlib", **options)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert back.data.dtype == np.dtype(dtype)
    assert np.array_equal(back.data, samples((20, 30), dtype))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert page.get_resolution(tifffile.RESUNIT.CENTIMETER) == pytest.approx((1234.5, 600))


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"resolution": (4000, 2000), "resolutionunit": "CENTIMETER"}, (5e-3, 2.5e-3)),  # x is said first
        ({"resolution": (25400, 25400), "resolutionunit": "INCH"}, (1e-3, 1e-3)),
        ({"resolution": (1, 300), "resolutionunit": "INCH"}, (25.4 / 300, 25.4)),
        ({"resolution": (25400, 25400), "resolutionunit": "NONE"}, (None, None)),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, (None, None)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, (None, None)),  # as ImageJ has it
        ({}, (None, None)),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "described", "imagej"])
def test_resolution_tags_are_a_pixel_size_where_they_say_one(
    tmp_path: Path, said: dict[str, Any], steps: tuple[float | None, ...], kind: str
) -> None:
    data = samples((20, 30), "u2")
    form: dict[str, Any] = {
        "plain": {"metadata": None}, "described": {"description": "mine"}, "imagej": {"imagej": True}
    }[kind]  # fmt: skip
    tifffile.imwrite(tmp_path / "a.tif", data, **said, **form)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert back.spacing == pytest.approx(steps)
    with tifffile.TiffFile(tmp_path / "a.tif") as before, tifffile.TiffFile(tmp_path / "b.tif") as after:
        tags = "XResolution", "YResolution", "ResolutionUnit"
        page, own = before.pages[0], after.pages[0]
        assert [own.tags[name].value for name in tags] == [page.tags[name].value for name in tags]
        assert (after.is_ome, after.is_imagej) == (before.is_ome, before.is_imagej)
    files.write(tmp_path / "c.tif", replace(back, data=data.astype("f8")))
    assert files.read(tmp_path / "c.tif").spacing == pytest.approx(steps)  # in dtypes of no other kind


def test_a_map_has_no_pixel_size_of_its_print(tmp_path: Path) -> None:
    scale = (33550, "d", 3, (30.0, 30.0, 0.0), True)
    said: dict[str, Any] = {"resolution": (300, 300), "resolutionunit": "INCH", "extratags": [scale]}
    tifffile.imwrite(tmp_path / "a.tif", samples((20, 30)), **said)
    assert files.read(tmp_path / "a.tif").spacing == (None, None)


def test_imagej_voxels_and_hyperstack_stay(tmp_path: Path) -> None:
    data = samples((2, 5, 3, 8, 9), "u2")  # time, z, channel, y, x
    metadata = {"axes": "TZCYX", "spacing": 2.0, "unit": "um", "finterval": 0.5}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(4.0, 2.0), metadata=metadata)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert np.array_equal(back.data, data)
    assert (back.axes, back.spatial) == ("TZCYX", (1, 3, 4))
    assert back.spacing == pytest.approx((None, 2e-3, None, 0.5e-3, 0.25e-3))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["finterval"] == 0.5
    wide = replace(files.read(tmp_path / "a.tif"), data=data.astype("f8"))  # ImageJ has no float64
    files.write(tmp_path / "c.tif", wide)
    assert files.read(tmp_path / "c.tif").data.dtype == np.float64


def test_ome_voxels_stay(tmp_path: Path) -> None:
    sizes = {"axes": "ZYX", "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", samples((4, 6, 5), "u2"), metadata=sizes)
    back = rewritten(tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert back.spacing == pytest.approx((2e-3, None, 0.5e-3))
    assert np.array_equal(back.data, samples((4, 6, 5), "u2"))


@pytest.mark.parametrize(("planar", "axes"), [("contig", "YXS"), ("separate", "SYX")])
def test_tiff_colours_in_either_layout(tmp_path: Path, planar: str, axes: str) -> None:
    shape = {"YXS": (8, 9, 3), "SYX": (3, 8, 9)}[axes]
    data = samples(shape, "u2")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, metadata=None)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert (back.axes, back.colour, back.alpha) == (axes, "RGB", False)
    assert np.array_equal(back.data, data)
    eight = replace(back, data=back.data.astype("u1"))
    files.write(tmp_path / "c.png", eight)
    assert np.array_equal(
        files.read(tmp_path / "c.png").data, data if axes == "YXS" else data.transpose(1, 2, 0)
    )


@pytest.mark.parametrize(
    ("extras", "colour"), [("unassalpha", "RGBA"), ("assocalpha", "RGBa"), ("unspecified", "RGB+1")]
)
def test_tiff_opacity_is_what_the_file_says(tmp_path: Path, extras: str, colour: str) -> None:
    data = samples((8, 9, 4))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", extrasamples=[extras], metadata=None)
    back = rewritten(tmp_path / "a.tif", tmp_path / "b.tif")
    assert (back.colour, back.alpha) == (colour, colour == "RGBA")
    assert np.array_equal(back.data, data)


def test_geotiff_tags_stay(tmp_path: Path) -> None:
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 1e5, 2e5, 0.0), True),
        (34735, "H", 4, (1, 1, 0, 0), True),
        (42113, "s", 0, "-9999", True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", samples((8, 9), "f4"), metadata=None, extratags=tags)
    files.write(tmp_path / "b.tif", files.read(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        found = file.pages[0].tags
        assert {code: found[code].value for code, *_ in tags} == {
            code: value for code, _, _, value, _ in tags
        }


def test_bits_become_black_and_white(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples((8, 16)) > 90, photometric="minisblack")
    assert np.array_equal(files.read(tmp_path / "a.tif").data, np.where(samples((8, 16)) > 90, 255, 0))


def test_tiffs_that_are_not_one_image_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(samples((8, 9)))
        file.write(samples((4, 5)))
    with pytest.raises(files.FileError, match=r"holds 2 images \(8 x 9, 4 x 5\)"):
        files.read(tmp_path / "two.tif")
    PIL.fromarray(samples((8, 8, 3))).quantize(8).save(tmp_path / "p.tif")
    with pytest.raises(files.FileError, match="palette"):
        files.read(tmp_path / "p.tif")


def test_a_missing_decoder_is_named(tmp_path: Path) -> None:
    PIL.fromarray(samples((8, 8))).save(tmp_path / "a.tif", compression="tiff_lzw")
    try:
        import imagecodecs  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(files.FileError, match=r"LZW.*pip install imagecodecs"):
            files.read(tmp_path / "a.tif")
    else:
        assert np.array_equal(files.read(tmp_path / "a.tif").data, samples((8, 8)))


# -- NIfTI -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz"])
def test_nifti_header_affine_and_samples_stay(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    files.write(out, files.read(BRAIN / name))
    before, after = nib.load(BRAIN / name), nib.load(out)
    assert type(after) is type(before)
    assert np.array_equal(after.affine, before.affine)
    assert np.array_equal(np.asanyarray(after.dataobj), np.asanyarray(before.dataobj))
    free = {"scl_slope", "scl_inter", "vox_offset", "magic"}  # nan and 1 both mean: not scaled
    for field in set(before.header) - free:
        assert np.array_equal(after.header[field], before.header[field]), field
    assert [each.get_code() for each in after.header.extensions] == [
        each.get_code() for each in before.header.extensions
    ]


def test_nifti_extensions_and_orientation_codes_stay(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(samples((4, 5, 6), "i2"), np.diag([2.0, 3.0, 4.0, 1.0]))
    volume.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), code=1)
    volume.set_sform(np.array([[0, 3, 0, 9], [2, 0, 0, 8], [0, 0, 4, 7], [0, 0, 0, 1.0]]), code=4)
    volume.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(volume, tmp_path / "a.nii")
    files.write(tmp_path / "b.nii.gz", files.read(tmp_path / "a.nii"))
    back = nib.load(tmp_path / "b.nii.gz")
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (1, 4)
    assert np.array_equal(back.get_sform(), volume.get_sform())
    assert np.allclose(back.get_qform(), volume.get_qform())
    assert back.header.extensions[0].get_content().rstrip(b"\0") in (b"kept", "kept")


def test_scaled_nifti_comes_as_what_it_stands_for(tmp_path: Path) -> None:
    image = files.read(BRAIN / "functional.nii")  # int16 with a slope and an intercept
    stands_for = nib.load(BRAIN / "functional.nii").get_fdata()
    assert image.data.dtype == np.float32
    assert np.allclose(image.data, stands_for, rtol=1e-6)
    assert np.allclose(rewritten(BRAIN / "functional.nii", tmp_path / "f.nii").data, stands_for, rtol=1e-6)
    assert (image.axes, image.spatial) == ("XYZT", (0, 1, 2))


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1.0), ("meter", 1e3), ("micron", 1e-3), ("unknown", 1.0)]
)
def test_nifti_voxel_size_is_in_millimetres(tmp_path: Path, unit: str, factor: float) -> None:
    volume = nib.Nifti1Image(samples((4, 5, 6, 2), "i2"), np.diag([-2.0, 3.0, 4.0, 1.0]))
    volume.header.set_xyzt_units(unit)
    nib.save(volume, tmp_path / "a.nii")
    spacing = files.read(tmp_path / "a.nii").spacing
    assert spacing == pytest.approx((2 * factor, 3 * factor, 4 * factor, None))


def test_nifti_kinds_that_are_no_volume_of_numbers_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(files.FileError, match="not numbers"):
        files.read(tmp_path / "rgb.nii")
    with pytest.raises(files.FileError, match="Cifti2Image, not a NIfTI"):
        files.read(BRAIN / "row_major.dconn.nii")


# -- from one format to another ----------------------------------------------------------------------


def test_volumes_change_format_with_their_axes_and_voxels(tmp_path: Path) -> None:
    data = samples((5, 6, 7), "u2")  # z, y, x
    metadata = {"axes": "ZYX", "spacing": 4.0, "unit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(0.5, 1 / 3), metadata=metadata)
    volume = rewritten(tmp_path / "a.tif", tmp_path / "a.nii.gz")
    assert np.array_equal(volume.data, data.T)
    assert (volume.axes, volume.spacing) == ("XYZ", pytest.approx((2.0, 3.0, 4.0)))
    assert nib.load(tmp_path / "a.nii.gz").header.get_xyzt_units()[0] == "mm"
    back = rewritten(tmp_path / "a.nii.gz", tmp_path / "b.tif")
    assert np.array_equal(back.data, data)
    assert np.array_equal(rewritten(tmp_path / "a.nii.gz", tmp_path / "a.npy").data, data.T)


def test_pictures_change_format(tmp_path: Path) -> None:
    PIL.fromarray(samples((8, 9, 4))).save(tmp_path / "a.png")
    back = rewritten(tmp_path / "a.png", tmp_path / "a.tif")
    assert (back.axes, back.colour) == ("YXS", "RGBA")
    assert np.array_equal(back.data, samples((8, 9, 4)))
    for array, axes in (
        (samples((5, 6, 3)), "YXS"),
        (samples((5, 6, 3), "f4"), "ZYX"),
        (samples((5, 6)), "YX"),
    ):
        np.save(tmp_path / "x.npy", array)
        image = rewritten(tmp_path / "x.npy", tmp_path / "x.tif")
        assert len(image.spatial) == (2 if "S" in axes else array.ndim)
        assert np.array_equal(image.data, array)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("a.nii", "x.png", "one 2-D picture, not 4 x 5 x 6 samples with a z axis"),
        ("a.png", "x.nii", "volumes of space and time, not 8 x 9 x 3 samples with a colour axis"),
    ],
)
def test_axes_that_a_format_does_not_know(tmp_path: Path, source: str, name: str, message: str) -> None:
    nib.save(nib.Nifti1Image(samples((4, 5, 6), "u1"), np.eye(4)), tmp_path / "a.nii")
    PIL.fromarray(samples((8, 9, 3))).save(tmp_path / "a.png")
    with pytest.raises(files.FileError, match=message):
        files.write(tmp_path / name, files.read(tmp_path / source))


# -- damaged files -----------------------------------------------------------------------------------


def whole_files(folder: Path) -> dict[str, bytes]:
    stack = samples((6, 20, 30), "u2")
    np.save(folder / "a.npy", stack)
    PIL.fromarray(samples((40, 50, 3))).save(folder / "a.png")
    PIL.fromarray(samples((40, 50, 3))).save(folder / "a.jpg")
    tifffile.imwrite(folder / "a.tif", stack, photometric="minisblack")
    tifffile.imwrite(folder / "b.tif", stack, photometric="minisblack", compression="zlib")
    nib.save(nib.Nifti1Image(stack, np.eye(4)), folder / "a.nii")
    nib.save(nib.Nifti1Image(stack, np.eye(4)), folder / "a.nii.gz")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_files_cut_short_are_named(tmp_path: Path, share: float) -> None:
    for name, whole in whole_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(files.FileError, match=name):
            files.read(path)


@pytest.mark.filterwarnings("ignore")  # what a decoder warns of in a damaged file is not ours
@settings(max_examples=60)
@given(st.data())
def test_flipped_bytes_are_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    if not (folder / "a.npy").exists():
        whole_files(folder)
    name = data.draw(st.sampled_from(["a.npy", "a.png", "a.jpg", "a.tif", "b.tif", "a.nii", "a.nii.gz"]))
    damaged = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged), 500) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"damaged-{name}"
    path.write_bytes(damaged)
    try:
        image = files.read(path)
    except files.FileError:  # any other error is a failure
        return
    assert image.data.ndim == len(image.axes) == len(image.spacing)


def huge_headers(folder: Path) -> list[Path]:
    with (folder / "h.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**6,) * 3}
        )
    header = nib.Nifti2Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((10**6,) * 3)
    header["vox_offset"], header["magic"] = 544, b"n+2\0\r\n\032\n"
    (folder / "h.nii").write_bytes(header.binaryblock + bytes(64))
    (folder / "h.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(64)))
    return [folder / name for name in ("h.npy", "h.nii", "h.nii.gz")]


def test_no_memory_is_taken_on_the_word_of_a_header(tmp_path: Path) -> None:
    for path in huge_headers(tmp_path):
        with pytest.raises(files.FileError, match=r"1000000 x 1000000 x 1000000 float64 \(6\.9"):
            files.read(path)
    huge = tmp_path / "h.tif"
    tifffile.imwrite(huge, shape=(4, 5), dtype="u1", photometric="minisblack")
    body = bytearray(huge.read_bytes())
    with tifffile.TiffFile(huge) as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        body[place : place + 4] = struct.pack("<I", 10**6)
    huge.write_bytes(body)
    with pytest.raises(files.FileError, match=r"h\.tif"):
        files.read(huge)


@pytest.mark.parametrize("version", [2, 3])
def test_no_memory_is_taken_for_a_header_either(tmp_path: Path, version: int) -> None:
    path = tmp_path / "h.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", 2**32 - 1) + b"{'descr': '<f8', ")
    with pytest.raises(files.FileError, match=r"h\.npy` is damaged: it says that its header has 4 GiB"):
        files.read(path)


def test_running_out_of_memory_names_the_file(tmp_path: Path) -> None:
    def fail() -> None:
        with guard.reading(tmp_path / "a.npy", "NumPy .npy"):
            raise MemoryError("Unable to allocate 7 GiB")

    with pytest.raises(MemoryError, match=r"a\.npy` does not fit: Unable to allocate 7 GiB"):
        fail()


def test_more_than_the_machine_holds_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", samples((100, 100), "f8"))
    monkeypatch.setattr(guard, "physical_memory", lambda: 50_000)
    with pytest.raises(files.FileError, match=r"does not fit: .* this machine has 48\.83 KiB"):
        files.read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (3 << 29, "1.5 GiB"), (10**24, "8.674e+05 EiB")],
)
def test_bytes_as_people_write_them(count: int, text: str) -> None:
    assert guard.human_bytes(count) == text


def test_missing_empty_and_unknown_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "e.npy").touch()
    (tmp_path / "d.npy").mkdir()
    for name, message in (
        ("no.npy", "does not exist"),
        ("e.npy", "is empty"),
        ("d.npy", "cannot be read"),
        ("x.gif", "no suffix of a known format; expected one of .npy .png"),
        ("npy", "no suffix"),
    ):
        with pytest.raises(files.FileError, match=message):
            files.read(tmp_path / name)


@pytest.mark.parametrize(("module", "name"), [("nibabel", "a.nii"), ("PIL", "a.png"), ("tifffile", "a.tif")])
def test_a_missing_package_is_told_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"not empty")
    monkeypatch.setitem(sys.modules, module, None)
    image = files.Image(samples((4, 5)), "QQ", (None, None))
    with pytest.raises(MissingExtraError, match=r"pip install 'separable\[files\]'$"):
        files.read(tmp_path / name)
    with pytest.raises(MissingExtraError, match=r"pip install 'separable\[files\]'$"):
        files.write(tmp_path / name, image)
    assert (tmp_path / name).read_bytes() == b"not empty"


def test_importing_files_imports_no_decoder() -> None:
    code = (
        "import sys, separable.files; "
        "print({'PIL', 'tifffile', 'nibabel', 'scipy', 'matplotlib', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- targets -----------------------------------------------------------------------------------------


def write_half(path: Path, failure: BaseException) -> None:
    with target.replacing(path) as beside:
        beside.write_bytes(b"half")
        raise failure


def test_a_failed_write_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"before")
    for failure in (OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit(143)):
        with pytest.raises(type(failure)):
            write_half(path, failure)
    assert [each.name for each in tmp_path.iterdir()] == ["a.npy"]
    assert path.read_bytes() == b"before"


@POSIX
def test_a_target_keeps_its_permissions_and_a_link_its_place(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.npy", tmp_path / "link.npy"
    np.save(real, samples((3,)))
    real.chmod(0o640)
    link.symlink_to(real)
    files.write(link, replace(files.read(link), data=samples((5,))))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert files.read(real).data.shape == (5,)


@POSIX
def test_a_new_target_has_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a.npy", files.Image(samples((3,)), "Q", (None,)))
    finally:
        os.umask(before)
    assert (tmp_path / "a.npy").stat().st_mode & 0o777 == 0o640


@POSIX
def test_targets_that_cannot_be_written_are_refused_early(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "d.npy").mkdir()
    os.mkfifo(tmp_path / "f.npy")
    np.save(tmp_path / "a.npy", samples((3,)))
    for name, message in (
        ("no/a.npy", "the directory .*no` does not exist"),
        ("d.npy", "it is a directory"),
        ("f.npy", "not a regular file"),
        ("a.gif", "no suffix"),
    ):
        with pytest.raises(files.FileError, match=message):
            files.check_target(tmp_path / name)
    # The tests may run as root, whom the system refuses nothing.
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a.npy" and real(path, mode))
    with pytest.raises(files.FileError, match="read-only"):
        files.check_target(tmp_path / "a.npy")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(files.FileError, match="no permission to write"):
        files.check_target(tmp_path / "b.npy")


# -- filtering an image ------------------------------------------------------------------------------


def image_of(data: Array, axes: str, colour: str = "") -> files.Image:
    return files.Image(data, axes, (None,) * data.ndim, colour)


@settings(max_examples=40)
@given(st.data())
def test_filtering_by_frames_is_filtering_the_array(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    order = data.draw(st.permutations(range(len(shape))))
    dtype = data.draw(st.sampled_from(["u1", "i2", "f4", "f8", ">i2", "c8"]))
    array = samples(shape, dtype, seed=data.draw(st.integers(0, 9))).transpose(order)
    axes = data.draw(st.lists(st.sampled_from(range(array.ndim)), min_size=1, unique=True).map(sorted))
    kernel = sp.families.gaussian((0.8,) * len(axes))
    mode = data.draw(st.sampled_from(["reflect", "constant", "wrap"]))
    setting = files.FilterOptions(axes=tuple(axes), mode=mode, cval=3.0)
    steps: list[tuple[int, int]] = []
    result, plan = files.filtered(
        image_of(array, "Q" * array.ndim), kernel, setting, progress=lambda *step: steps.append(step)
    )
    stored = files.result_dtype(array.dtype)
    expected = sp.correlate(array, kernel, axes=axes, mode=mode, cval=3.0, output=stored)
    assert result.data.dtype == stored
    # Passes start from the axis that lies along memory, so another layout may round another way.
    difference = np.abs(np.subtract(result.data, expected, dtype="c16")).max()
    limit = 1 if stored.kind in "iu" else 1e-5 if stored.itemsize == 4 or stored == "c8" else 1e-12
    assert difference <= limit * max(1, float(np.abs(expected).max()) if stored.kind not in "iu" else 1)
    assert plan.taps == kernel.shape
    assert steps == [(n, len(steps) - 1) for n in range(len(steps))]


def test_integers_stay_and_saturate_others_are_floats() -> None:
    data = np.array([[0, 255], [255, 0]], "u1")
    sharper = sp.SeparableKernel([[[3.0], [1.0]]])
    setting = files.FilterOptions(axes=(0, 1))
    assert np.array_equal(files.filtered(image_of(data, "YX"), sharper, setting)[0].data, data)
    wide = files.filtered(image_of(data, "YX"), sharper, setting, np.dtype("i2"))[0].data
    assert np.array_equal(wide, 3 * data.astype("i2"))
    for dtype, expected in {"?": "f4", "f2": "f4", "f8": "f8", "u4": "u4", ">i2": "i2", "c8": "c8"}.items():
        assert files.result_dtype(np.dtype(dtype)) == np.dtype(expected)


def test_frames_are_filtered_in_the_memory_order_of_the_volume() -> None:
    volume = np.asfortranarray(samples((4, 5, 6, 7), "i2"))
    seen: list[tuple[int, int]] = []
    result, _ = files.filtered(
        image_of(volume, "XYZT"),
        sp.families.box((3, 3, 3)),
        files.FilterOptions(axes=(0, 1, 2)),
        progress=lambda *step: seen.append(step),
    )
    assert result.data.flags.f_contiguous
    assert seen == [(n, 7) for n in range(8)]


def test_what_is_transparent_does_not_bleed() -> None:
    data = np.zeros((9, 9, 4), "u1")
    data[:, :4] = 200, 100, 50, 255  # a colour; beside it green that nobody sees
    data[:, 4:] = 0, 255, 0, 0
    blur = sp.families.gaussian((1.0, 1.0))
    result, _ = files.filtered(image_of(data, "YXS", "RGBA"), blur, files.FilterOptions(axes=(0, 1)))
    seen = result.data[..., 3] > 0
    assert np.abs(result.data[seen][:, :3].astype(int) - [200, 100, 50]).max() <= 1
    alone = sp.correlate(data[..., 3], blur, output="u1")
    assert np.array_equal(result.data[..., 3], alone)


def test_opacity_outside_is_full_and_opaque_pictures_are_ordinary() -> None:
    data = samples((7, 8, 4))
    data[..., 3] = 255
    blur = sp.families.box((3, 3))
    setting = files.FilterOptions(axes=(0, 1), mode="constant", cval=40.0)
    result, _ = files.filtered(image_of(data, "YXS", "RGBA"), blur, setting)
    expected = sp.correlate(data[..., :3], blur, axes=(0, 1), mode="constant", cval=40.0, output="f4")
    assert np.abs(result.data[..., :3] - expected).max() <= 0.51
    assert (result.data[..., 3] == 255).all()


def test_other_kernels_leave_opacity_alone() -> None:
    data = samples((7, 8, 2))
    edges = sp.families.sobel(0)
    result, _ = files.filtered(
        image_of(data, "YXS", "LA"), edges, files.FilterOptions(axes=(0, 1)), np.dtype("f4")
    )
    assert np.array_equal(result.data[..., 1], data[..., 1])
    assert np.allclose(result.data[..., 0], sp.correlate(data[..., 0], edges), atol=1e-3)
    dense, _ = files.filtered(
        image_of(data, "YXS", "LA"), np.ones((3, 3)) / 9, files.FilterOptions(axes=(0, 1))
    )
    assert not np.array_equal(dense.data[..., 1], data[..., 1])
    with pytest.raises(ValueError, match="colours and opacity, which do not mix"):
        files.filtered(image_of(data, "YXS", "LA"), np.ones(3), files.FilterOptions(axes=(2,)))
